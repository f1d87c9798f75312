"""The numbers of a round, against slow and obvious counting."""

from __future__ import annotations

import math

import pytest
import torch

from distgan.losses import mle, policy_gradient, word_log_probs
from distgan.methods.round_facts import gradient_ratio, push, sampled_facts
from distgan.rollouts import MonteCarlo

WORDS = torch.tensor([[5, 6, 5, 2, 0], [7, 7, 7, 7, 7], [5, 6, 2, 0, 0], [2, 0, 0, 0, 0]])


def identity(x: torch.Tensor) -> torch.Tensor:
    return x


@pytest.fixture
def facts() -> dict[str, float]:
    q = torch.arange(20.0, dtype=torch.float64).view(4, 5) * (WORDS != 0)
    values = MonteCarlo(q, None, torch.tensor([1.0, 2.0, 3.0, 6.0]).double())
    A = (q - 7) * (WORDS != 0)
    made = sampled_facts(values, A, WORDS, WORDS, identity)
    return {name: float(value) for name, value in made.items()}


def test_facts_of_a_batch(facts):
    spread = [q - 7 for q in (0, 1, 2, 3, 5, 6, 7, 8, 9, 10, 11, 12, 15)]
    expected = {
        "reward": 3.0,
        "q_first": (0 + 5 + 10 + 15) / 4,
        "q_middle": (1 + 7 + 11 + 15) / 4,
        "q_last": (3 + 9 + 12 + 15) / 4,
        "advantage_std": math.sqrt(sum(a * a for a in spread) / 13),
        "length": (4 + 5 + 3 + 1) / 4,
        "endless": 1 / 4,
        "repeats": 1 / 4,
        # 5 6, 6 5, 5 2, 7 7, 6 2 among 3 + 4 + 2 pairs
        "distinct_2": 5 / 9,
    }
    assert facts == pytest.approx(expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_push_is_the_squared_gradient_at_the_logits(dtype):
    torch.manual_seed(0)
    logits = torch.randn(4, 5, 9, dtype=dtype)
    logits[..., [0, 1, 3]] = -torch.inf  # barred
    logits.requires_grad_()
    weight = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)
    A = torch.randn(4, 5, dtype=torch.float64)
    losses = {
        "mle": (mle(logits, WORDS, weight), weight[:, None]),
        "policy": (
            policy_gradient(word_log_probs(logits, WORDS), A, WORDS, weight),
            weight[:, None] * A,
        ),
    }
    for name, (loss, factor) in losses.items():
        (gradient,) = torch.autograd.grad(loss, logits, retain_graph=True)
        expected = gradient.nan_to_num(0).double().square().sum()
        assert float(push(logits, WORDS, factor)) == pytest.approx(float(expected), rel=1e-5), name


def test_gradient_ratio():
    numbers = {"generator/policy_push": 4.0, "generator/mle_push": 100.0}
    assert gradient_ratio(numbers) == {"generator/policy_gradient_ratio": 0.2}
    assert gradient_ratio({"generator/mle_push": 100.0}) == {}
    assert gradient_ratio({"generator/policy_push": 4.0, "generator/mle_push": 0.0}) == {}
