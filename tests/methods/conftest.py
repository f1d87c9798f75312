"""Tiny datasets, made once."""

from __future__ import annotations

from pathlib import Path

import pytest

from distgan.data.importers.shapes import Shapes
from distgan.data.samples import Sample
from distgan.data.shapes.world import ShapesOptions
from distgan.data.shards import WriteOptions, write_dataset


@pytest.fixture(scope="session")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """48 images with factual captions, 12 and 40 lines in each style, 8 to validate."""
    options = ShapesOptions(
        images=48, size=32, styled=12, lines=40, unlabelled=6, val=8, test=4, captions=2
    )
    out = tmp_path_factory.mktemp("data") / "shapes"
    assert write_dataset(Shapes(options), {"name": "shapes"}, out, WriteOptions())
    return out


class Plain:
    """Shapes without any style."""

    splits = ("train",)

    def __init__(self) -> None:
        self._shapes = Shapes(ShapesOptions(images=9, size=32, styled=0, lines=0, captions=2))

    def num_samples(self, split: str) -> int:
        return self._shapes.num_samples(split)

    def sample(self, split: str, number: int) -> Sample:
        return self._shapes.sample(split, number)

    def texts(self) -> dict[str, list[str]]:
        return {}


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """9 images with factual captions, no styles."""
    out = tmp_path_factory.mktemp("data") / "plain"
    assert write_dataset(Plain(), {"name": "plain"}, out, WriteOptions())
    return out
