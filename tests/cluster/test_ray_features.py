"""Feature shards made on a real Ray cluster are those that processes make."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from ray_cluster import ROOT, Cluster, ended

from distgan.data.importers.shapes import Shapes
from distgan.data.shapes.world import ShapesOptions
from distgan.data.shards import WriteOptions, write_dataset
from distgan.models.encoders import ShapesCNN

pytest.importorskip("ray")
pytestmark = [pytest.mark.ray, pytest.mark.slow]

PREPARE = ROOT / "launch/prepare.py"


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_tasks_make_what_processes_make(cluster: Cluster, tmp_path: Path) -> None:
    data, weights = tmp_path / "shapes", tmp_path / "cnn.pt"
    options = ShapesOptions(images=150, size=32, styled=1, lines=1, unlabelled=0, val=3, test=3)
    assert write_dataset(Shapes(options), {"name": "shapes"}, data, WriteOptions())
    torch.save(ShapesCNN().state_dict(), weights)
    command = [PREPARE, "features", data, "--encoder", "shapes_cnn", "--weights", weights]
    command += ["--image-size", 32, "--shard-rows", 64, "--device", "cpu"]
    said, code = ended(cluster.run(*command, "--name", "tasks", "--ray"))
    assert code == 0, said
    said, code = ended(cluster.run(*command, "--name", "processes", "--jobs", 1))
    assert code == 0, said
    made = data / "features"
    assert contents(made / "tasks") == contents(made / "processes")
    assert len(contents(made / "tasks")) > 4
    said, code = ended(cluster.run(*command, "--name", "gpus", "--ray", "--device", "cuda"))
    assert code == 2 and "device=cuda, but the cluster has no GPU" in said
