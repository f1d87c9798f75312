"""Decoding on a GPU is refused where there is none, before anything is trained."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_captioning import tiny

from distgan.engine.world import World
from distgan.methods.training import check_decoder, train


def test_decoding_on_a_gpu_needs_one(shapes: Path, tmp_path: Path) -> None:
    config = tiny(shapes, "data.decode=gpu")
    check_decoder(config, "cuda")
    with pytest.raises(ValueError, match=r"data\.decode=gpu needs a GPU, but the run's device is"):
        train(config, tmp_path / "run", World.local(), resume=False)
    with pytest.raises(ValueError, match=r"data\.decode must be one of cpu, gpu, got 'tpu'"):
        tiny(shapes, "data.decode=tpu")
    with pytest.raises(ValueError, match="decode=gpu: features=mine leave no image to decode"):
        tiny(shapes, "data.decode=gpu", "data.features=mine")
