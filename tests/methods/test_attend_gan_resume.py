"""Killed in any stage, a run of ATTEND-GAN ends in the bits of an uninterrupted one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from ranks import RanksFailed, run_on_ranks
from tiny_captioning import TINY, same_bits, tiny

from distgan.config import Config
from distgan.engine.checkpoint import find, load
from distgan.engine.world import World
from distgan.methods.training import train

LAUNCH = Path(__file__).resolve().parents[2] / "launch/train.py"

# Checkpoints at rounds 2, 3, 4, 6, 8, 9, 10 and 12: every two, and at the end of a stage.
DROPPING = (
    "method.generator.dropout=0.3",
    "method.critic.dropout=0.3",
    "method.critic.word_dropout=0.2",
    "method.critic.swapped=0.2",
    "method.generator.optimizer.ema=0.5",
    "method.rollout.ema=0.5",
    "method.pool=20",
    "method.critic_batch=7",
    *(f"method.{name}=3" for name in ("factual_steps", "style_steps", "critic_steps", "rounds")),
    "checkpoint.every=2",
)
KILLED = (2, 5, 7, 11)
"""After these rounds, one in each stage, before anything is saved there."""


def play(world: World, config: Config, folder: Path, last: int) -> bool:
    """Start or resume a run; the last rank dies after round `last`, if that is above 0."""
    saved = sorted((folder / "checkpoints").glob("step-*"))
    done = int(saved[-1].name[5:13]) if saved else 0

    def should_stop() -> bool:
        nonlocal done
        done += 1
        if done == last and world.rank == world.size - 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return False

    return train(config, folder, world, resume=True, should_stop=should_stop).finished


def numbers(folder: Path) -> list[dict[str, Any]]:
    """What was logged, without what the clock said."""
    found = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if not k.startswith("seconds")} for line in found]


def ended_alike(folder: Path, whole: Path) -> None:
    one, other = load(find(folder)), load(find(whole))
    for part in ("progress", "streams", "learners", "extra"):
        assert same_bits(one[part], other[part]), part
    assert len(one["extra"]["pool"]["image"]) == 20
    assert numbers(folder) == numbers(whole)


@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 3, 4])
def test_killed_in_every_stage(size, shapes, tmp_path):
    config, whole, folder = tiny(shapes, *DROPPING), tmp_path / "whole", tmp_path / "cut"
    assert run_on_ranks(size, play, config, whole, 0) == [True] * size
    for last, saved in zip(KILLED, (0, 4, 6, 10), strict=True):
        with pytest.raises(RanksFailed) as caught:
            run_on_ranks(size, play, config, folder, last)
        assert caught.value.exit_codes[size - 1] == -signal.SIGKILL, caught.value
        if saved:
            assert int(find(folder).name[5:13]) == saved
    assert run_on_ranks(size, play, config, folder, 0) == [True] * size
    ended_alike(folder, whole)


@pytest.mark.slow
def test_another_number_of_ranks_goes_on_alike(shapes, tmp_path):
    """In float64 without dropout: 2 ranks, then 4, then 1, as 1 alone."""
    exact = ("engine.precision=float64", "method.pool=20", "method.critic_batch=9")
    longer = [word for word in DROPPING if word.endswith(("=3", "every=2"))]
    config = tiny(shapes, *exact, *longer)
    whole, folder = tmp_path / "whole", tmp_path / "cut"
    assert run_on_ranks(1, play, config, whole, 0) == [True]
    for size, last in ((2, 8), (4, 11)):
        with pytest.raises(RanksFailed):
            run_on_ranks(size, play, config, folder, last)
    assert run_on_ranks(1, play, config, folder, 0) == [True]
    one, other = load(find(folder)), load(find(whole))
    assert same_bits(one["streams"], other["streams"])
    assert same_bits(one["extra"]["pool"], other["extra"]["pool"]), "the same words"
    for name, learner in other["learners"].items():
        for key, value in learner["network"].items():
            gap = (one["learners"][name]["network"][key] - value).abs().max()
            assert gap < 1e-9, (name, key)


def launch(shapes: Path, out: Path, name: str, *more: str) -> subprocess.Popen[str]:
    """`launch/train.py --local` on the tiny config, stages long enough to be interrupted."""
    words = [str(TINY), f"data.path={shapes}", f"out={out}", *DROPPING, "method.rounds=30"]
    return subprocess.Popen(
        [sys.executable, str(LAUNCH), *words, "--local", "--name", name, *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def kill_when_logged(process: subprocess.Popen[str], run: Path, round: int) -> None:
    """SIGKILL once the metrics tell of that round."""
    deadline = time.monotonic() + 300
    log = run / "metrics.jsonl"
    while not (log.exists() and f'"round": {round},' in log.read_text()):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline, f"round {round} was not reached"
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()


@pytest.mark.slow
def test_a_local_run_killed_from_outside_goes_on_with_resume(shapes, tmp_path):
    done = launch(shapes, tmp_path, "whole")
    assert done.wait() == 0, done.communicate()[0]
    kill_when_logged(launch(shapes, tmp_path, "cut"), tmp_path / "cut", 5)
    kill_when_logged(launch(shapes, tmp_path, "cut", "--resume"), tmp_path / "cut", 17)
    again = launch(shapes, tmp_path, "cut")
    assert again.wait() == 2 and "name=cut is in use" in again.communicate()[0]
    last = launch(shapes, tmp_path, "cut", "--resume")
    assert last.wait() == 0, last.communicate()[0]
    assert "resumed at round" in last.communicate()[0]
    ended_alike(tmp_path / "cut", tmp_path / "whole")
