"""A mistyped objective is told by its name."""

from __future__ import annotations

import json
from pathlib import Path

from distgan.sweeps.journal import Journal
from distgan.sweeps.plan import Objective, Sweep
from distgan.sweeps.results import complaints


def test_an_objective_that_nobody_logs_is_told_once(tmp_path: Path) -> None:
    aims = (Objective(metric="val/joint"), Objective(metric="val/jiont"))
    journal, plan = Journal(tmp_path), Sweep(objectives=aims)
    assert complaints(journal, plan) == []
    for number in range(2):
        journal.begin(number, {})
        line = json.dumps({"round": 1, "val/joint": None})
        (journal.run(number) / "metrics.jsonl").write_text(line + "\n")
    said = "objectives: no trial has logged val/jiont; did you mean val/joint?"
    assert complaints(journal, plan) == [said]
