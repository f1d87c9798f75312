"""From what words are worth to how much to push them: A_t = Q_t - b_t, whitened if asked.

The policy gradient of ATTEND-GAN (Eq. 1) multiplies each word's log-probability by A_t. A baseline
b_t that has not seen x_t leaves its expectation unchanged and takes away variance. A critic that
scores everything alike must not move the generator: here every mean of equal numbers is that
number to the bit, so `batch`, `prefix` and `leave_one_out` are then exactly zero.

Means are over the global batch. `total` adds a tensor up over the workers (the identity where
there is one); every worker calls these functions alike.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from distgan.models.decoder import PAD
from distgan.rollouts import MonteCarlo, constant_safe_mean

Baseline = Literal["none", "batch", "prefix", "greedy", "leave_one_out"]
Total = Callable[[Tensor], Tensor]


def identity(x: Tensor) -> Tensor:
    """The sum over one worker."""
    return x


def advantages(
    values: MonteCarlo,
    words: Tensor,
    baseline: Baseline,
    *,
    whiten: bool,
    total: Total = identity,
    greedy_score: Tensor | None = None,
    copies: int = 1,
) -> Tensor:
    """A_t (R, T) of words (R, T), zero after each caption's last word.

    `greedy_score` (R,) is the critic's score of the greedy caption of each row's image; `copies`
    is the number of captions an image, neighbours in the batch, for `leave_one_out`.
    """
    real = words != PAD
    b = baselines(values, real, baseline, total=total, greedy_score=greedy_score, copies=copies)
    difference = (values.q - b) * real
    return whitened(difference, real, total, scale=values.q) if whiten else difference


def baselines(
    values: MonteCarlo,
    real: Tensor,
    baseline: Baseline,
    *,
    total: Total = identity,
    greedy_score: Tensor | None = None,
    copies: int = 1,
) -> Tensor:
    """b_t, broadcastable to (R, T); `real` (R, T) bool marks the words that were written."""
    if baseline == "none":
        return torch.zeros_like(values.q)
    if baseline == "batch":
        return mean_by_word(values.q, real, total)
    if baseline == "prefix":
        if values.value_before is None:
            raise ValueError("baseline=prefix needs rollouts of the empty prefix")
        return values.value_before
    if baseline == "greedy":
        if greedy_score is None:
            raise ValueError("baseline=greedy needs the scores of the greedy captions")
        return greedy_score[:, None]
    if baseline == "leave_one_out":
        return leave_one_out(values.score, copies)[:, None]
    raise ValueError(
        f"baseline must be none, batch, prefix, greedy or leave_one_out, got {baseline!r}"
    )


def mean_by_word(q: Tensor, real: Tensor, total: Total = identity) -> Tensor:
    """The mean (T,) of Q_t over the captions of the global batch that have a t-th word."""
    count = total(real.sum(0).to(q.dtype)).clamp_min(1)
    rough = total((q * real).sum(0)) / count
    return rough + total(((q - rough) * real).sum(0)) / count  # exact where all q are equal


def leave_one_out(score: Tensor, copies: int) -> Tensor:
    """The mean score (R,) of the image's other captions; an image has `copies` neighbours."""
    if copies < 2:
        raise ValueError(f"baseline=leave_one_out needs 2 captions an image, got {copies}")
    table = score.view(-1, copies)
    others = [torch.cat([table[:, :i], table[:, i + 1 :]], 1) for i in range(copies)]
    return torch.stack([constant_safe_mean(rest) for rest in others], 1).flatten()


def whitened(advantage: Tensor, real: Tensor, total: Total = identity, *, scale: Tensor) -> Tensor:
    """A divided by its standard deviation over the real words of the global batch.

    Where A spreads no wider than the rounding of `scale` (Q, zero where not `real`), as under a
    saturated critic, it is returned as it is.
    """
    count = total(real.sum().to(advantage.dtype)).clamp_min(1)
    mean, size = total(torch.stack([(advantage * real).sum(), scale.abs().sum()])) / count
    deviation = (total(((advantage - mean).square() * real).sum()) / count).sqrt()
    rounding = 8 * torch.finfo(advantage.dtype).eps * size
    return advantage / torch.where(deviation > rounding, deviation, 1)
