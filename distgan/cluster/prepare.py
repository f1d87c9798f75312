"""Writes a dataset's shards as tasks of a Ray cluster.

Each task writes one shard where the driver asked for it, so the folder and the source's files
must be the same on every node. A task whose node dies is done again elsewhere.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import ray

from distgan.cluster.connect import connect
from distgan.data.pieces import ROWS, Importer, Piece, WritePieces, write_piece

_AHEAD = 2  # tasks of a CPU: the next one waits where the last one ends
RETRIES = 5  # of a task whose process or node died


class _Refused(NamedTuple):
    """A mistake of the user's, met on some node."""

    node: str
    reason: str


def on_cluster(address: str = "auto") -> WritePieces:
    """Writes pieces as tasks of the cluster at `address` (auto: RAY_ADDRESS, or a local one).

    ValueError naming node and reason for what cannot be written there; ChildProcessError when a
    task's process dies again and again.
    """

    def write(importer: Importer, folder: Path, pieces: Sequence[Piece]) -> Iterator[Piece]:
        if address != "auto":
            os.environ["RAY_ADDRESS"] = address
        connect()
        bound = max(1, int(_AHEAD * ray.cluster_resources().get("CPU", 1)))
        sent = ray.put(importer)
        waiting = iter(pieces)
        running: dict[Any, Piece] = {}
        try:
            while True:
                while len(running) < bound and (piece := next(waiting, None)) is not None:
                    running[_write_piece.remote(sent, folder, piece)] = piece
                if not running:
                    return
                done, _ = ray.wait(list(running), num_returns=1)
                for task in done:
                    piece = running.pop(task)
                    check_task(task, piece.name)
                    yield piece
        finally:
            for task in running:
                ray.cancel(task, force=True)

    return write


def check_task(task: Any, shard: str) -> None:
    """Raise what befell the task that was to write a shard: a mistake, or its process died."""
    try:
        refused = ray.get(task)
    except (ray.exceptions.WorkerCrashedError, ray.exceptions.OutOfMemoryError) as error:
        raise ChildProcessError(
            f"{shard}: the process that wrote it died {RETRIES + 1} times, of too little "
            f"memory perhaps: {str(error).strip().splitlines()[0]}"
        ) from error
    if refused is not None:
        raise ValueError(f"{shard}: on node {refused.node}: {refused.reason}")


@ray.remote(num_cpus=1, max_retries=RETRIES)
def _write_piece(importer: Importer, folder: Path, piece: Piece) -> _Refused | None:
    """None when the piece is written."""
    node = f"{socket.gethostname()} ({ray.util.get_node_ip_address()})"
    if not (folder / ROWS).is_dir():
        return _Refused(node, f"{folder} is not there; --out must lie where every node sees it")
    try:
        write_piece(importer, folder, piece)
    except (ValueError, OSError) as error:
        return _Refused(node, str(error))
    return None
