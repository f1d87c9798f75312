"""The best settings and the default ones run again on new seeds: what is left of the difference."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from distgan.cluster.shared_stages import Build
from distgan.cluster.tune import sweep
from distgan.config import Config
from distgan.sweeps import results
from distgan.sweeps.journal import Journal
from distgan.sweeps.plan import Sweep
from distgan.sweeps.report import CONFIRMED, differences


def confirm(
    plan: Sweep,
    base: Config,
    folder: Path,
    count: int,
    *,
    should_stop: Callable[[], bool] = lambda: False,
    build: Build | None = None,
) -> bool:
    """Run both on `count` seeds after the base's own, each seed with shared stages of its own.

    They lie in `confirm/trial-WINNER/seed-SEED`: a later winner gets runs of its own.
    Writes `confirmed.json` into the sweep's folder; False if stopped before the end. Raises
    ValueError where the sweep has no winner or a run did not finish.
    """
    winner = results.best(results.rows(Journal(folder), plan), plan)
    if winner is None:
        raise ValueError(f"--confirm: no trial of {folder} has logged the objective")
    warm = replace(plan.warm_start, temperatures=())
    # Nothing is given up early: a default that collapses is part of the answer.
    own = replace(plan, scheduler="none", warm_start=warm, stop={}, max_seconds=None)
    seeds = [base.seed + number for number in range(1, count + 1)]
    found: dict[str, list[dict[str, float]]] = {"default": [], "winner": []}
    for seed in seeds:
        place = folder / "confirm" / f"trial-{winner.number}" / f"seed-{seed}"
        seeded = replace(base, seed=seed)
        points = ({}, winner.settings)
        if not sweep(own, seeded, place, should_stop=should_stop, build=build, points=points):
            return False
        for name, row in zip(found, results.rows(Journal(place), own), strict=True):
            if row.status != "finished":
                raise ValueError(f"--confirm: {name}, seed {seed}: {row.status}: {row.reason}")
            found[name].append(row.values)
    told = {
        "trial": winner.number,
        "settings": winner.settings,
        "seeds": seeds,
        **found,
        "differences": differences(found["default"], found["winner"]),
    }
    (folder / CONFIRMED).write_text(json.dumps(told, indent=1))
    for metric, each in told["differences"].items():
        spread = "" if each["spread"] is None else f" +- {each['spread']:.3g}"
        print(
            f"{metric}: default {each['default']:.4g}, best {each['winner']:.4g}, difference "
            f"{each['difference']:+.3g}{spread} over {count} seeds",
            flush=True,
        )
    return True
