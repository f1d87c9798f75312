"""Killed anywhere, nothing lost: an interrupted run ends in the bits of an uninterrupted one."""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from ranks import RanksFailed, run_on_ranks
from tiny_methods import SAMPLES, Captioner, ImageGAN, TinyConfig, digest, order
from tiny_runs import TOLERANCE, Case, build, copy_weights, distance

from distgan.config import OptimizerConfig
from distgan.engine.checkpoint import find, load
from distgan.engine.world import World
from distgan.methods.training import train

ROUNDS = 6
"""Of each of the captioner's three stages; a checkpoint is written every 2 rounds."""

ADAM = OptimizerConfig(lr=0.01, ema=0.9, warmup_updates=5)
EXACT = TinyConfig(rows=7, rounds=ROUNDS, dropout=0.3, generator=ADAM, discriminator=ADAM)
CAPTIONER = Case(Captioner, EXACT, accumulate=1, precision="float32")
IMAGE_GAN = Case(ImageGAN, replace(EXACT, rounds=18, dropout=0.0), precision="float32")


@dataclass(frozen=True)
class End:
    """How a start of a run ends before its time: after so many rounds, on some ranks.

    `how` is `kill` (SIGKILL between rounds), `stop` (asked to save and leave), or what Python
    does while the next checkpoint is written: the process is killed at that very moment.
    """

    how: str
    after: int
    ranks: tuple[int, ...] = (0,)


def start(world: World, case: Case, folder: Path, end: End | None, seconds: float = 0) -> bool:
    """Start or resume a run; True if it came to its end. `seconds`: die at that time."""
    rounds = 0

    def should_stop() -> bool:
        nonlocal rounds
        rounds += 1
        if end is None or rounds != end.after or world.rank not in end.ranks:
            return False
        if end.how == "kill":
            die()
        if end.how != "stop":
            sys.addaudithook(lambda event, args: die() if is_writing(event, args) else None)
        return end.how == "stop"

    def is_writing(event: str, args: tuple[Any, ...]) -> bool:
        assert end is not None
        return event == end.how and bool(args) and ".partial" in str(args[0])

    if seconds:
        timer = threading.Timer(seconds, die)
        timer.daemon = True
        timer.start()
    return train(
        case.config(), folder, world, resume=True, should_stop=should_stop, build=case.method
    ).finished


def seconds_of_a_start(world: World, case: Case, folder: Path) -> float:
    begin = time.monotonic()
    assert start(world, case, folder, None)
    return time.monotonic() - begin


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def interrupt(size: int, case: Case, folder: Path, end: End) -> int:
    """Start a run that does not come to its end; the round of the checkpoint it leaves."""
    if end.how == "stop":
        assert run_on_ranks(size, start, case, folder, end) == [False] * size
    else:
        with pytest.raises(RanksFailed) as caught:
            run_on_ranks(size, start, case, folder, end)
        codes = caught.value.exit_codes
        assert all(codes[rank] == -signal.SIGKILL for rank in end.ranks), caught.value
    return int(find(folder).name[5:13])


def same_bits(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same_bits(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same_bits, a, b))
    return bool(a == b)


def numbers(folder: Path) -> list[dict[str, float]]:
    """What was logged, without what the clock said."""
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [
        {k: v for k, v in json.loads(line).items() if not k.startswith("seconds")} for line in lines
    ]


def ended_alike(folder: Path, whole: Path, cut_means: tuple[int, ...] = ()) -> None:
    """`cut_means`: rounds whose logged means begin at the resume, not at the line before."""
    one, other = load(find(folder)), load(find(whole))
    for part in ("progress", "streams", "extra", "learners"):
        assert same_bits(one[part], other[part]), part
    for line, other_line in zip(numbers(folder), numbers(whole), strict=True):
        assert line == other_line or line["round"] in cut_means
    assert not list((folder / "checkpoints").glob(".step*")), "no leftovers"


def read_exactly(folder: Path, draws: dict[str, int], case: Case) -> None:
    """Every place of every stream was read once, and held the sample it should."""
    seed = case.config().seed
    state = load(find(folder))["streams"]
    for number, (name, batches) in enumerate(draws.items()):
        position = torch.arange(batches * (case.tiny.rows + 3 * number))
        id = torch.tensor([order(seed + number, SAMPLES, int(p)) for p in position])
        count, mixed = len(position), int(digest(position, id))
        assert state[name] == {"consumed": count, "count": count, "digest": mixed}, name


