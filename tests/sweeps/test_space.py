"""Domains: what is drawn and nudged stays inside; the grid is whole; draws are functions."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from random import Random
from typing import Any

import pytest

from distgan.settings import load_settings
from distgan.sweeps import space
from distgan.sweeps.plan import Objective, Population, Sweep
from distgan.sweeps.space import Domain

DOMAINS = {
    "a": Domain(grid=(0.1, 1.0, 10.0)),
    "b": Domain(choice=("x", "y")),
    "c": Domain(uniform=(-2.0, 3.0)),
    "d": Domain(loguniform=(1e-4, 1e-1)),
    "e": Domain(integer=(1, 5)),
}


def inside(domain: Domain, value: Any) -> bool:
    if domain.values:
        return value in domain.values
    bounds = domain.integer or domain.loguniform or domain.uniform
    assert bounds is not None
    kind = int if domain.integer else float
    return type(value) is kind and bounds[0] <= value <= bounds[1]


def test_draws_and_nudges_stay_inside() -> None:
    random = Random(0)
    settings = space.draw(DOMAINS, 1, 0)
    for number in range(300):
        assert all(inside(DOMAINS[k], v) for k, v in space.draw(DOMAINS, 1, number).items())
        settings = space.explore(DOMAINS, settings, 0.1, random)
        assert all(inside(DOMAINS[k], v) for k, v in settings.items())


def test_a_draw_depends_on_seed_and_number_alone() -> None:
    later = space.draw(DOMAINS, 1, 5)
    for number in range(20):
        space.draw(DOMAINS, 1, number)
    assert space.draw(DOMAINS, 1, 5) == later
    assert later not in (space.draw(DOMAINS, 2, 5), space.draw(DOMAINS, 1, 6))


def test_loguniform_spreads_over_decades() -> None:
    drawn = [space.draw(DOMAINS, 0, n)["d"] for n in range(3000)]
    for low in (1e-4, 1e-3, 1e-2):
        assert 900 < sum(low <= value < 10 * low for value in drawn) < 1100


def test_a_nudge_is_a_neighbour() -> None:
    random = Random(3)
    assert {DOMAINS["a"].nudge(1.0, random) for _ in range(30)} == {0.1, 10.0}
    assert {DOMAINS["a"].nudge(0.1, random) for _ in range(30)} == {1.0}
    assert {DOMAINS["e"].nudge(3, random) for _ in range(30)} == {2, 4}
    assert {DOMAINS["e"].nudge(5, random) for _ in range(30)} == {4, 5}
    moved = {DOMAINS["d"].nudge(1e-2, random) for _ in range(30)}
    assert moved == {1e-2 * 0.8, 1e-2 * 1.25}
    assert Domain(choice=(7,)).nudge(7, random) == 7


def test_the_grid_is_every_combination_once() -> None:
    domains = {"a": DOMAINS["a"], "b": DOMAINS["b"]}
    pairs = [tuple(point.values()) for point in space.grid(domains)]
    assert pairs == list(itertools.product((0.1, 1.0, 10.0), ("x", "y")))


def randoms(seed: int) -> dict[int, Random]:
    return {number: Random(f"{seed}/{number}") for number in range(5)}


def test_the_worst_take_the_places_of_the_best() -> None:
    scores = {0: 0.1, 1: 0.9, 2: 0.5, 3: 0.2, 4: 0.8}
    for seed in range(10):
        replaced = space.exploit(scores, 0.4, randoms(seed))
        assert set(replaced) == {0, 3} and set(replaced.values()) <= {1, 4}
    assert space.exploit({0: 1.0}, 0.5, randoms(0)) == {}
    assert space.exploit({0: 1.0, 1: 1.0}, 0.5, randoms(0)) == {1: 0}  # equal: by number
    worst = -math.inf
    assert space.exploit({0: worst, 1: worst}, 0.5, randoms(0)) == {}, "nobody is a donor"
    assert set(space.exploit({0: worst, 1: worst, 2: 0.1, 3: worst}, 0.5, randoms(0)).values()) == {
        2
    }
    assert len(space.exploit(scores, 0.01, randoms(0))) == 1


AIM = (Objective(metric="val/joint"),)


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        ({"search": {"a": DOMAINS["c"]}}, r"search.a needs grid: \[...\] with searcher=grid"),
        ({"searcher": "random"}, "searcher=random needs trials"),
        ({"scheduler": "pbt"}, "searcher=random"),
        ({"scheduler": "pbt", "searcher": "optuna", "trials": 4}, "searcher=optuna, trials=4"),
        ({"scheduler": "pbt", "searcher": "random", "trials": 1}, "trials=1"),
        ({"max_concurrent": 0}, "max_concurrent must be at least 1"),
        ({"max_seconds": 0.0}, "max_seconds must be above 0"),
    ],
)
def test_plans_that_cannot_be(wrong: dict[str, Any], line: str) -> None:
    given: dict[str, Any] = {"search": {"a": DOMAINS["a"]}, "objectives": AIM}
    with pytest.raises(ValueError, match=line):
        Sweep(**(given | wrong))


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        ({"uniform": (2.0, 1.0)}, r"uniform must be \[low, high\]"),
        ({"loguniform": (0.0, 1.0)}, "loguniform must be above 0"),
        ({"grid": ()}, "grid must be at least one value"),
        ({"grid": (1,), "uniform": (0.0, 1.0)}, "values must be one of grid or choice"),
    ],
)
def test_domains_that_cannot_be(wrong: dict[str, Any], line: str) -> None:
    with pytest.raises(ValueError, match=line):
        Domain(**wrong)


def test_a_domain_must_say_something() -> None:
    with pytest.raises(ValueError, match=r"search\.method\.lr needs one of grid, choice, uniform"):
        space.check({"method.lr": Domain()})
    with pytest.raises(ValueError, match="quantile must be in"):
        Population(quantile=0.7)


def test_a_plan_is_read_from_yaml(tmp_path: Path) -> None:
    file = tmp_path / "sweep.yaml"
    file.write_text(
        "config: a.yaml\n"
        "settings: {method.rounds: 3, log: {every: 2}}\n"
        "search:\n"
        "  method.lambda_adversarial: {grid: [0.1, 1]}\n"
        "  data.style: {choice: [all, positive]}\n"
        "objectives: [{metric: val/joint}, {metric: length, mode: min}]\n"
        "stop: {loops: {metric: repeats, above: 0.3, times: 2}}\n"
    )
    plan = load_settings(file, ["trials=3", "settings.seed=4"], Sweep())
    assert plan.search["data.style"].values == ("all", "positive")
    assert plan.settings == {"method.rounds": 3, "log": {"every": 2}, "seed": 4}
    assert [o.mode for o in plan.objectives] == ["max", "min"]
    assert plan.stop["loops"].times == 2
    for text, line in (
        ("serch: {}\n", "unknown key serch; did you mean search"),
        ("search: {a: {gird: [1]}}\n", "unknown key search.a.gird; did you mean search.a.grid"),
        ("stop: {x: {below: 1}}\n", r"stop.x.metric=\* has no bounds"),
    ):
        file.write_text(text)
        with pytest.raises(ValueError, match=line):
            load_settings(file, [], plan)
