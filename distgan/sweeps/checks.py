"""What can be known to be wrong with a sweep before it begins."""

from __future__ import annotations

from collections.abc import Sequence

from distgan.config import Config
from distgan.settings import require
from distgan.sweeps import space
from distgan.sweeps.plan import Settings, Sweep, trial_config

CHECKED = 20  # draws of the space whose configs are made


def check(plan: Sweep, base: Config, points: Sequence[Settings] | None = None) -> None:
    """Raise a ValueError for settings no run takes, or an objective that nobody would log."""
    require(bool(plan.search), "search", dict(plan.search), "at least one key")
    require(bool(plan.objectives), "objectives", plan.objectives, "at least one metric")
    shared = trial_config(base, plan, {})
    for objective in plan.objectives:
        if objective.metric.startswith("val/") and not shared.log.evaluate_every:
            raise ValueError(
                f"objectives: {objective.metric} needs settings: {{log.evaluate_every: N}}"
            )
    if points is None:
        space.check(plan.search)
        listed = space.grid(plan.search) if plan.searcher == "grid" else []
        points = listed or [space.draw(plan.search, plan.seed, n) for n in range(CHECKED)]
    for settings in points:
        try:
            trial_config(base, plan, settings)
        except ValueError as error:
            raise ValueError(f"search: {error}") from error
