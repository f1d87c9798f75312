"""Named reasons to give a trial up, judged on the numbers that it logs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from distgan.sweeps.plan import StopRule

Line = Mapping[str, Any]
"""A line of metrics.jsonl: numbers by name, None where one is not finite, and `round`."""


class Watcher:
    """Reads a trial's lines in order and says when a rule is broken."""

    def __init__(self, rules: Mapping[str, StopRule], first_round: int = 0) -> None:
        """`first_round` is where the trial began: rules count its own rounds."""
        self._rules, self._first_round = rules, first_round
        self._broken = dict.fromkeys(rules, 0)
        self._firsts: dict[str, float] = {}

    def read(self, line: Line) -> str | None:
        """The reason to stop, or None: `repetition: generator/repeats 0.41 above 0.3`."""
        for name, rule in self._rules.items():
            if rule.metric != "*" and rule.metric not in line:
                continue
            found = self._complaint(rule, line)
            late = int(line["round"]) - self._first_round > rule.after
            self._broken[name] = self._broken[name] + 1 if found and late else 0
            if self._broken[name] >= rule.times:
                often = f", {rule.times} times in a row" if rule.times > 1 else ""
                return f"{name}: {found}{often}, round {line['round']}"
        return None

    def _complaint(self, rule: StopRule, line: Line) -> str | None:
        if rule.metric == "*":
            return next((f"{k} is not finite" for k, v in line.items() if v is None), None)
        value = line[rule.metric]
        if value is None or not math.isfinite(value):
            return f"{rule.metric} is not finite"
        unit = abs(self._firsts.setdefault(rule.metric, value)) if rule.of_first else 1.0
        times = " of the first" if rule.of_first else ""
        if rule.below is not None and value < rule.below * unit:
            return f"{rule.metric} {value:.4g} below {rule.below:g}{times}"
        if rule.above is not None and value > rule.above * unit:
            return f"{rule.metric} {value:.4g} above {rule.above:g}{times}"
        return None
