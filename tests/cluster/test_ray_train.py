"""Training on a real Ray cluster: workers and drivers are killed, nothing is lost."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from ray_cluster import PATIENCE, ROOT, Cluster, ended, final_state, has_logged, same_bits, until

from distgan.data.importers.shapes import Shapes
from distgan.data.shapes.world import ShapesOptions
from distgan.data.shards import WriteOptions, write_dataset

pytest.importorskip("ray")
pytestmark = [pytest.mark.ray, pytest.mark.slow]

TINY = ROOT / "tests/cluster/tiny_run.py"


@pytest.fixture(scope="module")
def uninterrupted(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    run = tmp_path_factory.mktemp("uninterrupted")
    said, code = ended(cluster.run(TINY, run, "workers=3"))
    assert code == 0, said
    return final_state(run)


def pids(run: Path) -> dict[int, int]:
    """The newest worker of each rank."""
    files = sorted((run / "pids").iterdir(), key=lambda path: path.stat().st_mtime)
    return {int(path.name.split("-")[0]): int(path.name.split("-")[1]) for path in files}


def test_a_killed_worker_changes_nothing(
    cluster: Cluster, uninterrupted: dict[str, Any], tmp_path: Path
) -> None:
    process = cluster.run(TINY, tmp_path, "workers=3", "pause=0.2")
    until(has_logged(tmp_path, 25), process)
    os.kill(pids(tmp_path)[1], signal.SIGKILL)
    said, code = ended(process)
    assert code == 0, said
    assert "its process died" in said and "resumed at" in said
    assert same_bits(final_state(tmp_path), uninterrupted)


def test_a_killed_driver_changes_nothing(
    cluster: Cluster, uninterrupted: dict[str, Any], tmp_path: Path
) -> None:
    process = cluster.run(TINY, tmp_path, "workers=3", "pause=0.2")
    until(has_logged(tmp_path, 15), process)
    process.kill()
    process.wait()
    said, code = ended(cluster.run(TINY, tmp_path, "workers=3"))
    assert code == 0, said
    assert "resumed at" in said
    assert same_bits(final_state(tmp_path), uninterrupted)


def test_ctrl_c_saves_and_leaves_and_the_run_goes_on(
    cluster: Cluster, uninterrupted: dict[str, Any], tmp_path: Path
) -> None:
    process = cluster.run(TINY, tmp_path, "workers=3", "pause=0.2", "every=1000")
    until(has_logged(tmp_path, 25), process)
    process.send_signal(signal.SIGINT)
    asked = time.monotonic()
    said, code = ended(process)
    print(f"left {time.monotonic() - asked:.1f} s after the signal")
    assert code == 130, said
    assert "stopping after this round" in said and "finished: False" in said
    assert not (tmp_path / "stop").exists()
    assert final_state(tmp_path)["progress"]["total_rounds"] >= 25
    said, code = ended(cluster.run(TINY, tmp_path, "workers=3"))
    assert code == 0, said
    assert same_bits(final_state(tmp_path), uninterrupted)


def test_sigterm_saves_and_leaves(cluster: Cluster, tmp_path: Path) -> None:
    process = cluster.run(TINY, tmp_path, "workers=1", "pause=0.2", "every=1000", "rounds=1000")
    until(has_logged(tmp_path, 5), process)
    process.send_signal(signal.SIGTERM)
    said, code = ended(process)
    assert code == 143, said
    assert final_state(tmp_path)["progress"]["total_rounds"] >= 5


def test_a_workers_error_is_told_in_one_line(cluster: Cluster, tmp_path: Path) -> None:
    said, code = ended(cluster.run(TINY, tmp_path, "fault=error"))
    assert code == 1
    line = "error: rank 1: ValueError: data.path='shapes': the caption of zebra-17 is empty"
    assert line in said
    assert "Traceback" not in said
    story = (tmp_path / "error.txt").read_text()
    assert line.removeprefix("error: ") == story.splitlines()[0]
    assert "in _misbehave" in story
    attempts = list((tmp_path / "checkpoints/attempts").iterdir())
    assert len(attempts) == 1, "an error that will come again is not tried again"


def test_a_worker_that_keeps_dying_ends_the_run(cluster: Cluster, tmp_path: Path) -> None:
    said, code = ended(cluster.run(TINY, tmp_path, "fault=exit", "max_failures=1"))
    assert code == 1, said
    assert "error: rank 1: its process died" in said
    assert len(list((tmp_path / "checkpoints/attempts").iterdir())) == 2


TRAIN = ROOT / "launch/train.py"
CONFIG = "configs/attend_gan/shapes.yaml"


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    options = ShapesOptions(
        images=60, size=32, styled=10, lines=60, unlabelled=20, val=8, test=8, unseen=0
    )
    out = tmp_path_factory.mktemp("data") / "shapes"
    assert write_dataset(Shapes(options), {"name": "shapes"}, out, WriteOptions())
    return out


def test_a_submitted_job_trains_attend_gan(cluster: Cluster, shapes: Path, tmp_path: Path) -> None:
    settings = [f"data.path={shapes}", f"out={tmp_path}", "engine.workers=2"]
    settings += ["engine.cpus_per_worker=0.5", "engine.threads=1", "data.image_size=32"]
    settings += [f"method.{stage}=2" for stage in ("factual_steps", "style_steps", "rounds")]
    settings += ["method.critic_steps=2", "method.batch=8", "method.critic_batch=8"]
    submit = ["ray", "job", "submit", "--address", cluster.jobs, "--working-dir", str(ROOT)]
    environment = {k: v for k, v in cluster.environment.items() if k != "RAY_ADDRESS"}
    done = subprocess.run(
        [*submit, "--", "python", "launch/train.py", CONFIG, *settings, "--name", "job"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert f"finished: {tmp_path}/job" in said and "adversarial 8/8" in said
    assert final_state(tmp_path / "job")["progress"]["total_rounds"] == 8


@pytest.mark.parametrize(
    ("setting", "line"),
    [
        ("engine.workers=9", "error: engine.workers=9, but the cluster has room for 2: 2 CPUs"),
        ("engine.device=cuda", "error: engine.device=cuda, but the cluster has no GPU"),
    ],
)
def test_a_cluster_too_small_is_told_before_anything_starts(
    cluster: Cluster, shapes: Path, tmp_path: Path, setting: str, line: str
) -> None:
    words = [ROOT / CONFIG, f"data.path={shapes}", f"out={tmp_path}/runs", setting]
    said, code = ended(cluster.run(TRAIN, *words))
    assert code == 2, said
    assert line in said and "Traceback" not in said
    assert not (tmp_path / "runs").exists()


def test_a_wrong_address_and_a_missing_token(
    cluster: Cluster, shapes: Path, tmp_path: Path
) -> None:
    words = [TRAIN, ROOT / CONFIG, f"data.path={shapes}", f"out={tmp_path}/runs"]
    said, code = ended(cluster.run(*words, RAY_ADDRESS=cluster.jobs))
    assert code == 2, said
    assert f"error: RAY_ADDRESS={cluster.jobs} is where jobs are submitted" in said
    said, code = ended(cluster.run(*words, RAY_AUTH_MODE="disabled"))
    assert code == 2, said
    assert "no Ray cluster answers there, or it asks for its token" in said
    assert "Traceback" not in said
