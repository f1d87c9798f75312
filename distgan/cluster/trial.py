"""One trial of a sweep: an ordinary run on Ray Train, started and watched inside a Tune trial.

It is a class trainable, not a function: Tune calls `cleanup` when it gives a trial up, so the run
saves, its workers leave and their placement group goes, whatever the reason. Tune's own
checkpoints are not used: the run's folder is the truth, and a trial that is started again goes
on from there.
"""

from __future__ import annotations

import json
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ray import tune

from distgan.cluster.train import release, train
from distgan.config import Config, save_config
from distgan.engine.checkpoint import find, graft
from distgan.engine.runs import CONFIG, RunError
from distgan.engine.world import World
from distgan.methods.method import Method
from distgan.methods.training import Outcome
from distgan.sweeps.journal import Status, Tail, folder_name
from distgan.sweeps.plan import Sweep, trial_config
from distgan.sweeps.stoppers import Line, Watcher

POLL_SECONDS = 0.1
STOP = "stop"  # in the sweep's folder: save and leave, all of you
LEAVE_SECONDS = 120.0  # that a run has to finish its round, save and leave


@dataclass(frozen=True)
class Task:
    """What all trials of a sweep share."""

    sweep: Sweep
    base: Config
    folder: Path
    warm: Path | None  # the checkpoint that every trial begins with
    first_round: int  # where that is
    build: Callable[[Config, World], Method] | None

    @property
    def interval(self) -> int | None:
        """Rounds between a population's comparisons."""
        return self.sweep.pbt.interval if self.sweep.scheduler == "pbt" else None


