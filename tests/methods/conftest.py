"""A tiny dataset of shapes, made once."""

from __future__ import annotations

from pathlib import Path

import pytest

from distgan.data.importers.shapes import Shapes
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
