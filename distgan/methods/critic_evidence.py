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

    @classmethod
    def joint(cls, corpora: Collection[str], *, image: bool, style: bool) -> Evidence:
        """One head that judges all it sees; the corpora share its weight evenly."""
        even, misplaced = 1 / len(corpora), image + style
        each = {name: (0.5 * even / max(misplaced, 1),) for name in corpora}
        return cls(
            samples=(0.5 if misplaced else 1.0,),
            real={name: (even,) for name in corpora},
            wrong_image=each if image else {},
            wrong_style=each if style else {},
        )

    @classmethod
    def separate(cls, corpora: Collection[str], *, style: bool, match_samples: float) -> Evidence:
        """Two heads, text and match. Text is judged on lines, or on styled captions without any.

        Most captions with pictures are factual, so the samples that the match is to be told from
        are factual too: else it would hold a style against them.
        """
        text = "text" if "text" in corpora else "styled"
        pictured = [name for name in corpora if name != "text"]
        match = {name: 1 / len(pictured) for name in pictured}
        return cls(
            samples=(0.5 if style else 1.0, 0.0),
            factual_samples=(0.0, match_samples),
            real={name: (float(name == text), match.get(name, 0.0)) for name in corpora},
            wrong_image={n: (0.0, share * (1 - match_samples)) for n, share in match.items()},
            wrong_style={text: (0.5, 0.0)} if style else {},
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
