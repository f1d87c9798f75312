"""The benchmark compares forms that do the same work."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from distgan.data.importers.folder import FolderOfImages, FolderOptions
from distgan.data.shards import WriteOptions, write_dataset

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
    program = [sys.executable, ROOT / "launch/bench.py", "rollouts", *WORDS]
    program += ["--ranks", "2", "--json", out]
    subprocess.run(program, cwd=tmp_path, check=True, capture_output=True)
    told = json.loads(out.read_text())
    assert told["settings"]["batch"] == "3"
    assert told["naive_row_steps"] == 2 * 5 * 6 * 3
    assert told["natural_row_steps"] <= told["row_steps"] <= 3 * 6 + 2 * (4 + 3 + 2 + 1) * 3
    assert told["completions"] == 3 * 5 and told["completions_that_differ"] == 0
    assert min(told[f"{form}_s"] for form in ("naive", "batched", "ours", "floor")) > 0
    assert told["versions"]["torch"] and 0 <= told["idle_share_of_2_ranks"] < 1


def test_a_round_is_timed_phase_by_phase(tmp_path: Path) -> None:
    out = tmp_path / "step.json"
    program = [sys.executable, ROOT / "launch/bench.py", "step", *WORDS, "--json", out]
    subprocess.run(program, cwd=tmp_path, check=True, capture_output=True)
    told = json.loads(out.read_text())
    phases = [
        told[f"{name}_seconds"]
        for name in ("look", "sample", "rollouts", "scoring", "generator", "critic")
    ]
    assert min(phases) > 0 and abs(sum(phases) - told["round_seconds"]) < 1e-9


@pytest.mark.slow
def test_loaders_are_compared_on_the_same_photographs(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    (tmp_path / "photographs").mkdir()
    for i in range(12):
        pixels = rng.integers(0, 255, (60, 80, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"photographs/{i}.jpg")
        (tmp_path / f"photographs/{i}.txt").write_text("a red square\n")
    folder = FolderOfImages(FolderOptions(images=tmp_path / "photographs", fractions=(1, 0, 0)))
    write_dataset(folder, folder.source, tmp_path / "data", WriteOptions())
    sizes = ["--image-size", "32", "--batch", "4", "--images", "8", "--repeat", "1"]
    program = [sys.executable, ROOT / "launch/bench.py", "loader", tmp_path / "data", *sizes]
    done = subprocess.run([*program, "--json"], cwd=tmp_path, check=True, capture_output=True)
    told = json.loads(done.stdout)
    assert min(told[form] for form in ("ours", "bare", "webdataset", "pil")) > 0
    assert told["ours_over_bare"] == told["ours"] / told["bare"]
    assert told["images_in_split"] == 12 and len(told["memory_mib"]) == 10
