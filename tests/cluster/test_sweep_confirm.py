"""Confirming: the runs that are compared are those of the winner of today."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ray")

from swept_gan import SweptConfig

from distgan.cluster import confirm as confirming
from distgan.config import Config
from distgan.sweeps.journal import Journal
from distgan.sweeps.plan import Objective, Settings, Sweep
from distgan.sweeps.space import Domain

PLAN = Sweep(search={"a": Domain(grid=(1, 2))}, objectives=(Objective(metric="score"),))


def play(journal: Journal, number: int, settings: Settings, score: float) -> None:
    journal.begin(number, settings)
    line = json.dumps({"round": 1, "score": score})
    (journal.run(number) / "metrics.jsonl").write_text(line + "\n")
    journal.end(number, "finished", "")


def play_all(
    plan: Sweep, base: Config, folder: Path, *, points: Sequence[Settings], **_: Any
) -> bool:
    """A sweep whose trials score their setting, on no cluster; what has ended stays."""
    journal = Journal(folder)
    for number, settings in enumerate(points):
        if number not in journal.trials:
            play(journal, number, settings, float(settings.get("a", 0)))
    return True


def test_another_winner_has_runs_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(confirming, "sweep", play_all)
    for number in (0, 1):  # each beats the one before
        play(Journal(tmp_path), number, {"a": number + 1}, float(number + 1))
        assert confirming.confirm(PLAN, Config(method=SweptConfig()), tmp_path, 2)
        told = json.loads((tmp_path / "confirmed.json").read_text())
        assert told["trial"] == number and told["settings"] == {"a": number + 1}
        assert told["winner"] == [{"score": number + 1.0}] * 2
