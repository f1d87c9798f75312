"""Overrides reach the dotted keys of a sweep's settings and search."""

from __future__ import annotations

from pathlib import Path

import pytest

from distgan.sweeps.plan import load_sweep
from distgan.sweeps.space import Domain

FILE = """
settings: {method.rounds: 5, log: {every: 1}}
search: {method.g_steps: {grid: [1, 2]}, method.optimizer.lr: {grid: [0.1]}}
"""


def test_the_last_one_wins_however_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "sweep.yaml"
    path.write_text(FILE)
    words = ["search.method.g_steps={grid: [1]}", "search.method.optimizer.lr.grid=[0.2, 0.3]"]
    words += ["settings.method.rounds=7", "settings={log.every: 2}", "settings.log.every=3"]
    plan = load_sweep(path, [*words, "search={method: {d_steps: {grid: [4]}}}"])
    assert plan.settings == {"method.rounds": 7, "log.every": 3}
    assert plan.search == {
        "method.g_steps": Domain(grid=(1,)),
        "method.optimizer.lr": Domain(grid=(0.2, 0.3)),
        "method.d_steps": Domain(grid=(4,)),
    }
    for wrong in ("search.method.g_steps.gird=[1]", "search={method.g_steps: {gird: [1]}}"):
        with pytest.raises(ValueError, match=r"did you mean search\.method\.g_steps\.grid"):
            load_sweep(path, [wrong])
