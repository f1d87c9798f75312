"""A captioner whose words are GPT-2's byte pairs, from files made on the spot."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from tokenizers.pre_tokenizers import ByteLevel

import distgan
from distgan.config import load_config
from distgan.engine.world import World
from distgan.methods import CONFIGS
from distgan.methods.training import train


def byte_pair_files(folder: Path) -> Path:
    """Every byte, and ` red` in two merges."""
    characters = sorted(ByteLevel.alphabet())
    merges = ["Ġ r", "Ġr e", "Ġre d"]
    pieces = [*characters, *(merge.replace(" ", "") for merge in merges)]
    folder.mkdir()
    (folder / "vocab.json").write_text(json.dumps({p: i for i, p in enumerate(pieces)}))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]))
    return folder


def test_a_captioner_of_byte_pairs_trains_and_says_what_it_learned(shapes, tmp_path):
    tokens = byte_pair_files(tmp_path / "gpt2")
    config = load_config(
        Path(__file__).with_name("tiny.yaml"),
        [f"data.path={shapes}", f"data.byte_pairs={tokens}", "log.pictures_every=2"],
        methods=CONFIGS,
    )
    run = tmp_path / "run"
    assert train(config, run, World.local(), resume=False).finished
    captioner = distgan.load(run)
    assert len(captioner.vocabulary) == 4 + 256 + 3
    images = torch.zeros(2, 3, 32, 32, dtype=torch.uint8)
    assert all(isinstance(said, str) for said in captioner.caption(images, "positive"))
    assert (
        captioner.vocabulary.decode(captioner.vocabulary.encode("a red star", 12)) == "a red star"
    )
    assert list((run / "pictures").glob("captions-*.png")), "pieces have names to draw"