class TrialRun(tune.Trainable):  # type: ignore[misc] (ray has no types)
    """Plays the run that its config names: `number`, `life`, `settings`, `generation`, `seconds`.

    A step ends when the objective has been logged, or at the end of a generation, or when the
    trial has ended; its `status` and `reason` are then in the result.
    """

    def setup(self, config: dict[str, Any], task: Task) -> None:
        self.task = task
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.cleanup()
        self._begin(new_config)
        return True

    def _begin(self, config: Mapping[str, Any]) -> None:
        task = self.task
        self.number, self.generation = int(config["number"]), int(config["generation"])
        self.life = int(config["life"])
        self.run = task.folder / "trials" / folder_name(self.number, self.life)
        own = trial_config(task.base, task.sweep, config["settings"])
        self.run_config = replace(own, name=self.run.name, out=str(self.run.parent))
        self.run.mkdir(parents=True, exist_ok=True)
        save_config(self.run_config, self.run / CONFIG)
        if task.warm is not None and self.life == 1:
            graft(task.warm, self.run)
        self._tail = Tail(self.run / "metrics.jsonl")
        self._watcher = Watcher(task.sweep.stop, task.first_round)
        self._lines: deque[Line] = deque(self._tail.read())
        # What was logged before this start has been judged: it is counted, not told again.
        self._known = int(self._lines[-1]["round"]) if self._lines else task.first_round
        self._values: dict[str, float] = {}
        self._round = task.first_round
        self._seconds, self._started = float(config["seconds"]), time.monotonic()
        self._asked = threading.Event()
        self._thread: threading.Thread | None = None
        self._outcome: Outcome | None = _outcome(self.run)
        self._error: Exception | None = None

    def step(self) -> dict[str, Any]:
        while True:
            if self._thread is None and not self._finished:
                self._go()
            alive = self._thread is not None and self._thread.is_alive()
            self._lines.extend(self._tail.read())
            while self._lines:
                found = self._consider(self._lines.popleft())
                if found is not None:
                    return found
            if not alive:
                return self._settle()
            if (self.task.folder / STOP).exists():
                return self._report()  # Tune is about to call `cleanup`
            limit = self.task.sweep.max_seconds
            if limit is not None and self.seconds > limit:
                return self._end("stopped", f"max_seconds: {self.seconds:.0f} above {limit:g}")
            time.sleep(POLL_SECONDS)

    def cleanup(self) -> None:
        """Let the run save and leave; what does not leave in time loses its workers."""
        self._asked.set()
        if self._thread is not None:
            self._thread.join(LEAVE_SECONDS)
            if self._thread.is_alive():
                release(self.run)
            self._thread = None

    def save_checkpoint(self, checkpoint_dir: str) -> dict[str, Any]:
        return {"run": str(self.run)}

    def load_checkpoint(self, checkpoint: dict[str, Any] | None) -> None:
        """The run's folder has it all."""

    @property
    def seconds(self) -> float:
        """Of this trial, over all its starts."""
        return self._seconds + time.monotonic() - self._started

    @property
    def _finished(self) -> bool:
        return self._outcome is not None and self._outcome.finished

    def _go(self) -> None:
        """Train to the end, or to the end of the generation."""
        until = None if self.task.interval is None else self._border(self.generation)
        self._outcome, self._error = None, None
        self._thread = threading.Thread(target=self._train, args=(until,), daemon=True)
        self._thread.start()

    def _train(self, until: int | None) -> None:
        build, stop = self.task.build, self._asked.is_set
        if until is not None and newest_step(self.run) >= until:
            self._outcome = Outcome(False, {})  # it has come so far already
            return
        try:
            self._outcome = train(
                self.run_config, self.run, should_stop=stop, build=build, until=until
            )
        except Exception as error:  # told to the sweep by `_settle`
            self._error = error

    def _consider(self, line: Line) -> dict[str, Any] | None:
        """Take a logged line in; a result if Tune should hear of it."""
        self._round = int(line["round"])
        self._take_values(line)
        reason = self._watcher.read(line)
        if reason is not None:
            return self._end("stopped", reason)
        first = self.task.sweep.objectives[0].metric
        if self.task.interval is not None or self._round <= self._known:
            return None
        return self._report() if line.get(first) is not None else None

    def _take_values(self, line: Line) -> None:
        """The objectives as they are now, in a population those of this generation alone."""
        if self.task.interval is not None and self._round <= self._border(self.generation - 1):
            return
        for metric in (each.metric for each in self.task.sweep.objectives):
            value = line.get(metric, self._values.get(metric))
            self._values.pop(metric, None)
            if value is not None and math.isfinite(value):
                self._values[metric] = float(value)

    def _settle(self) -> dict[str, Any]:
        """What to tell when training is over, or over for now."""
        self._thread = None
        if self._error is not None:
            kind = "" if isinstance(self._error, RunError) else f"{type(self._error).__name__}: "
            return self._end("failed", f"{kind}{self._error}")
        if self._finished:
            return self._end("finished", "")
        if self.task.interval is None or newest_step(self.run) < self._border(self.generation):
            return self._end("stopped", "somebody asked it to")
        self._round = max(self._round, self._border(self.generation))  # no line need say it
        told = self._report() | {"generation": self.generation}
        self.generation += 1
        self._values.clear()
        return told

    def _border(self, generation: int) -> int:
        """The round that ends a generation of a population."""
        return self.task.first_round + generation * (self.task.interval or 0)

    def _end(self, status: Status, reason: str) -> dict[str, Any]:
        self.cleanup()
        return self._report() | {"status": status, "reason": reason, "done": True}

    def _report(self) -> dict[str, Any]:
        return {
            "number": self.number,
            "life": self.life,
            "round": self._round,
            "trial_rounds": self._round - self.task.first_round,
            "seconds": self.seconds,
            **self._values,
        }


def newest_step(run: Path) -> int:
    """After how many rounds the run's newest checkpoint was written; 0 without any."""
    with suppress(ValueError):
        return int(find(run).name.split("-")[1])
    return 0


def _outcome(run: Path) -> Outcome | None:
    path = run / "outcome.json"
    return Outcome(**json.loads(path.read_text())) if path.exists() else None
