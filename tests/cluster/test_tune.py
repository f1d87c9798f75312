"""Sweeps on a real Ray cluster: killed anywhere they go on, and populations really change."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ray_cluster import PATIENCE, ROOT, Cluster, ended, final_state, has_logged, same_bits, until

from distgan.data.importers.shapes import Shapes
from distgan.data.shapes.world import ShapesOptions
from distgan.data.shards import WriteOptions, write_dataset
from distgan.engine.checkpoint import load
from distgan.sweeps.journal import PERTURBATIONS, Journal, read_lines

pytest.importorskip("ray")
pytestmark = [pytest.mark.ray, pytest.mark.slow]

TINY = ROOT / "tests/cluster/tiny_sweep.py"
SAME = "search={checkpoint.keep: {grid: [5, 6, 7]}}"  # three trials that train alike


def run_sweep(cluster: Cluster, folder: Path, *words: str) -> subprocess.Popen[str]:
    path = f"{ROOT}{os.pathsep}{TINY.parent}"
    return cluster.run(TINY, folder, *words, PYTHONPATH=path)


def nothing_is_left(said: str) -> bool:
    return '\nleft behind: {"groups": [], "cpus": 0.0, "actors": []}' in said


def test_a_trial_that_raises_is_told_and_the_rest_go_on(cluster: Cluster, tmp_path: Path) -> None:
    search = "search={method.lam: {grid: [0.5, 1.0]}, method.broken: {grid: [false, true]}}"
    said, code = ended(run_sweep(cluster, tmp_path, search, "max_concurrent=2"))
    assert code == 0, said
    trials = Journal(tmp_path).trials
    assert [trials[n].status for n in range(4)] == ["finished", "failed"] * 2, said
    assert "ValueError: method.broken=True: as the test wants it" in trials[3].reason
    assert "4 of 4 trials have ended" in said and nothing_is_left(said)
    assert Journal(tmp_path).lines(2)[-1]["val/lam"] == 1.0
    assert "lam: 1.0" in (tmp_path / "best.yaml").read_text()


def test_killed_drivers_and_workers_repeat_nothing(cluster: Cluster, tmp_path: Path) -> None:
    words = (SAME, "max_concurrent=1", "settings.method.pause=0.2")
    runs = [tmp_path / f"trials/{number:04d}" for number in range(3)]
    process = run_sweep(cluster, tmp_path, *words)
    until(has_logged(runs[1], 10), process)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()

    process = run_sweep(cluster, tmp_path, *words)
    until(has_logged(runs[2], 10), process)
    starts = read_lines(tmp_path / "starts.jsonl")
    os.kill([line["pid"] for line in starts if line["run"] == "0002"][-1], signal.SIGKILL)
    said, code = ended(process)
    assert code == 0 and nothing_is_left(said), said

    told = [(run / "log.txt").read_text() for run in runs]
    assert ["resumed at" in log for log in told] == [False, True, True]
    assert "its process died" in told[2]
    attempts = [len(list((run / "checkpoints/attempts").iterdir())) for run in runs]
    assert attempts[0] == 1, "a trial that has ended is not run again"
    for run in runs[1:]:
        assert same_bits(final_state(run), final_state(runs[0]))
    assert [trial.status for trial in Journal(tmp_path).trials.values()] == ["finished"] * 3


def test_a_population_takes_the_donors_bits_and_another_schedule(
    cluster: Cluster, tmp_path: Path
) -> None:
    search = (
        "search={method.lam: {loguniform: [0.1, 10.0]}, method.g_steps: {integer: [1, 4]}, "
        "method.optimizer.lr: {loguniform: [0.001, 0.1]}}"
    )
    words = (search, "searcher=random", "scheduler=pbt", "trials=2", "settings.checkpoint.keep=50")
    said, code = ended(run_sweep(cluster, tmp_path, *words, "pbt={interval: 8, quantile: 0.5}"))
    assert code == 0 and nothing_is_left(said), said
    starts = read_lines(tmp_path / "starts.jsonl")
    taken = read_lines(tmp_path / PERTURBATIONS)
    assert [each["round"] for each in taken] == [8, 16]
    for each in taken:
        donors = load(tmp_path / each["checkpoint"])
        assert donors["progress"]["total_rounds"] == each["round"]
        first = next(line for line in starts if line["run"] == Path(each["run"]).name)
        assert first["weights"] == weights(donors)
        new = {key: value for key, (_, value) in each["settings"].items()}
        assert first["lam"] == new["method.lam"] != each["donors_settings"]["method.lam"]
        assert first["g_steps"] == new["method.g_steps"]
        assert first["lr"] == new["method.optimizer.lr"]
        lines = Journal(tmp_path).lines(each["who"])
        lams = {x["round"]: x["val/lam"] for x in lines if "val/lam" in x}
        assert lams[each["round"]] == each["settings"]["method.lam"][0]
        assert lams[min(each["round"] + 8, 24)] == new["method.lam"]
    for number in (0, 1):
        rounds = [line["round"] for line in Journal(tmp_path).lines(number)]
        assert rounds == sorted(set(rounds)) and rounds[-1] == 24


def weights(state: dict[str, Any]) -> str:
    from swept_gan import digest

    return digest({name: learner["network"] for name, learner in state["learners"].items()})


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    options = ShapesOptions(
        images=60, size=32, styled=10, lines=60, unlabelled=20, val=8, test=8, unseen=0
    )
    out = tmp_path_factory.mktemp("data") / "shapes"
    assert write_dataset(Shapes(options), {"name": "shapes"}, out, WriteOptions())
    return out


def test_a_submitted_sweep_ends_in_a_picture_and_a_config(
    cluster: Cluster, shapes: Path, tmp_path: Path
) -> None:
    small = {"factual_steps": 2, "style_steps": 2, "critic_steps": 2, "rounds": 4, "batch": 8}
    words = [f"settings.method.{key}={value}" for key, value in small.items()]
    words += ["settings.method.critic_batch=8", "settings.data.image_size=32", "scheduler=none"]
    words += [f"settings.data.path={shapes}", f"out={tmp_path}", "settings.log.evaluate_every=2"]
    words += ["settings.log.every=1", "settings.log.evaluate_samples=4", "stop.repetition.above=2"]
    words += ["warm_start.temperatures=[1]"]
    grids = {"g_steps": [1], "d_steps": [1], "lambda_adversarial": [0.5, 2.0]}
    search = ", ".join(f"method.{key}: {{grid: {values}}}" for key, values in grids.items())
    words += [f"search={{{search}}}"]
    submit = ["ray", "job", "submit", "--address", cluster.jobs, "--working-dir", str(ROOT)]
    sweep = "configs/sweeps/attend_gan/shapes.yaml"
    done = subprocess.run(
        [*submit, "--", "python", "launch/tune.py", sweep, *words, "--name", "job", "--confirm=1"],
        env={k: v for k, v in cluster.environment.items() if k != "RAY_ADDRESS"},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    said, folder = done.stdout + done.stderr, tmp_path / "job"
    assert done.returncode == 0, said
    assert f"report: {folder}/report.html" in said and "over 1 seeds" in said
    assert json.loads((folder / "confirmed.json").read_text())["seeds"] == [1]
    starts = {load(path)["progress"]["stage"] for path in folder.glob("trials/*/checkpoints/*a000")}
    assert len(starts) == 1, "every trial begins where the shared stages end"
    assert (folder / "pictures/pareto.png").exists() and (folder / "results.parquet").exists()
    train = [ROOT / "launch/train.py", folder / "best.yaml", "--local", "--name", "again"]
    said, code = ended(cluster.run(*train))
    assert code == 0, said
    best = Path(said.split("finished: ")[1].splitlines()[0])
    number = 0 if "lambda_adversarial: 0.5" in (folder / "best.yaml").read_text() else 1
    assert same_bits(
        final_state(best)["learners"], final_state(folder / f"trials/{number:04d}")["learners"]
    ), "a trial is the whole run, bit for bit, though its first stages were shared"
