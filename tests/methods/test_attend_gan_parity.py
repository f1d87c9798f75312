"""ATTEND-GAN trains alike on any number of ranks and gradient passes: words, rewards, weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from ranks import run_on_ranks
from tiny_captioning import (
    CLIPPED,
    JOINT,
    TEXT_CRITIC,
    Outcome,
    play_config,
    play_configs,
    tiny,
)
from tiny_runs import complaints

from distgan.config import Config
from distgan.engine.world import World

# 9 and 10 rows leave the shares of four ranks, and their parts, uneven.
EXACT = ("engine.precision=float64", "method.critic_batch=9", "data.style=all")

FEW_STEPS = ("method.critic_steps=1", "method.d_steps=1")  # of a critic with 5 million weights
SEPARATE = ("method.critic.match_samples=0.25",)
CRITICS = {
    "gru, bce, separate heads": SEPARATE,
    "gru, bce, joint": (*JOINT, "method.captions=2", "method.baseline=leave_one_out"),
    # Where every weight and embedding sits on the bound, sums are multiples of its square, and
    # rounding decides on which side of a ReLU an exact zero falls: bound only the larger ones.
    "textcnn, wasserstein, clipped": (
        *TEXT_CRITIC,
        *CLIPPED,
        *FEW_STEPS,
        "method.critic.optimizer.clip_weights=0.5",
    ),
    "textcnn, wasserstein, penalty": (
        *TEXT_CRITIC,
        *FEW_STEPS,
        "method.critic.penalty=10",
        "method.critic.optimizer.lr=0.001",
        "method.baseline=batch",
    ),
    "pool": (*SEPARATE, "method.pool=20", "method.d_steps=3"),
}
ACCUMULATED = "engine.accumulate=2"


def configs(shapes: Path, name: str) -> list[Config]:
    """The case accumulating once and twice."""
    given = (*EXACT, *CRITICS[name])
    return [tiny(shapes, *given), tiny(shapes, *given, ACCUMULATED)]


def differences(one: Outcome, ranks: list[Outcome]) -> list[str]:
    """In what several ranks differ from one; empty if in nothing."""
    found = complaints(one.trace, [outcome.trace for outcome in ranks])
    for number, whole in enumerate(one.earned):
        shares = torch.cat([outcome.earned[number] for outcome in ranks])
        if not torch.allclose(whole, shares, rtol=0, atol=1e-9):
            found.append(f"the advantages of update {number} differ")
    for outcome in ranks:
        for mine, theirs in zip(one.facts, outcome.facts, strict=True):
            found += [k for k, v in mine.items() if theirs[k] != pytest.approx(v, rel=1e-9)]
    return found


def compare(shapes: Path, name: str, size: int) -> None:
    cases = configs(shapes, name)
    one = play_config(World.local(), cases[0])
    assert any(bool(earned.any()) for earned in one.earned), "nothing was earned"
    ranks = run_on_ranks(size, play_configs, cases)
    for case in range(len(cases)):
        assert differences(one, [outcomes[case] for outcomes in ranks]) == [], (name, case)


def test_two_ranks_train_as_one(shapes):
    compare(shapes, "gru, bce, separate heads", 2)


@pytest.mark.slow
@pytest.mark.parametrize("name", list(CRITICS))
@pytest.mark.parametrize("size", [1, 2, 4])
def test_ranks_train_as_one_with_every_critic(shapes, name, size):
    compare(shapes, name, size)


def test_the_stages_move_both_networks(shapes):
    """Agreement means nothing where nothing happened."""
    trace = play_config(World.local(), tiny(shapes, *EXACT)).trace
    for network, end in trace.end.items():
        still = [key for key, value in end.items() if value.equal(trace.start[network][key])]
        assert still == [], network
