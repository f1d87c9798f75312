"""A trial that is started again, without a cluster: what it tells of what lies in its folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ray")

import torch
from swept_gan import SweptConfig

from distgan.cluster.trial import Task, TrialRun
from distgan.config import Config
from distgan.engine import checkpoint
from distgan.sweeps.plan import Objective, Population, Sweep
from distgan.sweeps.space import Domain

AIM = {"search": {"method.lam": Domain(choice=(1.0,))}, "objectives": (Objective(metric="s"),)}
PBT = Sweep(searcher="random", scheduler="pbt", trials=2, pbt=Population(interval=5), **AIM)


def start(plan: Sweep, folder: Path, generation: int = 1) -> TrialRun:
    trial = TrialRun.__new__(TrialRun)  # its own __init__ is for Tune's processes
    task = Task(plan, Config(method=SweptConfig()), folder, None, 0, None)
    settings: dict[str, Any] = {"method.lam": 1.0}
    told = {"number": 0, "life": 1, "settings": settings, "generation": generation, "seconds": 0}
    trial.setup(told, task)
    return trial


def log(run: Path, *lines: dict[str, Any]) -> Path:
    run.mkdir(parents=True, exist_ok=True)
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return run


def save(run: Path, rounds: int) -> None:
    state = {"progress": {"total_rounds": rounds}, "weights": torch.ones(1)}
    checkpoint.Store(run / "checkpoints").claim().save(rounds, state)


def test_what_was_logged_before_the_start_is_not_told_again(tmp_path: Path) -> None:
    plan = Sweep(scheduler="asha", searcher="random", trials=1, **AIM)
    run = log(tmp_path / "trials/0000", *({"round": n, "s": n / 10} for n in range(1, 5)))
    (run / "outcome.json").write_text('{"finished": true, "metrics": {}}')
    found = start(plan, tmp_path).step()
    assert found["status"] == "finished" and (found["round"], found["s"]) == (4, 0.4)


def test_a_life_that_has_only_its_donors_checkpoint_waits_at_the_border(tmp_path: Path) -> None:
    save(tmp_path / "trials/0000", 5)
    found = start(PBT, tmp_path).step()
    assert "status" not in found and (found["generation"], found["round"]) == (1, 5)
    assert "s" not in found


def test_a_score_is_of_this_generation_and_finite(tmp_path: Path) -> None:
    lines = [{"round": 4, "s": 0.4}, {"round": 8, "s": 0.8}]
    for last, expected in (({"round": 9}, 0.8), ({"round": 9, "s": None}, None)):
        run = log(tmp_path / f"{expected}" / "trials/0000", *lines, last)
        save(run, 10)
        trial = start(PBT, tmp_path / f"{expected}", generation=2)
        assert trial.step().get("s") == expected
    run = log(tmp_path / "old/trials/0000", *lines[:1])
    save(run, 10)
    assert "s" not in start(PBT, tmp_path / "old", generation=2).step(), "the last one's"
