"""A sweep on a Ray cluster: Ray Tune places the trials, each is a run under Ray Train.

Everything a sweep knows lies in its folder (see distgan/sweeps/journal.py). A sweep that is
started again begins a new Tune experiment that goes on from there: trials that have ended are
not run again, the others go on from their newest checkpoints, and the searcher and the scheduler
are told what was found before. Nothing of Tune's own is read back.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune.search import Searcher as TuneSearcher

from distgan.cluster.connect import choose_device, connect, runs_at_once
from distgan.cluster.schedulers import Generations, Halving, member
from distgan.cluster.shared_stages import Build, check_shared
from distgan.cluster.train import release, train
from distgan.cluster.trial import POLL_SECONDS, STOP, Task, TrialRun, newest_step
from distgan.config import Config, save_config
from distgan.engine import checkpoint
from distgan.engine.runs import CONFIG
from distgan.engine.world import World
from distgan.methods import training
from distgan.sweeps import results, search
from distgan.sweeps.checks import check
from distgan.sweeps.journal import CURVE, Journal
from distgan.sweeps.plan import Settings, Sweep, trial_config
from distgan.sweeps.progress import table
from distgan.sweeps.search import Listed, Searcher

SHOW_SECONDS = 10.0
HEAD = "node:__internal_head__"  # trials' own processes stay where a cluster is safest
QUIET = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # objectives come now and then
    "TUNE_GLOBAL_CHECKPOINT_S": "100000",  # its records are never read
    "TUNE_WARN_THRESHOLD_S": "10",
    "RAY_AIR_NEW_OUTPUT": "0",
}


@dataclass(frozen=True)
class Start:
    """Where trials begin: the shared run's checkpoint, and after how many rounds."""

    warm: Path | None
    round: int
    rounds: int  # of a whole run


def sweep(
    plan: Sweep,
    base: Config,
    folder: Path,
    *,
    should_stop: Callable[[], bool] = lambda: False,
    build: Build | None = None,
    points: Sequence[Settings] | None = None,
) -> bool:
    """Run what is left of the sweep in `folder`; True if all trials have ended.

    `points` are settings to try instead of what the plan's searcher says. Raises ValueError for
    what cannot work, before any trial begins.
    """
    os.environ.update(QUIET)
    logging.getLogger("ray.tune").setLevel(logging.ERROR)  # it misses its own result files
    connect()
    (folder / STOP).unlink(missing_ok=True)
    shared = trial_config(base, plan, {})
    check(plan, base, points)
    journal = Journal(folder)
    limit = concurrency(plan, shared)
    asker, count = _asker(plan, points)
    check_shared(plan, base, points, build)
    start = warm_up(plan, shared, folder, should_stop, build)
    if start is None:
        return False
    curve = _measure_temperatures(plan, shared, folder, start, build)
    task = Task(plan, base, folder, start.warm, start.round, build)
    _play(task, journal, start, asker, count, limit, should_stop)
    for complaint in results.complaints(journal, plan):
        print(complaint, flush=True)
    if curve is not None:
        _keep_curve(curve, folder / CURVE, should_stop)
    return journal.have_ended(count)


def concurrency(plan: Sweep, shared: Config) -> int:
    """How many trials run at once; a ValueError where not one does, or not as many as asked."""
    room = runs_at_once(shared.engine)
    if plan.max_concurrent is not None and plan.max_concurrent > room:
        raise ValueError(
            f"max_concurrent={plan.max_concurrent}, but the cluster has room for {room} trials of "
            f"engine.workers={shared.engine.workers} with engine.cpus_per_worker="
            f"{shared.engine.cpus_per_worker:g}, engine.gpus_per_worker="
            f"{shared.engine.gpus_per_worker:g}"
        )
    return plan.max_concurrent or room


def warm_up(
    plan: Sweep,
    shared: Config,
    folder: Path,
    should_stop: Callable[[], bool],
    build: Build | None,
) -> Start | None:
    """Play the shared stages once, in `folder/warm`; None if stopped before their end."""
    stages = training.plan(shared, build)
    names, rounds = plan.warm_start.stages, sum(stage.rounds for stage in stages)
    if not names:
        return Start(None, 0, rounds)
    if names != tuple(stage.name for stage in stages[: len(names)]):
        known = ", ".join(stage.name for stage in stages)
        raise ValueError(
            f"warm_start.stages={list(names)} must be the first of the run's stages: {known}"
        )
    until = sum(stage.rounds for stage in stages[: len(names)])
    run = folder / "warm"
    if newest_step(run) < until:
        run.mkdir(exist_ok=True)
        config = replace(shared, name=run.name, out=str(folder))
        save_config(config, run / CONFIG)
        print(f"warm start: {', '.join(names)} ({until} rounds), shared by all trials", flush=True)
        train(config, run, should_stop=should_stop, build=build, until=until)
    return Start(checkpoint.find(run), until, rounds) if newest_step(run) >= until else None


