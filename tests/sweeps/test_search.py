"""Searchers: what is asked does not depend on how often the sweep was interrupted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from distgan.sweeps.pareto import front
from distgan.sweeps.plan import Objective, Sweep
from distgan.sweeps.search import searcher, trial_count
from distgan.sweeps.space import Domain

SPACE = {
    "x": Domain(uniform=(-3.0, 3.0)),
    "n": Domain(integer=(0, 4)),
    "c": Domain(choice=("a", "b")),
}
ONE = (Objective(metric="score", mode="min"),)


def plan(kind: str, **more: Any) -> Sweep:
    return Sweep(**({"search": SPACE, "searcher": kind, "trials": 40, "objectives": ONE} | more))


def loss(settings: dict[str, Any]) -> float:
    return (settings["x"] - 1) ** 2 + (settings["n"] - 2) ** 2 + (settings["c"] == "a")


def play(sweep: Sweep, count: int, cuts: Sequence[int] = ()) -> list[dict[str, Any]]:
    """Ask and tell one after another; at the cuts everything is forgotten but the journal."""
    asker, journal = searcher(sweep), list[dict[str, Any]]()
    for number in range(count):
        if number in cuts:
            asker = searcher(sweep)
            for past, settings in enumerate(journal):
                asker.tell(past, settings, [loss(settings)])
        settings = asker.ask(number)
        journal.append(settings)
        asker.tell(number, settings, [loss(settings)])
    return journal


def test_optuna_learns_and_survives_interruptions() -> None:
    pytest.importorskip("optuna")
    whole = play(plan("optuna"), 40)
    assert play(plan("optuna"), 40, cuts=(3, 17, 30)) == whole
    random = play(plan("random"), 40)
    late = [sum(map(loss, each[20:])) / 20 for each in (whole, random)]
    assert late[0] < late[1] / 2
    assert play(plan("optuna", seed=1), 5) != whole[:5]


def test_optuna_takes_failures_and_several_objectives() -> None:
    pytest.importorskip("optuna")
    aims = (*ONE, Objective(metric="other"))
    asker = searcher(plan("optuna", objectives=aims))
    for number in range(12):
        settings = asker.ask(number)
        asker.tell(number, settings, None if number == 3 else [loss(settings), settings["x"]])
    assert set(asker.ask(12)) == set(SPACE)


def test_the_grid_is_counted() -> None:
    grid = {"x": Domain(grid=(1, 2, 3)), "y": Domain(grid=("a", "b"))}
    assert trial_count(plan("grid", search=grid, trials=None)) == 6
    assert trial_count(plan("grid", search=grid, trials=4)) == 4
    assert searcher(plan("grid", search=grid)).ask(5) == {"x": 3, "y": "b"}
    assert trial_count(plan("random")) == 40


def test_the_front_is_what_nobody_beats() -> None:
    aims = (Objective(metric="a"), Objective(metric="b", mode="min"))
    points = [(1, 1), (2, 2), (3, 3), (2, 3), (0, 0.5), (3, 3)]

    def beaten(one: Sequence[float]) -> bool:
        return any(a >= one[0] and b <= one[1] and (a, b) != one for a, b in points)

    assert front(points, aims) == [i for i, point in enumerate(points) if not beaten(point)]
    assert front([], aims) == []
