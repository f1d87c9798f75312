"""ATTEND-GAN on every backend and every critic trains as in one process; the table is printed.

In float32, as ZeRO-0 refuses more, over few rounds and a small vocabulary, so that every sampled
word is the same. By SGD: of a gradient that is nothing but rounding (a bias that a softmax, or the
difference of two means, cancels) Adam makes whole steps.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from ranks import run_on_ranks
from tiny_captioning import JOINT, TEXT_CRITIC, Outcome, play_config, play_configs, tiny
from tiny_runs import complaints, distance

from distgan.engine.world import World

pytest.importorskip("deepspeed", reason="deepspeed is not installed")
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("deepspeed")]

TOLERANCE = 1e-5
"""Of a weight: what float32 may differ by after all stages."""

SGD = (
    "method.generator.optimizer={name: sgd, lr: 0.1, momentum: 0.9, ema: 0.9}",
    "method.critic_batch=9",
    "method.batch=10",
    "method.critic_steps=1",
    "method.d_steps=1",
    "data.style=all",
)
CRITICS = {
    "joint GRU, BCE": (*JOINT, "method.critic.optimizer={name: sgd, lr: 0.5, momentum: 0.9}"),
    "TextCNN, Wasserstein, clipped": (
        *TEXT_CRITIC,
        "method.critic.optimizer={name: sgd, lr: 0.05, clip_weights: 0.04}",
    ),
    "TextCNN, WGAN-GP": (
        *TEXT_CRITIC,
        "method.critic.penalty=10",
        "method.critic.optimizer={name: sgd, lr: 0.001}",
        "method.baseline=batch",
    ),
}
TWICE = ("engine.accumulate=2",)
ZERO = {f"ZeRO-{z}": ("engine.backend=deepspeed", f"engine.zero={z}") for z in range(4)}
MIXED = (
    "engine.networks.discriminator={backend: deepspeed, zero: 2, offload: cpu}",
    "engine.networks.generator.backend=ddp",
)
ON_TWO = {
    "DDP x2": (),
    "DDP x2, accumulate 2": TWICE,
    **{f"{name} x2": words for name, words in ZERO.items()},
    **{f"ZeRO-{z} x2, accumulate 2": (*ZERO[f"ZeRO-{z}"], *TWICE) for z in (2, 3)},
    "generator DDP, critic ZeRO-2 on the host": MIXED,
}


def config(shapes: Path, critic: str, words: tuple[str, ...], size: int):
    return tiny(shapes, *SGD, *CRITICS[critic], *words, f"engine.workers={size}")


def play_all(shapes: Path, critic: str) -> dict[str, list[Outcome]]:
    """What every rank made of the stages, by backend."""
    found = {}
    for size, backends in ((1, {"accumulate 2": TWICE}), (2, ON_TWO), (4, {"DDP x4": ()})):
        configs = [config(shapes, critic, words, size) for words in backends.values()]
        ranks = run_on_ranks(size, play_configs, configs, seconds=600)
        for number, name in enumerate(backends):
            found[name] = [outcomes[number] for outcomes in ranks]
    return found


@pytest.mark.parametrize("critic", CRITICS)
def test_every_backend_trains_as_one_process(critic, shapes, capsys):
    one = play_config(World.local(), config(shapes, critic, (), 1))
    moved = min(distance(one.trace.end[n], one.trace.start[n]) for n in one.trace.end)
    assert moved > 100 * TOLERANCE, "agreement means nothing where nothing happened"
    assert any(bool(earned.any()) for earned in one.earned), "nothing was earned"
    lines, bad = [], []
    for name, ranks in play_all(shapes, critic).items():
        gaps = {net: distance(one.trace.end[net], ranks[0].trace.end[net]) for net in one.trace.end}
        said = complaints(one.trace, [outcome.trace for outcome in ranks], TOLERANCE / moved)
        said += [f"{net} ends {gap:.1e} apart" for net, gap in gaps.items() if gap > TOLERANCE]
        lines.append(f"{critic:30} {name:42} {max(gaps.values()):8.1e}  {said or 'equal words'}")
        bad += [f"{name}: {what}" for what in said]
        for number, whole in enumerate(one.earned):
            shares = torch.cat([outcome.earned[number] for outcome in ranks])
            torch.testing.assert_close(shares, whole, rtol=0, atol=1e-4)
    with capsys.disabled():
        print("", *lines, sep="\n")
    assert bad == []
