"""Does a caption sound like its style? A text classifier learned from the styled texts judges.

Multinomial logistic regression over the presence of words and word pairs (`<s>` and `</s>`
mark the ends), each style weighing the same, fitted in float64 to convergence: nothing in it is
random. A fifth of the texts is held out, and the accuracy on them is reported beside every
judgement: a style accuracy of .95 means little from a judge that is right .75 of the time.
Measured held out: SentiCap's two styles .99, FlickrStyle's humorous and romantic .75.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple, Self

import torch
from torch import Tensor
from torch.nn import functional

HELD_OUT = 5  # one text in so many
DECAY = 3e-4  # of the weights; 1e-4 to 1e-3 read the same on SentiCap and FlickrStyle
STEPS = 60  # of L-BFGS


class StyleScores(NamedTuple):
    """How often captions sound as asked, and how far the judge is to be trusted."""

    accuracy: float  # of the captions
    held_out: float  # of the judge on texts it did not learn from, mean over styles
    by_style: dict[str, float]  # of the captions, by the style that was asked for


class StyleClassifier:
    """Tells styles apart by their words. Make one with `StyleClassifier.fit`."""

    def __init__(self, styles: list[str], features: dict[str, int], weight: Tensor, bias: Tensor):
        self.styles = styles
        self.held_out = float("nan")
        self._features = features
        self._weight, self._bias = weight, bias  # (features, styles), (styles,)

    @classmethod
    def fit(cls, texts: Sequence[str], styles: Sequence[str]) -> Self:
        """Learn from texts, words apart by spaces, written as the captions to be judged are."""
        names = sorted(set(styles))
        if len(names) < 2:
            raise ValueError(f"a style classifier needs two styles or more, got {names}")
        held = _held_out(texts, styles)
        kept = [n for n, text in enumerate(texts) if text not in held]
        features = _number(texts[n] for n in kept)
        wanted = torch.tensor([names.index(styles[n]) for n in kept])
        classifier = cls(names, features, *_regress([texts[n] for n in kept], wanted, features))
        judged = [n for n, text in enumerate(texts) if text in held]
        by_style = classifier.accuracy([texts[n] for n in judged], [styles[n] for n in judged])
        classifier.held_out = sum(by_style.values()) / len(by_style)
        return classifier

    def probabilities(self, captions: Sequence[str]) -> Tensor:
        """(captions, styles) float64, in the order of `self.styles`."""
        presence = _presence(captions, self._features)
        return torch.softmax(torch.sparse.mm(presence, self._weight) + self._bias, dim=1)

    def predict(self, captions: Sequence[str]) -> list[str]:
        """The likeliest style of each caption."""
        return [self.styles[n] for n in self.probabilities(captions).argmax(1).tolist()]

    def accuracy(self, captions: Sequence[str], wanted: Sequence[str]) -> dict[str, float]:
        """For each style asked for: the share of its captions that sound like it."""
        unknown = set(wanted) - set(self.styles)
        if unknown:
            raise ValueError(f"style {min(unknown)!r} is none of {self.styles}")
        right: dict[str, list[bool]] = {style: [] for style in sorted(set(wanted))}
        for style, found in zip(wanted, self.predict(captions), strict=True):
            right[style].append(style == found)
        return {style: sum(each) / len(each) for style, each in right.items()}

    def score(self, captions: Sequence[str], wanted: Sequence[str]) -> StyleScores:
        """Style accuracy of captions, `wanted` naming the style asked of each."""
        if not captions:
            raise ValueError("there are no captions to judge")
        by_style = self.accuracy(captions, wanted)
        total = sum(share * list(wanted).count(style) for style, share in by_style.items())
        return StyleScores(total / len(captions), self.held_out, by_style)


def _held_out(texts: Sequence[str], styles: Sequence[str]) -> set[str]:
    """A fifth of each style's different texts, picked by their own checksums."""
    held = set()
    for style in set(styles):
        mine = {text for text, of in zip(texts, styles, strict=True) if of == style}
        if len(mine) < 2:
            raise ValueError(f"style {style!r} has {len(mine)} text: none to hold out")
        ordered = sorted(mine, key=lambda text: (zlib.crc32(text.encode()), text))
        held.update(ordered[: max(1, len(ordered) // HELD_OUT)])
    return held


def _grams(text: str) -> set[str]:
    words = ["<s>", *text.split(), "</s>"]
    return {*words[1:-1], *(f"{a} {b}" for a, b in pairwise(words))}


def _number(texts: Iterable[str]) -> dict[str, int]:
    return {gram: n for n, gram in enumerate(sorted({g for text in texts for g in _grams(text)}))}


def _presence(texts: Sequence[str], features: dict[str, int]) -> Tensor:
    """Sparse (texts, features) float64 with ones where a text holds a feature."""
    places = [
        (row, features[gram])
        for row, text in enumerate(texts)
        for gram in sorted(_grams(text))
        if gram in features
    ]
    index = torch.tensor(places, dtype=torch.int64).reshape(-1, 2).T
    ones = torch.ones(len(places), dtype=torch.float64)
    size = (len(texts), len(features))
    return torch.sparse_coo_tensor(index, ones, size, check_invariants=True).coalesce()


def _regress(
    texts: Sequence[str], wanted: Tensor, features: dict[str, int]
) -> tuple[Tensor, Tensor]:
    """Weights and biases of least weighted cross-entropy with a decay of the weights."""
    presence = _presence(texts, features)
    counts = torch.bincount(wanted)
    share = 1 / (len(counts) * counts[wanted].double())
    weight = torch.zeros(len(features), len(counts), dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(len(counts), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=STEPS, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        logits = torch.sparse.mm(presence, weight) + bias
        loss = (share * functional.cross_entropy(logits, wanted, reduction="none")).sum()
        loss = loss + DECAY / 2 * weight.square().sum()
        loss.backward()
        return loss

    with torch.enable_grad():
        optimizer.step(closure)
    return weight.detach(), bias.detach()
