"""Settings that the shared stages depend on are refused before those are played."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ray")

from swept_gan import Swept, SweptConfig

from distgan.cluster.shared_stages import check_shared
from distgan.config import Config
from distgan.sweeps.plan import Objective, Sweep, WarmStart
from distgan.sweeps.space import Domain

PLAN = Sweep(objectives=(Objective(metric="s"),), warm_start=WarmStart(stages=("critic",)))
REFUSED = [
    ("method.rounds", Domain(grid=(24, 30)), r"search.method.rounds=30 changes the run's stages"),
    ("method.optimizer.name", Domain(choice=("adam", "sgd")), "'sgd' changes the run's optimizers"),
]
TAKEN = {"method.lam": Domain(uniform=(0.1, 2.0)), "method.g_steps": Domain(integer=(1, 4))}


def check(folder: Path, search: dict[str, Domain], **changes: Any) -> None:
    base = Config(method=SweptConfig(rounds=24, pids=str(folder), folder=str(folder)))
    plan = replace(PLAN, searcher="random", trials=4, search=search, **changes)
    check_shared(plan, base, None, Swept)


@pytest.mark.parametrize(("key", "domain", "message"), REFUSED)
def test_keys_of_the_shared_stages_are_refused(
    tmp_path: Path, key: str, domain: Domain, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        check(tmp_path, TAKEN | {key: domain})
    check(tmp_path, {key: domain}, warm_start=WarmStart())


def test_keys_of_later_stages_are_taken(tmp_path: Path) -> None:
    check(tmp_path, TAKEN)