def _asker(plan: Sweep, points: Sequence[Settings] | None) -> tuple[Searcher, int]:
    if points is not None:
        return Listed(points), len(points)
    return search.searcher(plan), search.trial_count(plan)


def _measure_temperatures(
    plan: Sweep, shared: Config, folder: Path, start: Start, build: Build | None
) -> Any:
    """A task that measures the shared model at each temperature; None if there is none to do."""
    if not plan.warm_start.temperatures or (folder / CURVE).exists():
        return None
    device = choose_device(shared.engine)

    def measure() -> list[dict[str, float]]:
        world = World.local(device)
        return [
            {"temperature": t}
            | training.evaluate(shared, Path(str(start.warm)), world, temperature=t, build=build)
            for t in plan.warm_start.temperatures
        ]

    cpus, gpus = shared.engine.cpus_per_worker, shared.engine.gpus_per_worker
    options = {"num_cpus": cpus, "num_gpus": gpus if device == "cuda" else 0}
    return ray.remote(measure).options(**options).remote()


def _keep_curve(curve: Any, path: Path, should_stop: Callable[[], bool]) -> None:
    """Wait for the temperatures' measures and write them; the sweep is whole without them."""
    while not ray.wait([curve], timeout=POLL_SECONDS)[0]:
        if should_stop():
            ray.cancel(curve)
            return
    try:
        path.write_text(json.dumps(ray.get(curve)))
    except ray.exceptions.RayError as error:
        why = str(error).strip().splitlines()[-1]
        print(f"temperatures: not measured, the report goes without: {why}", flush=True)


def _play(
    task: Task,
    journal: Journal,
    start: Start,
    asker: Searcher,
    count: int,
    limit: int,
    should_stop: Callable[[], bool],
) -> None:
    """Run the trials that have not ended; the table of all is printed while they do."""
    plan = task.sweep
    scheduler = _scheduler(task, journal, start, count, limit)
    suggest = Suggest(journal, asker, plan, count, limit, scheduler)
    if suggest.is_done:
        return
    started = f"{datetime.now():%Y%m%d-%H%M%S}-{os.getpid()}"
    tuner = tune.Tuner(
        tune.with_resources(
            tune.with_parameters(TrialRun, task=task), tune.PlacementGroupFactory([{HEAD: 0.001}])
        ),
        param_space={},
        tune_config=tune.TuneConfig(
            search_alg=suggest,
            scheduler=scheduler,
            num_samples=-1,
            reuse_actors=True,
            trial_dirname_creator=_short_name,
        ),
        run_config=tune.RunConfig(
            name=started,
            storage_path=str(task.folder / "ray"),
            stop=StopWhen(should_stop, task.folder / STOP),
            failure_config=tune.FailureConfig(max_failures=plan.max_failures),
            callbacks=[Keeper(journal)],
            verbose=0,
        ),
    )
    errors: list[BaseException] = []
    thread = threading.Thread(target=_fit, args=(tuner, errors), daemon=True)
    thread.start()  # in a thread, as Tune would take over Ctrl-C in the main one
    _show_while(thread, task, journal, count)
    (task.folder / STOP).unlink(missing_ok=True)
    for number, trial in journal.trials.items():
        if not trial.has_ended:
            release(journal.run(number))
    if errors:
        raise errors[0]


def _short_name(trial: Any) -> str:
    """Of Tune's own folder: settings may be many and long."""
    return f"{trial.config['number']:04d}-{trial.trial_id}"


def _fit(tuner: tune.Tuner, errors: list[BaseException]) -> None:
    try:
        tuner.fit()
    except Exception as error:
        errors.append(error)


