"""What a round of adversarial captioning says about itself (caption_gans conventions, 7.8).

Every number is one of the global batch, equal on every rank: `total` adds up over ranks.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from distgan.models.decoder import END, PAD
from distgan.rollouts import MonteCarlo

Total = Callable[[Tensor], Tensor]


def push(logits: Tensor, words: Tensor, factor: Tensor) -> Tensor:
    """Squared length of the gradient at the logits of a loss -sum factor log p(word).

    logits (B, T, V), words (B, T), factor broadcastable to (B, T). d/dz is factor (p - onehot):
    its square needs p of the word and the sum of squares only. Shares add up over the batch.
    """
    with torch.no_grad():
        p = logits.detach().softmax(-1)
        chosen = p.gather(-1, words[..., None])[..., 0]
        squares = (p.square().sum(-1) - 2 * chosen + 1).clamp_min(0)
        return (factor.square() * squares * (words != PAD)).sum()


def sampled_facts(
    values: MonteCarlo, advantages: Tensor, words: Tensor, every: Tensor, total: Total
) -> dict[str, Tensor]:
    """Rewards, advantages and the shape of the captions just sampled.

    All are of this rank's share, words (R, T) among them, but `every`: the words of all ranks.
    """
    real = words != PAD
    lengths = real.sum(1)
    captions = total(torch.tensor(float(len(words)), device=words.device))
    count = total(real.sum().double())
    row = torch.arange(len(words), device=words.device)
    q = values.q.double()

    def mean(x: Tensor) -> Tensor:
        return total(x.double().sum()) / captions

    spread = (advantages.double() * real).square().sum()
    ended = (words == END).any(1)
    return {
        "reward": mean(values.score),
        "q_first": mean(q[:, 0]),
        "q_middle": mean(q[row, (lengths - 1) // 2]),
        "q_last": mean(q[row, lengths - 1]),
        "advantage_std": (total(spread) / count).sqrt(),
        "length": mean(lengths),
        "endless": 1 - mean(ended),
        "repeats": mean(_stutters(words, real)),
        "distinct_2": _distinct_bigrams(every),
    }


def gradient_ratio(metrics: dict[str, float]) -> dict[str, float]:
    """|lambda2 grad L1| / |grad L2| at the logits, from a round's squared pushes."""
    policy = metrics.get("generator/policy_push")
    likelihood = metrics.get("generator/mle_push")
    if policy is None or not likelihood:
        return {}
    return {"generator/policy_gradient_ratio": math.sqrt(policy / likelihood)}


def _stutters(words: Tensor, real: Tensor) -> Tensor:
    """Does a caption say a word twice in a row? (B,) bool"""
    return ((words[:, 1:] == words[:, :-1]) & real[:, 1:]).any(1)


def _distinct_bigrams(words: Tensor) -> Tensor:
    """Distinct bigrams over all bigrams of captions (R, T)."""
    both = words[:, 1:] != PAD
    codes = (words[:, :-1] << 32 | words[:, 1:]).masked_fill(~both, -1)
    ordered = codes.flatten().sort().values
    fresh = torch.ones_like(ordered, dtype=torch.bool)
    fresh[1:] = ordered[1:] != ordered[:-1]
    distinct = (fresh & (ordered >= 0)).sum().double()
    return distinct / both.sum().double().clamp_min(1)
