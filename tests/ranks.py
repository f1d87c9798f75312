"""Runs a function on several ranks: real processes that talk gloo over a file, no ports.

The processes are forked from a server that has imported torch and nothing has run in, so that
starting four of them takes a tenth of a second instead of ten.
"""

from __future__ import annotations

import faulthandler
import gc
import os
import pickle
import tempfile
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from typing import Any

import torch
import torch.multiprocessing

from distgan.engine.world import World

SECONDS = 300.0
"""How long a group of ranks may take: many times what it needs on an idle machine."""

_GRACE = 5.0
"""Seconds that the others have to end, after the first rank has failed or died."""

_PRELOAD = ["pytest", "torch.distributed", "torch._dynamo", "distgan.methods.training"]


class RanksFailed(RuntimeError):  # noqa: N818
    """Some rank raised, died or took too long. `exit_codes` (a signal is negative) and `errors`
    (tracebacks as text) are by rank."""

    def __init__(self, message: str, exit_codes: dict[int, int | None], errors: dict[int, str]):
        texts = [f"--- rank {rank} ---\n{text}" for rank, text in sorted(errors.items())]
        super().__init__("\n".join([message, f"exit codes {exit_codes}", *texts]))
        self.exit_codes, self.errors = exit_codes, errors


def run_on_ranks(
    size: int, function: Callable[..., Any], *args: Any, seconds: float = SECONDS
) -> list[Any]:
    """`function(world, *args)` on `size` ranks at once; what each returned, in rank order.

    `function` is importable, arguments and results can be pickled; it drops its DDP objects
    before it returns (`Learner.unwrap`). Raises RanksFailed unless every rank returns in time;
    no process is left behind.
    """
    context = torch.multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOAD)
    with tempfile.TemporaryDirectory() as folder:
        pipes, processes = [], []
        for rank in range(size):
            mine, theirs = context.Pipe(duplex=False)
            arguments = (rank, size, f"file://{folder}/store", seconds, theirs, function, args)
            processes.append(context.Process(target=_rank, args=arguments, daemon=True))
            processes[-1].start()
            theirs.close()
            pipes.append(mine)
        try:
            answers, on_time = _collect(pipes, time.monotonic() + seconds)
        finally:
            for process in processes:
                process.join(_GRACE if on_time else 0)
                process.kill()
                process.join()
    return _results(answers, {r: p.exitcode for r, p in enumerate(processes)}, on_time)


def _rank(
    rank: int,
    size: int,
    store: str,
    seconds: float,
    pipe: Connection,
    function: Callable[..., Any],
    args: tuple[Any, ...],
) -> None:
    """One process: its answer is (has it worked, result or traceback), pickled."""
    gc.freeze()  # what the server imported is no garbage, and there is a lot of it
    faulthandler.dump_traceback_later(max(seconds - 2, 1), exit=True)
    torch.set_num_threads(1)
    try:
        world = World.local() if size == 1 else World.join(store, rank, size, "cpu", int(seconds))
        answer = (True, function(world, *args))
        world.leave()
    except BaseException:
        # The frames of a traceback hold DDP objects: leave without taking them down.
        pipe.send_bytes(pickle.dumps((False, traceback.format_exc())))
        os._exit(1)
    pipe.send_bytes(pickle.dumps(answer))


def _collect(pipes: list[Connection], deadline: float) -> tuple[dict[int, Any], bool]:
    """Answers by rank, and whether all ranks answered or died before the deadline.

    After the first failure the others have a few seconds to fail too, and say why.
    """
    answers: dict[int, Any] = {}
    waiting = dict(zip(pipes, range(len(pipes)), strict=True))
    failed = False
    while waiting:
        ready = wait(list(waiting), max(0.0, deadline - time.monotonic()))
        if not ready:
            return answers, failed
        for pipe in ready:
            assert isinstance(pipe, Connection)
            rank = waiting.pop(pipe)
            try:
                answers[rank] = pickle.loads(pipe.recv_bytes())
            except EOFError:  # it died without a word
                answers[rank] = (False, "")
            if not answers[rank][0] and not failed:
                failed, deadline = True, min(deadline, time.monotonic() + _GRACE)
    return answers, True


def _results(
    answers: dict[int, Any], exit_codes: dict[int, int | None], on_time: bool
) -> list[Any]:
    if not on_time:
        raise RanksFailed(f"only ranks {sorted(answers)} answered in time", exit_codes, {})
    errors = {rank: text for rank, (worked, text) in answers.items() if not worked}
    if errors or len(answers) < len(exit_codes):
        raise RanksFailed(f"ranks {sorted(errors)} failed", exit_codes, errors)
    if any(exit_codes.values()):
        raise RanksFailed("ranks answered, then died", exit_codes, {})
    return [answers[rank][1] for rank in sorted(answers)]