def check(size: int, tmp_path: Path) -> None:
    """Interrupt a run in each stage, and in writing checkpoints; then let it end."""
    whole, folder = tmp_path / "whole", tmp_path / "cut"
    assert run_on_ranks(size, start, CAPTIONER, whole, None) == [True] * size
    last, everyone = size - 1, tuple(range(size))
    left = [
        interrupt(size, CAPTIONER, folder, end)
        for end in (
            End("kill", 3, (last,)),  # in the first stage
            End("open", 7),  # from 2, writing at 10, in the second: no manifest yet
            End("stop", 5, (last,)),  # at 13, in the third: one rank's wish is everyone's
            End("kill", 2, everyone),  # from 13, at 15
            End("os.rename", 1),  # from 14, writing at 16: whole, but not in its place
        )
    ]
    assert left == [2, 8, 13, 14, 14], "no more than one interval and one write is lost"
    assert run_on_ranks(size, start, CAPTIONER, folder, None) == [True] * size
    ended_alike(folder, whole, cut_means=(14,))
    steps = CAPTIONER.tiny.critic_steps
    draws = {"captions": 2 * ROUNDS, "critiques": ROUNDS + ROUNDS * steps}
    read_exactly(folder, draws, CAPTIONER)
    assert len(os.listdir(folder / "checkpoints" / "attempts")) == 6


def test_one_process_resumes_to_the_same_bits(tmp_path):
    check(1, tmp_path)


@pytest.mark.slow
def test_three_ranks_resume_to_the_same_bits(tmp_path):
    check(3, tmp_path)


@pytest.mark.slow
def test_four_ranks_resume_to_the_same_bits(tmp_path):
    check(4, tmp_path)


@pytest.mark.slow
def test_killed_at_random_moments_three_ranks_end_in_the_same_bits(tmp_path):
    whole, folder = tmp_path / "whole", tmp_path / "cut"
    usual = max(run_on_ranks(3, seconds_of_a_start, IMAGE_GAN, whole))
    chance, kills, finished = random.Random(3), 0, False
    while not finished:
        seconds = usual * chance.uniform(0.2, 0.7) * 1.5**kills
        try:
            finished = all(run_on_ranks(3, start, IMAGE_GAN, folder, None, seconds))
        except RanksFailed as failure:
            assert -signal.SIGKILL in failure.exit_codes.values(), failure
            kills += 1
    assert kills
    ended_alike(folder, whole)
    read_exactly(folder, {"images": 18}, IMAGE_GAN)


@pytest.mark.slow
def test_another_number_of_workers_goes_on_alike(tmp_path):
    case = Case(Captioner, replace(EXACT, rows=10, dropout=0.0), precision="float64")
    whole, folder = tmp_path / "whole", tmp_path / "cut"
    run_on_ranks(1, start, case, whole, None)
    assert interrupt(2, case, folder, End("kill", 5, (1,))) == 4
    assert interrupt(4, case, folder, End("kill", 5, (2,))) == 8
    assert interrupt(1, case, folder, End("kill", 6)) == 12
    assert run_on_ranks(3, start, case, folder, None) == [True] * 3
    one, other = load(find(folder)), load(find(whole))
    assert one["streams"] == other["streams"]
    begun = copy_weights(build(World.local(), case)[1])
    for name, state in other["learners"].items():
        for which, begin in (("network", begun[name]), ("average", begun[f"{name} average"])):
            gap = distance(state[which], one["learners"][name][which])
            assert gap <= TOLERANCE * distance(state[which], begin), (name, which, gap)
    torch.testing.assert_close(one["extra"], other["extra"], rtol=1e-9, atol=0)


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    start(World.local(), CAPTIONER, tmp_path, End("stop", 1))
    longer = replace(CAPTIONER, tiny=replace(EXACT, rounds=7))
    with pytest.raises(ValueError, match="cannot resume: the checkpoint's stages is"):
        start(World.local(), longer, tmp_path, None)
