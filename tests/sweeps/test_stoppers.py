"""Stop rules: when they speak, what they say."""

from __future__ import annotations

from typing import Any

import pytest

from distgan.sweeps.plan import StopRule
from distgan.sweeps.stoppers import Watcher


def fed(rule: StopRule, values: list[Any], first_round: int = 0) -> tuple[int, str] | None:
    """Where a trial that logs these values is stopped, and why."""
    watcher = Watcher({"rule": rule}, first_round)
    for place, value in enumerate(values, 1):
        reason = watcher.read({"round": first_round + place, "x": value, "loss": 1.0})
        if reason is not None:
            return place, reason
    return None


@pytest.mark.parametrize(
    ("rule", "values", "stopped"),
    [
        ({"above": 0.3}, [0.1, 0.3, 0.31], 3),
        ({"below": 0.3}, [0.5, 0.3, 0.29], 3),
        ({"above": 0.3, "times": 2}, [0.4, 0.2, 0.4, 0.5], 4),
        ({"above": 0.3, "after": 2}, [0.9, 0.9, 0.9], 3),
        ({"above": 10.0, "of_first": True}, [0.02, 0.1, 0.3], 3),
        ({"below": 0.5, "of_first": True}, [0.8, 0.5, 0.39], 3),
        ({}, [1.0, None], 2),
        ({"above": 1e9}, [1.0, None], 2),  # not finite is out of any bounds
        ({"below": -1.0}, [1.0, 2.0, 0.0], None),
    ],
)
def test_rules(rule: dict[str, Any], values: list[Any], stopped: int | None) -> None:
    found = fed(StopRule(metric="x", **rule), values)
    assert (found and found[0]) == stopped


def test_reasons_name_the_rule_the_number_and_the_round() -> None:
    found = fed(StopRule(metric="x", above=0.3, times=2), [0.4, 0.41], first_round=100)
    assert found == (2, "rule: x 0.41 above 0.3, 2 times in a row, round 102")
    found = fed(StopRule(metric="x", above=5, of_first=True), [2.0, 11.0])
    assert found == (2, "rule: x 11 above 5 of the first, round 2")


def test_rounds_are_the_trials_own() -> None:
    assert fed(StopRule(metric="x", above=0, after=3), [1.0] * 5, first_round=1000) is not None
    assert fed(StopRule(metric="x", above=0, after=3), [1.0] * 3, first_round=1000) is None


def test_any_number_that_is_not_finite() -> None:
    watcher = Watcher({"broken": StopRule()})
    assert watcher.read({"round": 1, "stage": "critic", "a": 1.0}) is None
    assert watcher.read({"round": 2, "b": None}) == "broken: b is not finite, round 2"


def test_lines_without_the_number_are_passed_over() -> None:
    watcher = Watcher({"rule": StopRule(metric="x", above=1, times=2)})
    lines = [{"x": 2.0}, {"y": 0.0}, {"x": 2.0}]
    found = [watcher.read({"round": n, **line}) for n, line in enumerate(lines, 1)]
    assert found[:2] == [None, None] and found[2] is not None


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        ({"metric": ""}, "metric must be a logged number's name"),
        ({"above": 1.0}, r"metric=\* has no bounds: name one"),
        ({"metric": "x", "above": 1.0, "times": 0}, "times must be at least 1"),
    ],
)
def test_rules_that_cannot_be(wrong: dict[str, Any], line: str) -> None:
    with pytest.raises(ValueError, match=line):
        StopRule(**wrong)
