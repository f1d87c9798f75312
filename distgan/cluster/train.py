"""A run on a Ray cluster: Ray Train starts the workers and starts them anew when one dies.

Ray only places and watches processes. What a run is worth keeping for lies in its own folder,
written by `distgan.methods.training`: workers that are started again go on from there, so do
runs whose driver died. The folder must be the same one on every machine.

The driver and the workers talk through files in it, which outlive any of them:
`stop` asks the workers to save and leave (anybody may make it), `log.txt` is what the first
worker says, `outcome.json` how it ended, `error.txt` the whole story of a failure.
"""

from __future__ import annotations

import contextlib
import gc
import io
import json
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, TextIO

import ray.train
from ray import PlacementGroupID
from ray.train.torch import TorchConfig, TorchTrainer, get_device
from ray.util.placement_group import (
    PlacementGroup,
    get_current_placement_group,
    placement_group_table,
    remove_placement_group,
)

from distgan.cluster.connect import Device, choose_device, connect
from distgan.config import Config
from distgan.data.damage import TooManyBadSamples
from distgan.engine.checkpoint import Superseded
from distgan.engine.runs import ERROR, RunError
from distgan.engine.watch import RanksDiffer
from distgan.engine.world import World
from distgan.methods import training
from distgan.methods.method import Method

CONTROLLER_FAILURES = 3
RESERVATION = "reservation"
POLL_SECONDS = 0.2

# Starting again would only meet these again; anything else may be the machine's or network's.
FINAL = (
    ValueError,
    TypeError,
    ArithmeticError,
    LookupError,
    AttributeError,
    AssertionError,
    ImportError,
    FileNotFoundError,
    NotImplementedError,
    RanksDiffer,
    Superseded,
    TooManyBadSamples,
)


class WorkerError(Exception):
    """What a worker's exception becomes, so that any process can read it."""

    def __init__(self, rank: int, summary: str, trace: str, is_final: bool) -> None:
        super().__init__(rank, summary, trace, is_final)  # what pickle gives back to __init__
        self.rank, self.summary, self.trace, self.is_final = rank, summary, trace, is_final

    def __str__(self) -> str:
        return f"rank {self.rank}: {self.summary}"


@dataclass(frozen=True)
class Job:
    """What every worker is given."""

    config: Config
    run: Path
    build: Callable[[Config, World], Method] | None
    until: int | None = None


def train(
    config: Config,
    run: Path,
    *,
    should_stop: Callable[[], bool] = lambda: False,
    build: Callable[[Config, World], Method] | None = None,
    callbacks: Sequence[ray.train.UserCallback] = (),
    until: int | None = None,
) -> training.Outcome:
    """Train on the cluster, going on from `run`'s newest checkpoint if it has one.

    `until` stops it after that round, with a checkpoint.

    Raises RunError with the first cause. Ray's own folder of this start is `run/ray/...`.
    """
    connect()
    for name in ("stop", "outcome.json", ERROR):
        (run / name).unlink(missing_ok=True)
    release(run)
    trainer = _trainer(Job(config, run, build, until), choose_device(config.engine), callbacks)
    errors: list[BaseException] = []
    thread = threading.Thread(target=_fit, args=(trainer, errors), daemon=True)
    spoken = _Tail(run / "log.txt")
    thread.start()  # in a thread, as Ray would take over Ctrl-C in the main one
    while thread.is_alive():
        if should_stop():
            (run / "stop").touch()
        thread.join(POLL_SECONDS)
        spoken.show()
    (run / "stop").unlink(missing_ok=True)
    (run / RESERVATION).unlink(missing_ok=True)
    if errors:
        raise RunError(_explain(errors[0], run)) from None
    return training.Outcome(**json.loads((run / "outcome.json").read_text()))


def _trainer(job: Job, device: Device, callbacks: Sequence[ray.train.UserCallback]) -> TorchTrainer:
    engine = replace(job.config.engine, device=device)
    job = replace(job, config=replace(job.config, engine=engine))
    return TorchTrainer(
        partial(work, job),
        torch_config=TorchConfig(
            backend="nccl" if device == "cuda" else "gloo", timeout_s=engine.timeout_seconds
        ),
        scaling_config=ray.train.ScalingConfig(
            num_workers=engine.workers,
            use_gpu=device == "cuda",
            resources_per_worker={
                "CPU": engine.cpus_per_worker,
                **({"GPU": engine.gpus_per_worker} if device == "cuda" else {}),
            },
        ),
        run_config=ray.train.RunConfig(
            # A new name each start: Ray would go on from its own records of an earlier one.
            name=f"{datetime.now():%Y%m%d-%H%M%S}-{os.getpid()}",
            storage_path=str(job.run / "ray"),
            failure_config=ray.train.FailureConfig(
                max_failures=engine.max_failures, controller_failure_limit=CONTROLLER_FAILURES
            ),
            callbacks=[Failures(job.run, engine.max_failures), *callbacks],
        ),
    )


def _fit(trainer: TorchTrainer, errors: list[BaseException]) -> None:
    try:
        trainer.fit()
    except Exception as error:
        errors.append(error)


