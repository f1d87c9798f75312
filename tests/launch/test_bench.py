"""The benchmark compares forms that do the same work."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


SIZES = {
    "batch": 3,
    "words": 40,
    "max-length": 6,
    "mean-length": 6,
    "rollouts": 2,
    "regions": 4,
    "features": 8,
    "hidden": 16,
    "attention": 8,
    "repeat": 1,
}
WORDS = [word for name, size in SIZES.items() for word in (f"--{name}", str(size))]


def test_rollouts_are_timed_against_the_naive_form_and_the_floor(tmp_path: Path) -> None:
    out = tmp_path / "rollouts.json"
    program = [sys.executable, ROOT / "launch/bench.py", "rollouts", *WORDS, "--json", out]
    subprocess.run(program, cwd=tmp_path, check=True, capture_output=True)
    told = json.loads(out.read_text())
    assert told["settings"]["batch"] == "3"
    assert told["naive_steps"] == 2 * 5 * 6
    assert told["naive_row_steps"] == told["naive_steps"] * 3
    assert told["batched_row_steps"] < told["naive_row_steps"] / 2
    assert told["completions"] > 0 and told["completions_that_differ"] == 0
    assert min(told[f"{form}_seconds"] for form in ("naive", "batched", "floor")) > 0


def test_a_round_is_timed_phase_by_phase(tmp_path: Path) -> None:
    out = tmp_path / "step.json"
    program = [sys.executable, ROOT / "launch/bench.py", "step", *WORDS, "--json", out]
    subprocess.run(program, cwd=tmp_path, check=True, capture_output=True)
    told = json.loads(out.read_text())
    phases = [told[f"{name}_seconds"] for name in ("sample", "rollouts", "generator", "critic")]
    assert min(phases) > 0 and abs(sum(phases) - told["round_seconds"]) < 1e-9
