"""Images decoded by the GPU are those of the CPU, a few grey levels apart."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from distgan.config import load_config
from distgan.data.damage import UnreadableImage
from distgan.data.device_images import decode_files
from distgan.data.images import decode
from distgan.data.importers.shapes import Shapes
from distgan.data.shapes.world import ShapesOptions
from distgan.data.shards import WriteOptions, write_dataset
from distgan.data.sources import as_file
from distgan.engine.world import World
from distgan.methods import CONFIGS
from distgan.methods.training import train

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"),
]
TINY = Path(__file__).resolve().parents[1] / "methods/tiny.yaml"


def jpeg(seed: int, size: tuple[int, int]) -> bytes:
    small = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    data = io.BytesIO()
    Image.fromarray(small).resize(size, Image.Resampling.BICUBIC).save(data, "JPEG", quality=92)
    return data.getvalue()


def test_the_gpu_decodes_what_the_cpu_decodes() -> None:
    files = [jpeg(seed, (320 + seed, 240)) for seed in range(6)]
    images = decode_files([as_file(data) for data in [*files, files[0][:900]]], 112, _gpu())
    assert isinstance(images[-1], UnreadableImage)
    for data, image in zip(files, images, strict=False):
        assert isinstance(image, torch.Tensor) and image.device.type == "cuda"
        assert (image.cpu().float() - decode(data, 112).float()).abs().mean() < 2


@pytest.mark.parametrize("learns", [True, False])
def test_a_run_decodes_on_the_gpu(tmp_path: Path, learns: bool) -> None:
    options = ShapesOptions(images=24, size=32, styled=8, lines=8, unlabelled=0, val=4, test=4)
    encoding = replace(WriteOptions(), encode="jpg")
    assert write_dataset(Shapes(options), {"name": "shapes"}, tmp_path / "data", encoding)
    settings = [f"data.path={tmp_path / 'data'}", "data.decode=gpu", "engine.device=cuda"]
    if not learns:
        from distgan.models.encoders import ShapesCNN

        torch.save(ShapesCNN().state_dict(), tmp_path / "cnn.pt")
        settings += ["method.encoder.learns=false", f"method.encoder.weights={tmp_path}/cnn.pt"]
    config = load_config(TINY, settings, methods=CONFIGS)
    assert train(config, tmp_path / "run", World.local(_gpu()), resume=False).finished


def _gpu() -> torch.device:
    return torch.device("cuda", 0)