def _scheduler(task: Task, journal: Journal, start: Start, count: int, limit: int) -> Any:
    plan = task.sweep
    if plan.scheduler == "pbt":
        ended = sum(trial.has_ended for trial in journal.trials.values())
        generations = Generations(plan, journal, count - ended, start.round)
        generations.limit = limit
        return generations
    if plan.scheduler == "none":
        return tune.schedulers.FIFOScheduler()
    halving = Halving(plan, journal, start.rounds - start.round)
    metric = plan.objectives[0].metric
    for number in journal.trials:
        known = results.series(journal, number, metric)
        halving.replay(number, [{"trial_rounds": r - start.round, metric: v} for r, v in known])
    return halving


def _show_while(thread: threading.Thread, task: Task, journal: Journal, count: int) -> None:
    """Print the table when something in it has changed, until the thread ends."""
    shown, last = "", time.monotonic() - SHOW_SECONDS
    while thread.is_alive():
        thread.join(0.2)
        if time.monotonic() - last < SHOW_SECONDS and thread.is_alive():
            continue
        last = time.monotonic()
        now = table(journal, task.sweep, count)
        if now != shown:
            print(now, flush=True)
        shown = now


class Suggest(TuneSearcher):  # type: ignore[misc]
    """Hands the journal's open trials out again, then new ones, no more than fit at once."""

    def __init__(
        self,
        journal: Journal,
        asker: Searcher,
        plan: Sweep,
        count: int,
        limit: int,
        scheduler: Any,
    ) -> None:
        super().__init__(metric=plan.objectives[0].metric, mode=plan.objectives[0].mode)
        self.journal, self.asker, self.plan = journal, asker, plan
        self.limit, self.scheduler = limit, scheduler
        self.left = [n for n in range(count) if not self._has_ended(n)]
        self.live: dict[str, int] = {}
        for number in journal.trials:
            if self._has_ended(number):
                self._tell(number)

    @property
    def is_done(self) -> bool:
        return not self.left

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        if not self.left:
            return str(TuneSearcher.FINISHED)
        population = isinstance(self.scheduler, Generations)
        busy = self.scheduler.active if population else len(self.live)
        if busy >= self.limit:
            return None
        number = self.left.pop(0)
        if number not in self.journal.trials:
            self.journal.begin(number, self.asker.ask(number))
        self.live[trial_id] = number
        generation = self.scheduler.settled + 1 if population else 1
        return member(self.journal, number, generation)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        number = self.live.pop(trial_id, None)
        if number is not None:
            self._tell(number, result, error)

    def _has_ended(self, number: int) -> bool:
        return number in self.journal.trials and self.journal.trials[number].has_ended

    def _tell(self, number: int, result: dict[str, Any] | None = None, error: bool = False) -> None:
        trial, values = self.journal.trials[number], []
        for objective in self.plan.objectives:
            known = results.series(self.journal, number, objective.metric)
            values += [known[-1][1]] if known else []
        # A trial whose process died is told of here before the journal knows.
        failed = error or "failed" in (trial.status, (result or {}).get("status"))
        complete = len(values) == len(self.plan.objectives) and not failed
        self.asker.tell(number, trial.settings, values if complete else None)

    def save(self, checkpoint_path: str) -> None:
        """The journal has it all."""

    def restore(self, checkpoint_path: str) -> None:
        """The journal has it all."""

    def save_to_dir(self, checkpoint_dir: str, session_str: str = "default") -> None:
        """The journal has it all."""


class Keeper(tune.Callback):  # type: ignore[misc]
    """Writes into the journal how trials end."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **_: Any
    ) -> None:
        number = int(result["number"])
        self.journal.note(number, seconds=float(result["seconds"]))
        if "status" in result:
            self.journal.end(number, result["status"], result["reason"])

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        number = int(trial.config["number"])
        self.journal.note(number, restarts=1)
        seconds = self.journal.trials[number].seconds
        trial.set_config({**trial.config, "seconds": seconds})

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        number = int(trial.config["number"])
        release(self.journal.run(number))
        self.journal.end(number, "failed", "its process died, or could not be started")


class StopWhen(tune.Stopper):  # type: ignore[misc]
    """Ends the whole experiment when asked to; the open trials save and leave."""

    def __init__(self, should_stop: Callable[[], bool], file: Path) -> None:
        """`file` tells the trials, which may be in the middle of a step."""
        self.should_stop, self.file = should_stop, file

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        if self.should_stop():
            self.file.touch()
        return self.should_stop()
