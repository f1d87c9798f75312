"""Captioners whose words are GPT-2's byte pairs or BERT's word pieces."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from piece_files import byte_pair_files, word_piece_files

import distgan
from distgan.config import load_config
from distgan.engine.world import World
from distgan.methods import CONFIGS
from distgan.methods.training import train

KINDS = {"byte_pairs": (byte_pair_files, 256 + 3), "word_pieces": (word_piece_files, 3 + 52 + 1)}


@pytest.mark.parametrize("key", KINDS)
def test_a_captioner_of_pieces_trains_and_says_what_it_learned(
    shapes: Path, tmp_path: Path, key: str
) -> None:
    files: Callable[[Path], Path] = KINDS[key][0]
    given = [f"data.path={shapes}", f"data.{key}={files(tmp_path / 'files')}"]
    config = load_config(
        Path(__file__).with_name("tiny.yaml"),
        [*given, "stages=[adversarial]", "log.pictures_every=100"],
        methods=CONFIGS,
    )
    run = tmp_path / "run"
    assert train(config, run, World.local(), resume=False).finished
    captioner = distgan.load(run)
    assert len(captioner.vocabulary) == 4 + KINDS[key][1]
    assert captioner.vocabulary.state()["kind"] == key
    images = torch.zeros(2, 3, 32, 32, dtype=torch.uint8)
    assert all(isinstance(said, str) for said in captioner.caption(images, "positive"))
    assert (
        captioner.vocabulary.decode(captioner.vocabulary.encode("a red star", 12)) == "a red star"
    )
    assert list((run / "pictures").glob("captions-*.png")), "pieces have names to draw"


def test_two_tokenisers_are_one_too_many(shapes: Path) -> None:
    with pytest.raises(ValueError, match=r"data\.word_pieces=b: byte_pairs=a is set too"):
        load_config(
            Path(__file__).with_name("tiny.yaml"),
            [f"data.path={shapes}", "data.byte_pairs=a", "data.word_pieces=b"],
            methods=CONFIGS,
        )