def work(job: Job) -> None:
    """One worker's part. Ray Train calls it on every rank, inside a process group."""
    rank = ray.train.get_context().get_world_rank()
    world = World.from_torch(get_device())
    if rank == 0:
        _note_reservation(job.run)
    try:
        with _said_to(job.run / "log.txt" if rank == 0 else None):
            outcome = training.train(
                job.config,
                job.run,
                world,
                resume=True,
                should_stop=_StopFile(job.run / "stop"),
                on_checkpoint=ray.train.report,
                build=job.build,
                until=job.until,
            )
    except Exception as error:
        summary = f"{type(error).__name__}: {' '.join(str(error).split())}"
        is_final = isinstance(error, FINAL)
        raise WorkerError(rank, summary, traceback.format_exc(), is_final) from None
    if rank == 0:
        fresh = job.run / ".outcome.json.new"
        fresh.write_text(json.dumps(asdict(outcome)))
        fresh.replace(job.run / "outcome.json")
    gc.collect()
    world.leave()


def release(run: Path) -> None:
    """Give back what a start of this run still holds whose driver died without a word.

    Ray keeps the workers' placement group until the whole job ends, and its own cleaner needs
    the dashboard.
    """
    note = run / RESERVATION
    if not note.exists():
        return
    group = PlacementGroup(PlacementGroupID.from_hex(note.read_text()))
    if placement_group_table(group).get("state") not in (None, "REMOVED"):
        remove_placement_group(group)
    note.unlink()


def _note_reservation(run: Path) -> None:
    group = get_current_placement_group()
    if group is not None:
        (run / RESERVATION).write_text(group.id.hex())


class Failures(ray.train.UserCallback):
    """Says in the run's log what befell the workers; ends the run where a restart cannot help.

    It lives in Ray's controller, which takes an exception raised here as the run's end.
    """

    def __init__(self, run: Path, max_failures: int) -> None:
        self.run, self.left = run, max_failures

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        cause = first_cause(worker_exceptions)
        if isinstance(cause, WorkerError) and cause.is_final:
            raise cause
        self.left -= 1
        if self.left >= 0:
            with (self.run / "log.txt").open("a") as file:
                file.write(
                    f"{describe(worker_exceptions)}; starting the workers again from the last "
                    f"checkpoint ({self.left} more restarts)\n"
                )


def first_cause(failures: dict[int, Exception]) -> Exception:
    """The failure that the others follow from: a final one, else a death, else any."""

    def order(failure: Exception) -> int:
        if not isinstance(failure, WorkerError):
            return 1
        return 0 if failure.is_final else 2

    return min((failures[rank] for rank in sorted(failures)), key=order)


def describe(failures: dict[int, Exception]) -> str:
    """The first cause in one line."""
    cause = first_cause(failures)
    if isinstance(cause, WorkerError):
        return str(cause)
    rank = next(rank for rank, failure in failures.items() if failure is cause)
    text = " ".join(str(cause).split())
    return f"rank {rank}: its process died (killed, or out of memory?): {text[:300]}"


def _explain(error: BaseException, run: Path) -> str:
    """One line on why training failed; everything known goes to `error.txt`."""
    if isinstance(error, ray.train.ControllerError):
        error = error.controller_failure
    traces = ["".join(traceback.format_exception(error))]
    summary = f"{type(error).__name__}: {' '.join(str(error).split())[:500]}"
    if isinstance(error, WorkerError):
        summary, traces = str(error), [error.trace]
    if isinstance(error, ray.train.WorkerGroupError):
        failures = error.worker_failures
        summary = describe(failures)
        traces = [f.trace if isinstance(f, WorkerError) else str(f) for f in failures.values()]
    (run / ERROR).write_text("\n\n".join([summary, *traces]))
    return summary


class _StopFile:
    """Is there a file? Looked for now and then in a thread: a shared disk may be slow."""

    def __init__(self, path: Path) -> None:
        self.path, self.seen = path, False
        threading.Thread(target=self._watch, daemon=True).start()

    def __call__(self) -> bool:
        return self.seen

    def _watch(self) -> None:
        while not self.seen:
            self.seen = self.path.exists()
            time.sleep(POLL_SECONDS)


@contextlib.contextmanager
def _said_to(path: Path | None) -> Iterator[None]:
    """Inside, what is printed goes to the file as well."""
    if path is None:
        yield
        return
    with path.open("a") as file, contextlib.redirect_stdout(_Both(sys.stdout, file)):
        yield


class _Both(io.TextIOBase):
    """Writes to two files at once."""

    def __init__(self, *files: TextIO) -> None:
        self.files = files

    def write(self, text: str) -> int:
        for file in self.files:
            file.write(text)
            file.flush()
        return len(text)


class _Tail:
    """Prints what is added to a file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.place = path.stat().st_size if path.exists() else 0

    def show(self) -> None:
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            file.seek(self.place)
            new = file.read()
        self.place += len(new)
        if new:
            print(new.decode(errors="replace"), end="", flush=True)
