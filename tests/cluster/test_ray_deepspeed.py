"""DeepSpeed in workers that Ray Train has started, in the process group it has made."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from ranks import run_on_ranks
from ray_cluster import ROOT, Cluster, ended, final_state, has_logged, same_bits, until
from tiny_run import TinyGAN, config_of

from distgan.engine.world import World
from distgan.methods import training

pytest.importorskip("ray")
pytest.importorskip("deepspeed", reason="deepspeed is not installed")
pytestmark = [pytest.mark.ray, pytest.mark.slow]

TINY = ROOT / "tests/cluster/tiny_run.py"
GIVEN = {"workers": "2", "zero": "2", "rounds": "20"}


def train(world: World, run: Path) -> bool:
    (run / "pids").mkdir(exist_ok=True)
    return training.train(config_of(run, GIVEN), run, world, resume=False, build=TinyGAN).finished


def test_a_critic_under_zero_2_survives_a_killed_worker(cluster: Cluster, tmp_path: Path) -> None:
    """To the bit as the same two processes without Ray, and without a kill."""
    run, alone = tmp_path / "ray", tmp_path / "alone"
    for folder in (run, alone):
        folder.mkdir()
    process = cluster.run(TINY, run, *(f"{k}={v}" for k, v in GIVEN.items()), "pause=0.2")
    until(has_logged(run, 15), process)
    newest = max((run / "pids").glob("1-*"), key=lambda path: path.stat().st_mtime)
    os.kill(int(newest.name.split("-")[1]), signal.SIGKILL)
    said, code = ended(process)
    assert code == 0, said
    assert "resumed at" in said
    assert run_on_ranks(2, train, alone) == [True, True]
    assert same_bits(final_state(run), final_state(alone))
