"""Schedulers of sweeps without a cluster: what is decided, and decided again after a restart."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("ray")

import torch
from ray.tune.experiment import Trial

from distgan.cluster.schedulers import Generations, Halving, member
from distgan.engine import checkpoint
from distgan.sweeps import plan as plans
from distgan.sweeps.journal import GENERATIONS, PERTURBATIONS, Journal
from distgan.sweeps.plan import Objective, Population, Sweep
from distgan.sweeps.space import Domain

ASHA = Sweep(
    search={"a": Domain(grid=(1, 2))},
    scheduler="asha",
    asha=plans.Halving(grace=4, factor=2),
    objectives=(Objective(metric="score"),),
)
PBT = Sweep(
    search={"a": Domain(uniform=(0.0, 1.0))},
    searcher="random",
    scheduler="pbt",
    trials=4,
    pbt=Population(interval=5, quantile=0.5),
    objectives=(Objective(metric="score"),),
)


class Controller:
    """Remembers who was told to wait."""

    def __init__(self) -> None:
        self.paused: list[int] = []

    def pause_trial(self, trial: Any, should_checkpoint: bool) -> None:
        self.paused.append(trial.config["number"])


def tune_trial(journal: Journal, number: int, generation: int = 1) -> Any:
    trial = SimpleNamespace(
        trial_id=f"new-{number}",
        config=member(journal, number, generation),
        status=Trial.RUNNING,
    )
    trial.set_config = lambda config: setattr(trial, "config", config)
    return trial


def result(number: int, rounds: int, score: float) -> dict[str, Any]:
    return {"number": number, "round": rounds, "trial_rounds": rounds, "score": score}


def test_a_trial_that_goes_on_is_not_judged_again(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    for number in range(3):
        journal.begin(number, {"a": 1})
    halving = Halving(ASHA, journal, 32)
    halving.replay(0, [result(0, 4, 5.0)])  # a first one goes on, whatever it is worth
    halving.replay(1, [result(1, 4, 9.0)])
    trials = [tune_trial(journal, number) for number in range(3)]
    for trial in trials:
        halving.on_trial_add(None, trial)
    assert halving.on_trial_result(None, trials[0], result(0, 5, 0.0)) == "CONTINUE"
    assert halving.on_trial_result(None, trials[2], result(2, 4, 6.0)) == "STOP"
    assert journal.trials[2].reason == "asha: score 6 is not enough, round 4"


def test_a_trial_that_has_played_all_its_rounds_is_not_stopped(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    halving = Halving(ASHA, journal, 8)
    trials = []
    for number in range(2):
        journal.begin(number, {"a": 1})
        trials.append(tune_trial(journal, number))
        halving.on_trial_add(None, trials[-1])
    assert halving.on_trial_result(None, trials[0], result(0, 8, 5.0)) == "CONTINUE"
    assert halving.on_trial_result(None, trials[1], result(1, 8, 1.0)) == "CONTINUE"
    assert not journal.trials[1].has_ended


def write_checkpoint(run: Path, rounds: int) -> None:
    """Enough of a checkpoint to be found and grafted."""
    state = {"progress": {"total_rounds": rounds}, "weights": torch.ones(1)}
    checkpoint.Store(run / "checkpoints").claim().save(rounds, state)


def population(folder: Path) -> Journal:
    journal = Journal(folder)
    for number in range(4):
        journal.begin(number, {"a": 0.2 * (number + 1)})
        write_checkpoint(journal.run(number), 5)
    return journal


def settle(journal: Journal, scores: dict[int, float | None]) -> Generations:
    """A generation from its first result to its last, after whatever the journal knows."""
    generations = Generations(PBT, journal, 4, 0)
    trials = [tune_trial(journal, number, generations.settled + 1) for number in range(4)]
    for trial in trials:
        generations.on_trial_add(None, trial)
    for number, score in scores.items():
        told = {"number": number, "generation": 1}
        told |= {} if score is None else {"score": score}
        generations.on_trial_result(Controller(), trials[number], told)
    return generations


def test_a_member_without_a_score_is_among_the_worst(tmp_path: Path) -> None:
    generations = settle(population(tmp_path), {0: 0.1, 1: None, 2: math.nan, 3: 0.2})
    assert generations.settled == 1
    journal = Journal(tmp_path)
    assert [journal.trials[number].life for number in range(4)] == [1, 2, 2, 1]
    assert Generations(PBT, journal, 4, 0).scores[1] == {0: 0.1, 1: -math.inf, 2: -math.inf, 3: 0.2}


def test_where_nobody_has_a_score_all_go_on_as_they_are(tmp_path: Path) -> None:
    generations = settle(population(tmp_path), dict.fromkeys(range(4)))
    assert generations.settled == 1 and not (tmp_path / PERTURBATIONS).exists()


def test_a_start_in_the_middle_of_an_exchange_draws_the_same(tmp_path: Path) -> None:
    scores: dict[int, float | None] = {0: 0.1, 1: 0.4, 2: 0.3, 3: 0.2}
    whole = population(tmp_path / "whole")
    settle(whole, scores)
    cut = population(tmp_path / "cut")
    entries = [json.loads(x) for x in (tmp_path / "whole" / GENERATIONS).read_text().splitlines()]
    for entry in entries[:-1]:  # killed before "settled", after the first one was replaced
        cut.append(GENERATIONS, entry)
    first = whole.entries(PERTURBATIONS)[0]["who"]
    cut.append(PERTURBATIONS, whole.entries(PERTURBATIONS)[0])
    cut.replace_settings(first, whole.trials[first].settings, 5)
    write_checkpoint(cut.run(first), 5)
    settle(cut, {first: None, **{n: s for n, s in scores.items() if n != first}})
    assert Journal(tmp_path / "cut").trials == Journal(tmp_path / "whole").trials
    assert cut.entries(PERTURBATIONS) == whole.entries(PERTURBATIONS)
