"""When a trial goes on, is given up or takes another one's place: Tune's schedulers, on files.

Ray's population-based training needs Tune's own checkpoints, which a run under Ray Train does
not have: it would silently change nothing. `Generations` works on the runs' own checkpoints.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from random import Random
from types import SimpleNamespace
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, TrialScheduler

from distgan.engine.checkpoint import find, graft
from distgan.sweeps import space
from distgan.sweeps.journal import GENERATIONS, PERTURBATIONS, Journal
from distgan.sweeps.plan import Sweep

WORST = -math.inf  # the score of a member that has none


class Halving(AsyncHyperBandScheduler):  # type: ignore[misc]
    """ASHA, which writes down why it stopped a trial and knows the trials of earlier starts."""

    def __init__(self, sweep: Sweep, journal: Journal, rounds: int) -> None:
        """`rounds` a trial plays at most."""
        objective = sweep.objectives[0]
        super().__init__(
            time_attr="trial_rounds",
            metric=objective.metric,
            mode=objective.mode,
            max_t=max(rounds, sweep.asha.grace),
            grace_period=sweep.asha.grace,
            reduction_factor=sweep.asha.factor,
            stop_last_trials=False,
        )
        self.journal, self.metric_name, self.rounds = journal, objective.metric, rounds

    def replay(self, number: int, results: Iterable[Mapping[str, Any]]) -> None:
        """Count what a trial has reached at an earlier start."""
        past = SimpleNamespace(trial_id=_past(number))
        super().on_trial_add(None, past)
        for result in results:
            super().on_trial_result(None, past, dict(result))

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        """What a trial that goes on has reached is its own: its rungs are behind it."""
        super().on_trial_add(tune_controller, trial)
        past = _past(int(trial.config["number"]))
        self._trial_info.pop(past, None)
        for bracket in self._brackets:
            for _, recorded in bracket._rungs:
                if past in recorded:
                    recorded[trial.trial_id] = recorded.pop(past)

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        decision: str = super().on_trial_result(tune_controller, trial, result)
        if result["trial_rounds"] >= self.rounds:
            return str(TrialScheduler.CONTINUE)  # nothing is left to stop
        if decision == TrialScheduler.STOP and not result.get("done"):
            value = result[self.metric_name]
            reason = f"asha: {self.metric_name} {value:.4g} is not enough, round {result['round']}"
            self.journal.end(int(result["number"]), "stopped", reason)
        return decision

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> None:
        if trial.trial_id in self._trial_info:
            super().on_trial_complete(tune_controller, trial, result)


def _past(number: int) -> str:
    """A trial's name among the rungs until it is started again."""
    return f"past-{number}"


