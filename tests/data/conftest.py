"""Datasets written from made-up samples."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from made_up_samples import Numbers

from distgan.data.shards import WriteOptions, write_dataset


@pytest.fixture
def written(tmp_path: Path) -> Callable[..., Path]:
    """Writes a dataset of Numbers and returns its folder."""

    def write(name: str = "numbers", shard_samples: int = 10, **counts: int) -> Path:
        importer = Numbers(counts) if counts else Numbers()
        options = WriteOptions(shard_samples=shard_samples)
        assert write_dataset(importer, {"name": "numbers"}, tmp_path / name, options)
        return tmp_path / name

    return write
