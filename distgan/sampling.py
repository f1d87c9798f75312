"""Drawing words from logits by the inverse of the cumulative distribution.

A word is drawn with one float64 uniform: it is the first whose cumulative probability exceeds the
uniform. Sums run in float64, over bins of `BIN` words first, so that only the bin that holds the
uniform is walked word by word and the running sums over the vocabulary are never written.

Letters: R rows of logits, V vocabulary, S draws, several a row.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from distgan.models.decoder import UNK

BARRED = (UNK,)
"""Words that are never written, beside those the network itself rules out."""

BIN = 128


class Sampling(NamedTuple):
    """What is drawn from: softmax(logits / temperature), cut to the likeliest words.

    `top_k` keeps the k likeliest words (0: all), then `top_p` the fewest likeliest ones whose
    probabilities add up to p or more; words that tie with the last one kept are kept too. Anything
    but the defaults draws from another policy than the decoder's own.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0


PLAIN = Sampling()


class Weights(NamedTuple):
    """Unnormalised probabilities of every word, and their sums."""

    words: Tensor  # (R, V), float32 or float64
    bins: Tensor  # (R, bins) float64, running sums up to the end of each bin

    @property
    def total(self) -> Tensor:
        """(R,) float64."""
        return self.bins[:, -1]


def weigh(logits: Tensor, sampling: Sampling = PLAIN, barred: tuple[int, ...] = BARRED) -> Weights:
    """The distribution of rows of logits (R, V). Overwrites float32 and float64 logits."""
    logits = logits if logits.dtype == torch.float64 else logits.float()
    for word in barred:
        logits[:, word] = float("-inf")
    if sampling.temperature != 1:
        logits.div_(sampling.temperature)
    keep_likeliest(logits, sampling)
    words = logits.sub_(logits.amax(1, keepdim=True)).exp_()
    whole = words.shape[1] // BIN * BIN
    sums = words[:, :whole].unflatten(1, (-1, BIN)).sum(2, dtype=torch.float64)
    rest = words[:, whole:].sum(1, keepdim=True, dtype=torch.float64)
    return Weights(words, torch.cat([sums, rest], 1).cumsum(1))


def keep_likeliest(logits: Tensor, sampling: Sampling) -> None:
    """Rule out, in place, the words that `top_k` and `top_p` cut off."""
    if 0 < sampling.top_k < logits.shape[1]:
        least = logits.topk(sampling.top_k, 1).values[:, -1:]
        logits.masked_fill_(logits < least, float("-inf"))
    if sampling.top_p < 1:
        ordered = logits.sort(1, descending=True).values
        p = ordered.double().softmax(1)
        kept = p.cumsum(1) - p < sampling.top_p
        least = ordered.gather(1, kept.sum(1, keepdim=True).clamp_min(1) - 1)
        logits.masked_fill_(logits < least, float("-inf"))


def pick(weights: Weights, row: Tensor, uniform: Tensor) -> Tensor:
    """The words (S,) that `uniform` (S,) float64 draws from rows `row` (S,).

    Rows of weights that are not finite give some word all the same: the loss tells of them.
    """
    target = uniform * weights.total[row]
    place = torch.searchsorted(weights.bins[row], target[:, None], right=True)[:, 0]
    place = place.clamp_max(weights.bins.shape[1] - 1)
    sums = _within(weights, row, place)
    inside = torch.searchsorted(sums, target[:, None], right=True)[:, 0]
    last = torch.searchsorted(sums, sums[:, -1:].contiguous())[
        :, 0
    ]  # the bin's last word that has any weight
    return (place * BIN + torch.minimum(inside, last)).clamp_max(weights.words.shape[1] - 1)


def choose(
    logits: Tensor,
    uniform: Tensor,
    sampling: Sampling = PLAIN,
    barred: tuple[int, ...] = BARRED,
) -> Tensor:
    """The words (R, N) that `uniform` (R, N) float64 draws from each row of logits (R, V)."""
    rows, count = uniform.shape
    row = torch.arange(rows, device=uniform.device).repeat_interleave(count)
    weights = weigh(logits.clone(), sampling, barred)
    return pick(weights, row, uniform.flatten()).view(rows, count)


def _within(weights: Weights, row: Tensor, place: Tensor) -> Tensor:
    """Running sums (S, BIN), float64, over the words of bin `place` (S,) of rows `row` (S,)."""
    V = weights.words.shape[1]
    word = place[:, None] * BIN + torch.arange(BIN, device=row.device)
    mass = weights.words[row[:, None], word.clamp_max(V - 1)].double() * (word < V)
    return mass.cumsum(1) + _before(weights, row, place)[:, None]


def _before(weights: Weights, row: Tensor, place: Tensor) -> Tensor:
    """What all bins before `place` weigh, (S,)."""
    before = weights.bins[row, (place - 1).clamp_min(0)]
    return torch.where(place > 0, before, 0)
