"""Preparing a dataset on a real Ray cluster gives the bytes that processes give."""

from __future__ import annotations

import hashlib
import signal
from pathlib import Path

import pytest
from ray_cluster import ROOT, Cluster, ended, until

pytest.importorskip("ray")
pytestmark = [pytest.mark.ray, pytest.mark.slow]

PREPARE = ROOT / "launch/prepare.py"
SHAPES = ["shapes", "--images", 1500, "--val", 10, "--test", 10, "--unlabelled", 10, "--styled", 5]
SHAPES += ["--lines", 10, "--size", 96, "--shorter", 80, "--quality", 90, "--shard-samples", 10]

MISTAKEN = """
import sys
from dataclasses import replace
from pathlib import Path
from distgan.cluster.prepare import on_cluster
from distgan.data.importers.shapes import Shapes, ShapesOptions
from distgan.data.shards import WriteOptions, write_dataset

class Mistaken(Shapes):
    def sample(self, split, i):
        sample = super().sample(split, i)
        return sample if i != 13 else replace(sample, extension="gif")

importer = Mistaken(ShapesOptions(images=20, styled=0, lines=1, unlabelled=0, val=0, test=0))
options = WriteOptions(shard_samples=4)
try:
    write_dataset(importer, {}, Path(sys.argv[1]), options, write_pieces=on_cluster())
except ValueError as error:
    print("refused:", error)
"""


def contents(root: Path) -> dict[str, str]:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files
    }


@pytest.fixture(scope="module")
def expected(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    out = tmp_path_factory.mktemp("processes") / "shapes"
    said, code = ended(cluster.run(PREPARE, *SHAPES, "--out", out, "--jobs", 2))
    assert code == 0, said
    return contents(out)


def test_tasks_write_what_processes_write(
    cluster: Cluster, expected: dict[str, str], tmp_path: Path
) -> None:
    out = tmp_path / "shapes"
    said, code = ended(cluster.run(PREPARE, *SHAPES, "--out", out, "--ray"))
    assert code == 0, said
    assert "1,540 of 1,540 samples" in said
    assert contents(out) == expected


def test_a_stopped_driver_leaves_shards_to_go_on_from(
    cluster: Cluster, expected: dict[str, str], tmp_path: Path
) -> None:
    out, rows = tmp_path / "shapes", tmp_path / "shapes.partial/rows"

    def stop_at(count: int, how: signal.Signals) -> tuple[str, int]:
        run = cluster.run(PREPARE, *SHAPES, "--out", out, "--ray")
        until(lambda: len(list(rows.glob("*.parquet"))) >= count, run)
        run.send_signal(how)
        said, code = ended(run)
        assert not out.exists()
        return said, code

    said, code = stop_at(4, signal.SIGINT)
    assert code == 130 and "the same command goes on from here" in said, said
    times = {path: path.stat().st_mtime_ns for path in rows.glob("*.parquet")}
    stop_at(len(times) + 4, signal.SIGKILL)
    assert {path: path.stat().st_mtime_ns for path in times} == times
    said, code = ended(cluster.run(PREPARE, *SHAPES, "--out", out, "--ray"))
    assert code == 0, said
    assert contents(out) == expected


def test_a_mistake_is_told_with_its_node(cluster: Cluster, tmp_path: Path) -> None:
    said, code = ended(cluster.run("-c", MISTAKEN, tmp_path / "x"))
    assert code == 0, said
    assert "refused: train-000003.tar: on node " in said
    assert "train-000013: extension 'gif' is none of" in said
    assert "Traceback" not in said
