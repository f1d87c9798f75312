"""Makes feature shards as tasks of a Ray cluster: one a GPU, or one a CPU where there is none.

Each task writes one shard where the driver asked for it, so the dataset, the weights and the
folder must be the same on every node. A task whose node dies is done again elsewhere.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import ray
import torch

from distgan.cluster.connect import connect
from distgan.cluster.prepare import RETRIES, check_task
from distgan.data.feature_manifest import Recipe
from distgan.data.feature_writing import FeaturePiece, WriteFeatures
from distgan.methods.feature_making import EncoderFile, Maker

_AHEAD = 2  # tasks of a device: the next one waits where the last one ends


class _Refused(NamedTuple):
    """A mistake of the user's, met on some node."""

    node: str
    reason: str


def on_cluster(
    file: EncoderFile, path: str, device: Literal["auto", "cpu", "cuda"], address: str = "auto"
) -> WriteFeatures:
    """Writes pieces as tasks of the cluster at `address` (auto: RAY_ADDRESS, or a local one).

    ValueError when a GPU is asked for and there is none, and naming node and reason for what
    cannot be written there; ChildProcessError when a task's process dies again and again.
    """

    def write(
        folder: Path, recipe: Recipe, pieces: Sequence[FeaturePiece]
    ) -> Iterator[FeaturePiece]:
        if address != "auto":
            os.environ["RAY_ADDRESS"] = address
        connect()
        task, places = _task(device)
        waiting, running = iter(pieces), dict[Any, FeaturePiece]()
        try:
            while True:
                while len(running) < _AHEAD * places and (piece := next(waiting, None)):
                    running[task.remote(file, path, recipe, folder, piece)] = piece
                if not running:
                    return
                for done in ray.wait(list(running), num_returns=1)[0]:
                    piece = running.pop(done)
                    check_task(done, piece.name)
                    yield piece
        finally:
            for unfinished in running:
                ray.cancel(unfinished, force=True)

    return write


def _task(device: Literal["auto", "cpu", "cuda"]) -> tuple[Any, int]:
    """The task with what it needs, and how many run at the same time."""
    resources = ray.cluster_resources()
    gpus = int(resources.get("GPU", 0))
    if device == "cuda" and not gpus:
        raise ValueError("device=cuda, but the cluster has no GPU")
    if gpus and device != "cpu":
        return _write_piece.options(num_gpus=1), gpus
    return _write_piece.options(num_cpus=1), max(1, int(resources.get("CPU", 1)))


_makers: dict[tuple[EncoderFile, str, Recipe], Maker] = {}
"""Of this worker process: the next task of the same kind finds the encoder there."""


@ray.remote(max_retries=RETRIES)
def _write_piece(
    file: EncoderFile, path: str, recipe: Recipe, folder: Path, piece: FeaturePiece
) -> _Refused | None:
    """None when the piece is written."""
    node = f"{socket.gethostname()} ({ray.util.get_node_ip_address()})"
    if not folder.is_dir():
        return _Refused(node, f"{folder} is not there; it must lie where every node sees it")
    device = torch.device("cuda" if ray.get_gpu_ids() else "cpu")
    try:
        if (file, path, recipe) not in _makers:
            _makers.clear()
            _makers[file, path, recipe] = Maker(file, path, recipe, device)
        _makers[file, path, recipe].write(folder, piece)
    except (ValueError, OSError) as error:
        return _Refused(node, str(error))
    return None
