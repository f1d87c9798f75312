"""One Ray cluster for each file of tests."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from ray_cluster import Cluster


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    # Not pytest's folder: paths of Unix sockets must be short.
    with tempfile.TemporaryDirectory(prefix="dg", ignore_cleanup_errors=True) as folder:
        started = Cluster(Path(folder))
        try:
            started.wait()
            yield started
        finally:
            started.stop()
