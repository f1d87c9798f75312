"""Keyed noise: every random number is a pure function of what it is for.

Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011) in integer
tensor arithmetic: the key is (seed, stream), the counter is (step, sample, rollout and prefix,
position). No state, so the number of workers, chunks and restarts cannot change a draw.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

_MASK = 0xFFFFFFFF
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_ROUNDS = 10


class Draw(NamedTuple):
    """Names a family of draws: the run's seed, what the noise is for, and the update."""

    seed: int  # 32 bits
    stream: int  # one number a purpose, see `STREAMS`
    step: int  # 32 bits


STREAMS = {
    "words": 1,
    "rollouts": 2,
    "fakes": 3,
    "negatives": 4,
    "noise": 5,
    "penalty": 6,
    "order": 7,
    "substitute": 8,
    "evaluation": 9,
    "dropout": 10,
    "caption": 11,
    "pool": 12,
}


def philox(counter: tuple[Tensor, ...], key: tuple[int, int]) -> tuple[Tensor, ...]:
    """Philox4x32-10: four 32-bit words (int64) from four words of counter and two of key."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(_ROUNDS):
        high0, low0 = _multiply(c0, _MULTIPLIERS[0])
        high1, low1 = _multiply(c2, _MULTIPLIERS[1])
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = (k0 + _WEYL[0]) & _MASK, (k1 + _WEYL[1]) & _MASK
    return c0, c1, c2, c3


def uniforms(
    draw: Draw,
    sample: Tensor,
    *,
    rollout: Tensor | int = 0,
    prefix: Tensor | int = 0,
    position: Tensor | int = 0,
) -> Tensor:
    """Uniforms in [0, 1), float64 with 53 random bits, one for each entry of the broadcast shape.

    `sample` int64 below 2**32; `rollout` and `prefix` below 2**16; `position` below 2**32.
    """
    sample = sample.to(torch.int64)
    as_tensor = lambda x: torch.as_tensor(x, dtype=torch.int64, device=sample.device)  # noqa: E731
    step = as_tensor(draw.step & _MASK)
    middle = as_tensor(rollout) << 16 | as_tensor(prefix)
    counter = torch.broadcast_tensors(step, sample & _MASK, middle, as_tensor(position))
    high, low, _, _ = philox(counter, (draw.seed & _MASK, draw.stream & _MASK))
    return ((high >> 5) * 67108864 + (low >> 6)).to(torch.float64) / 9007199254740992.0


def normals(draw: Draw, sample: Tensor, size: int) -> Tensor:
    """Standard normals (samples, size), float64, by Box and Muller's transform."""
    position = torch.arange(size, device=sample.device)
    first = uniforms(draw, sample[:, None], prefix=0, position=position)
    second = uniforms(draw, sample[:, None], prefix=1, position=position)
    return torch.sqrt(-2 * torch.log1p(-first)) * torch.cos(2 * math.pi * second)


def _multiply(x: Tensor, by: int) -> tuple[Tensor, Tensor]:
    """High and low 32 bits of a product of 32-bit words, within signed 64-bit arithmetic."""
    low_half, high_half = x & 0xFFFF, x >> 16
    carry = low_half * by
    high = (high_half * by + (carry >> 16)) >> 16
    low = (x * (by & 0xFFFF) + ((x * (by >> 16) & 0xFFFF) << 16)) & _MASK
    return high & _MASK, low
