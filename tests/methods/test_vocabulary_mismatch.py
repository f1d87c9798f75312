"""A checkpoint belongs to its vocabulary: resuming or starting with another one names the words."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from piece_files import byte_pair_files

import distgan
from distgan.config import load_config
from distgan.data.dataset import Dataset
from distgan.data.importers.shapes import Shapes
from distgan.data.shapes.world import ShapesOptions
from distgan.data.shards import WriteOptions, write_dataset
from distgan.engine.world import World
from distgan.methods import CONFIGS
from distgan.methods.training import train

OPTIONS = ShapesOptions(images=24, size=32, styled=6, lines=20, unlabelled=4, val=4, test=4)


def prepared(out: Path, min_count: int) -> Path:
    assert write_dataset(
        Shapes(OPTIONS), {"name": "shapes"}, out, WriteOptions(min_count=min_count)
    )
    return out


def run(out: Path, data: Path, *overrides: str, resume: bool = False) -> bool:
    given = [f"data.path={data}", "stages=[factual]", *overrides]
    config = load_config(Path(__file__).with_name("tiny.yaml"), given, methods=CONFIGS)
    return train(config, out, World.local(), resume=resume).finished


def test_another_vocabulary_is_refused_by_its_first_words(tmp_path: Path) -> None:
    whole, short = prepared(tmp_path / "whole", 1), prepared(tmp_path / "short", 9)
    its, own = (Dataset.open(path).vocabulary for path in (whole, short))
    assert Dataset.open(whole).digest == Dataset.open(short).digest, "the same samples"
    assert len(its) > len(own)
    assert run(tmp_path / "run", whole)
    first = len(own)
    said = f"it has {len(its)} words, this run {first}; from number {first} on "
    said += f"it has {its.name(first)!r}, .*this run no more"
    with pytest.raises(
        ValueError, match=f"cannot resume: its vocabulary is not this run's: {said}"
    ):
        run(tmp_path / "run", short, resume=True)
    with pytest.raises(ValueError, match=f"init_from=.*: its vocabulary is not this run's: {said}"):
        run(tmp_path / "other", short, f"init_from={tmp_path / 'run'}")
    tokens = f"data.byte_pairs={byte_pair_files(tmp_path / 'gpt2')}"
    with pytest.raises(ValueError, match="it has words, this run has byte_pairs"):
        run(tmp_path / "run", whole, tokens, resume=True)
    assert run(tmp_path / "run", whole, resume=True), "the checkpoint was left as it was"


def test_a_captioner_speaks_its_own_words_whatever_lies_at_the_data(tmp_path: Path) -> None:
    data = prepared(tmp_path / "data", 1)
    words = Dataset.open(data).vocabulary
    assert run(tmp_path / "run", data)
    shutil.rmtree(data)
    captioner = distgan.load(tmp_path / "run")
    assert captioner.vocabulary.state() == words.state()
    assert captioner.caption(torch.zeros(1, 3, 32, 32, dtype=torch.uint8), "positive")