class Generations(FIFOScheduler):  # type: ignore[misc]
    """Population-based training, a generation at a time.

    Members train `interval` rounds, save and wait for the others. When all have come, the worst
    ones take the checkpoints of the best, with explored settings. What happens is a function of
    the scores and the seed, is written down before it happens, and survives the driver.
    """

    def __init__(self, sweep: Sweep, journal: Journal, size: int, first_round: int) -> None:
        super().__init__()
        self.sweep, self.journal, self.size = sweep, journal, size
        self.first_round, self.limit = first_round, 1
        self.trials: dict[int, Trial] = {}
        self.scores: dict[int, dict[int, float]] = {}  # by generation and number
        self.settled = 0  # the last generation that all have left behind
        for entry in journal.entries(GENERATIONS):
            if "settled" in entry:
                self.settled = entry["settled"]
            else:
                score = WORST if entry["score"] is None else float(entry["score"])
                self.scores.setdefault(entry["generation"], {})[entry["number"]] = score

    @property
    def active(self) -> int:
        """Members that hold workers, or are about to."""
        busy = (Trial.PENDING, Trial.RUNNING)
        return sum(trial.status in busy for trial in self.trials.values())

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        self.trials[trial.config["number"]] = trial

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        if "generation" not in result or result.get("done"):
            return str(TrialScheduler.CONTINUE)
        number, generation = int(result["number"]), int(result["generation"])
        self._record(number, generation, result)
        losers = self._settle(tune_controller)
        if generation > self.settled or number in losers:
            tune_controller.pause_trial(trial, should_checkpoint=False)
            return str(TrialScheduler.NOOP)
        return str(TrialScheduler.CONTINUE)

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> None:
        self._leave(tune_controller, trial)

    def on_trial_error(self, tune_controller: Any, trial: Trial) -> None:
        if not trial.should_recover():
            self._leave(tune_controller, trial)

    def on_trial_remove(self, tune_controller: Any, trial: Trial) -> None:
        self._leave(tune_controller, trial)

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        pending = super().choose_trial_to_run(tune_controller)
        if pending is not None and pending.status == Trial.PENDING:
            return pending
        waits_for_others = self.scores.get(self.settled + 1, {})
        ready = [
            trial
            for number, trial in self.trials.items()
            if trial.status == Trial.PAUSED and number not in waits_for_others
        ]
        return ready[0] if ready and self.active < self.limit else None

    def _leave(self, tune_controller: Any, trial: Trial) -> None:
        """A member that has ended is not waited for."""
        number = trial.config["number"]
        if self.trials.pop(number, None) is not None:
            self.size -= 1
            self._settle(tune_controller)

    def _record(self, number: int, generation: int, result: Mapping[str, Any]) -> None:
        """Write a score down, once; a member without a finite objective is among the worst."""
        scores = self.scores.setdefault(generation, {})
        if number in scores:
            return
        objective = self.sweep.objectives[0]
        value = result.get(objective.metric)
        known = value is not None and math.isfinite(value)
        scores[number] = objective.better(float(value)) if known else WORST
        score = scores[number] if known else None
        entry = {"generation": generation, "number": number, "score": score}
        self.journal.append(GENERATIONS, entry)

    def _settle(self, tune_controller: Any) -> set[int]:
        """If a generation is complete, let the worst take the best's place; who did."""
        generation = self.settled + 1
        scores = self.scores.get(generation, {})
        present = {number: scores[number] for number in self.trials if number in scores}
        if not self.trials or len(self.trials) < self.size or len(present) < self.size:
            return set()
        # One for each, so that a start that finds some of them replaced draws the same.
        randoms = {n: Random(f"{self.sweep.seed}/{generation}/{n}") for n in present}
        replaced = space.exploit(present, self.sweep.pbt.quantile, randoms)
        for loser, donor in replaced.items():
            if self.journal.trials[loser].starts[-1] != self._border(generation):
                self._replace(generation, loser, donor, randoms[loser])
        self.settled = generation
        self.journal.append(GENERATIONS, {"settled": generation})
        for number, trial in self.trials.items():
            trial.set_config({**trial.config, **member(self.journal, number, generation + 1)})
        return set(replaced)

    def _replace(self, generation: int, loser: int, donor: int, random: Random) -> None:
        """The donor's checkpoint and explored settings, written down in this order."""
        before = self.journal.trials[loser]
        source = find(self.journal.run(donor))
        old = dict(self.journal.trials[donor].settings)
        new = space.explore(self.sweep.search, old, self.sweep.pbt.resample, random)
        place = self.journal.run(loser, before.life + 1)
        graft(source, place)
        self.journal.append(
            PERTURBATIONS,
            {
                "generation": generation,
                "round": self._border(generation),
                "who": loser,
                "from": donor,
                "checkpoint": str(source.relative_to(self.journal.folder)),
                "run": str(place.relative_to(self.journal.folder)),
                "settings": {key: [before.settings[key], new[key]] for key in new},
                "donors_settings": old,
            },
        )
        self.journal.replace_settings(loser, new, self._border(generation))

    def _border(self, generation: int) -> int:
        return self.first_round + generation * self.sweep.pbt.interval


def member(journal: Journal, number: int, generation: int) -> dict[str, Any]:
    """What a trial's process is told of it."""
    trial = journal.trials[number]
    return {
        "number": number,
        "life": trial.life,
        "settings": trial.settings,
        "generation": generation,
        "seconds": trial.seconds,
    }
