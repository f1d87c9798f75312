"""What a critic of captions is shown: real captions, samples, and real captions misplaced.

Each row carries, for each head of the critic, a weight as real and a weight as fake. Over the
global batch the real weights of a head add to one, and so do the fake ones. A critic that sees
the image must meet real captions of other images among its negatives, and one that sees the style
those of other styles, with half of the fake weight: else it ignores what it is shown.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from distgan.engine.stages import Batch

Shares = tuple[float, ...]
"""One share of a batch's weight for each head."""


@dataclass(frozen=True)
class Evidence:
    """How real and fake weight is shared among corpora and kinds of rows."""

    samples: Shares  # fake: written by the generator
    real: Mapping[str, Shares]  # by corpus: a caption with its own image and style
    wrong_image: Mapping[str, Shares] = field(default_factory=dict)  # fake: beside another image
    wrong_style: Mapping[str, Shares] = field(default_factory=dict)  # fake: under another style
    factual_samples: Shares = ()  # fake: written by the generator when asked for plain facts

    swapped: Mapping[str, Shares] = field(default_factory=dict)  # fake: one word is another's

    @classmethod
    def joint(
        cls, corpora: Collection[str], *, image: bool, style: bool, swapped: float = 0.0
    ) -> Evidence:
        """One head that judges all it sees; the corpora share its weight evenly.

        `swapped` is the share of captions with a swapped word in the fake weight.
        """
        even, misplaced, rest = 1 / len(corpora), image + style, 1 - swapped
        each = {name: (0.5 * rest * even / max(misplaced, 1),) for name in corpora}
        return cls(
            samples=(rest * (0.5 if misplaced else 1.0),),
            real={name: (even,) for name in corpora},
            wrong_image=each if image else {},
            wrong_style=each if style else {},
            swapped={name: (swapped * even,) for name in corpora if swapped},
        )

    @classmethod
    def separate(
        cls,
        corpora: Collection[str],
        *,
        style: bool,
        match_samples: float = 0.0,
        swapped: float = 0.0,
    ) -> Evidence:
        """Two heads, text and match. Text is judged on lines, or on styled captions without any.

        Factual captions are negatives of every style: a caption must show that it has one.
        Most captions with pictures are factual, so the samples that the match is to be told from
        are factual too: else it would hold a style against them. `match_samples` is their share
        among its negatives without a swapped word, `swapped` that of the others for both heads.
        """
        text, rest = "text" if "text" in corpora else "styled", 1 - swapped
        pictured = [name for name in corpora if name != "text"]
        match = {name: 1 / len(pictured) for name in pictured}
        both = {name: (float(name == text), match.get(name, 0.0)) for name in corpora}
        beside = rest * (1 - match_samples)
        strange = [text] * style + ["factual"] * ("factual" in corpora)
        wrong_style = rest * 0.5 / max(len(strange), 1)
        return cls(
            samples=(rest * (0.5 if strange else 1.0), 0.0),
            factual_samples=(0.0, rest * match_samples),
            real=both,
            wrong_image={name: (0.0, beside * share) for name, share in match.items()},
            wrong_style={name: (wrong_style, 0.0) for name in strange},
            swapped={n: (swapped * t, swapped * m) for n, (t, m) in both.items()}
            if swapped
            else {},
        )


def rows(batch: Batch, *, real: Shares | None = None, fake: Shares | None = None) -> Batch:
    """A batch as rows for the critic, its weight shared among the heads as real or as fake."""
    heads = len(real or fake or ())
    weight = batch["weight"][:, None]

    def weigh(shares: Shares | None) -> Tensor:
        return weight * weight.new_tensor(shares or (0.0,) * heads)

    return {**batch, "real": weigh(real), "fake": weigh(fake)}


def weighted_auc(scores: Tensor, real: Tensor, fake: Tensor) -> Tensor:
    """P(real scores above fake), ties half; this part's share of its mean over the parts.

    scores, real and fake weights (R,). The real weights of all parts add to one.
    """
    above = (scores[:, None] > scores).to(scores) + 0.5 * (scores[:, None] == scores).to(scores)
    return (real @ above @ fake) / fake.sum().clamp_min(torch.finfo(scores.dtype).tiny)
