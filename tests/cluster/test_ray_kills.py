"""ATTEND-GAN on Ray: in every stage a worker is killed, then the driver; no bit changes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import psutil
import pytest
from ranks import run_on_ranks
from ray_cluster import ROOT, Cluster, ended, final_state, same_bits, until

from distgan.config import Config, load_config
from distgan.data.importers.shapes import Shapes
from distgan.data.shapes.world import ShapesOptions
from distgan.data.shards import WriteOptions, write_dataset
from distgan.engine.world import World
from distgan.methods import CONFIGS
from distgan.methods.training import train

pytest.importorskip("ray")
pytestmark = [pytest.mark.ray, pytest.mark.slow]

TINY = ROOT / "tests/methods/tiny.yaml"
ROUNDS = 20  # of each stage: workers go on for a moment after their driver's death
STAGES = {name: ROUNDS * i for i, name in enumerate(("factual", "style", "critic", "adversarial"))}
LENGTHS = ("factual_steps", "style_steps", "critic_steps", "rounds")
SETTINGS = (
    "method.generator.dropout=0.3",
    "method.critic.word_dropout=0.2",
    "method.critic.swapped=0.2",
    "method.generator.optimizer.ema=0.5",
    "method.pool=20",
    *(f"method.{name}={ROUNDS}" for name in LENGTHS),
    "checkpoint.every=4",
    "engine.cpus_per_worker=0.25",
)


def play_whole(world: World, config: Config, run: Path) -> bool:
    """All stages without a stop and without Ray; for `run_on_ranks`."""
    return train(config, run, world, resume=False).finished


@pytest.mark.parametrize("size", [1, 3, 4])
def test_a_worker_and_the_driver_killed_in_every_stage(
    cluster: Cluster, tmp_path: Path, size: int
) -> None:
    settings = [f"data.path={make_shapes(tmp_path)}", f"engine.workers={size}", *SETTINGS]
    whole, run = tmp_path / "whole", tmp_path / "cut"
    config = load_config(TINY, settings, methods=CONFIGS)
    assert run_on_ranks(size, play_whole, config, whole) == [True] * size
    command = [ROOT / "tests/cluster/slow_attend_gan.py", run, TINY, *settings]
    for number, (stage, first) in enumerate(STAGES.items()):
        started = len(starts(run))
        process = cluster.run(*command)
        wait_for(run, started + size, first + 3, process)
        os.kill(workers(run)[number % size], signal.SIGKILL)
        assert last_line(run)["stage"] == stage
        wait_for(run, started + 2 * size, first + 8, process)
        process.kill()
        assert last_line(run)["stage"] == stage
        until(lambda: not workers(run), cluster.process)
    said, code = ended(cluster.run(*command))
    assert code == 0 and "resumed at round" in said, said
    assert same_bits(final_state(run), final_state(whole))
    assert numbers(run) == numbers(whole)


def make_shapes(folder: Path) -> Path:
    options = ShapesOptions(
        images=48, size=32, styled=12, lines=40, unlabelled=6, val=8, test=4, captions=2
    )
    assert write_dataset(Shapes(options), {"name": "shapes"}, folder / "shapes", WriteOptions())
    return folder / "shapes"


def wait_for(run: Path, workers: int, round: int, process: subprocess.Popen[str]) -> None:
    """Until so many workers were started in all and the last have logged that round or later."""

    def logged() -> bool:
        if len(starts(run)) < workers:
            return False
        log = run / "metrics.jsonl"
        own = log.exists() and log.stat().st_mtime > starts(run)[-1].stat().st_mtime
        return own and last_line(run).get("round", 0) >= round

    until(logged, process)


def last_line(run: Path) -> dict[str, Any]:
    """The last whole line of the metrics, if there is one."""
    path = run / "metrics.jsonl"
    lines = path.read_text().split("\n")[:-1] if path.exists() else []
    if not lines:
        return {}
    line: dict[str, Any] = json.loads(lines[-1])
    return line


def starts(run: Path) -> list[Path]:
    """A file RANK-PID for each worker ever started, in order."""
    return sorted((run / "pids").glob("*"), key=lambda path: path.stat().st_mtime)


def workers(run: Path) -> list[int]:
    """The newest worker of each rank, if it lives: a group that was given up may linger."""
    newest = dict(path.name.split("-") for path in starts(run))
    return [int(pid) for _, pid in sorted(newest.items()) if psutil.pid_exists(int(pid))]


def numbers(run: Path) -> list[dict[str, Any]]:
    """What was logged, without what the clock said."""
    found = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if not k.startswith("seconds")} for line in found]
