"""The number of workers and of gradient passes does not change training."""

from __future__ import annotations

import pytest
from ranks import run_on_ranks
from tiny_methods import Captioner, ImageGAN, TinyConfig, Wasserstein
from tiny_runs import Case, complaints, play_case, play_cases, with_accumulate

from distgan.config import OptimizerConfig
from distgan.engine.world import World

ADAM = OptimizerConfig(lr=0.01, ema=0.9)
SGD = OptimizerConfig(name="sgd", lr=0.3, momentum=0.9, clip_norm=0.5)
CLIPPED = OptimizerConfig(name="rmsprop", lr=0.01, clip_weights=0.1)

CASES = {
    "captioner": Case(Captioner, TinyConfig(rows=7, generator=ADAM, discriminator=SGD)),
    "captioner by sgd": Case(Captioner, TinyConfig(rows=10, generator=SGD, discriminator=ADAM)),
    "image gan": Case(ImageGAN, TinyConfig(rows=10, rounds=6, generator=ADAM)),
    "penalty": Case(Wasserstein, TinyConfig(rows=7, rounds=6, critic_steps=3, generator=ADAM)),
    "clipped": Case(Wasserstein, TinyConfig(rows=10, rounds=6, discriminator=CLIPPED)),
}


def check(size: int) -> None:
    cases = with_accumulate(CASES, size)
    ranks = run_on_ranks(size, play_cases, list(cases.values()))
    for number, (name, case) in enumerate(cases.items()):
        one = play_case(World.local(), CASES[name.partition(",")[0]])
        assert complaints(one, [traces[number] for traces in ranks]) == [], (name, case)


def test_two_ranks_train_as_one():
    check(2)


@pytest.mark.slow
def test_four_ranks_train_as_one():
    check(4)


def test_accumulating_changes_nothing():
    for name, case in with_accumulate(CASES, 1).items():
        one = play_case(World.local(), CASES[name.partition(",")[0]])
        assert complaints(one, [play_case(World.local(), case)]) == [], name


def test_the_runs_did_something():
    """Agreement means nothing where nothing happened."""
    for name, case in CASES.items():
        trace = play_case(World.local(), case)
        for network in trace.end:
            moved = [
                not trace.end[network][key].equal(trace.start[network][key])
                for key in trace.end[network]
            ]
            assert all(moved), (name, network)
        assert trace.drawn, name
