"""Captions against references: BLEU-1..4, METEOR, ROUGE-L and CIDEr, as coco-caption has them.

The scorers are pycocoevalcap's. Words come from its Java tokeniser where Java runs, else from a
plain one, and the scores say which (`tokeniser: ptb | plain`): of COCO's 25,014 validation
captions of 2017 they read 99.8% alike, but only `ptb` scores compare with published ones.
METEOR is Java or absent. Scores are fractions (papers print 100 times that); CIDEr is as the
code gives it, 10 at most, in the form called CIDEr-D. SPICE is left out: it downloads.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal, NamedTuple

from distgan.metrics.java import JavaError, Meteor, tokenise_ptb

Tokeniser = Literal["ptb", "plain"]

_CLITIC = re.compile(r"(?<=[^\W\d_])(n't|'(?:s|re|ve|ll|d|m))\b")
_TOKEN = re.compile(r"n't(?!\w)|'(?:s|re|ve|ll|d|m)(?!\w)|\w+(?:[-./:']\w+)*|[&#]")


class CaptionScores(NamedTuple):
    """`scores` by name, the tokeniser behind them, and why something is plain or absent."""

    scores: dict[str, float]
    tokeniser: Tokeniser
    remarks: tuple[str, ...] = ()


def score_captions(
    hypotheses: Sequence[str], references: Sequence[Sequence[str]]
) -> dict[str, float]:
    """Scores of one caption an image against its references, with the best tokeniser there is."""
    with Meteor() as meteor:
        return measure_captions(hypotheses, references, meteor=meteor).scores


def measure_captions(
    hypotheses: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    tokeniser: Tokeniser | None = None,
    meteor: Meteor | None = None,
) -> CaptionScores:
    """Like `score_captions`, with the label.

    `tokeniser=None` takes `ptb` if it runs; without `meteor` there is no METEOR.
    """
    _check(hypotheses, references)
    texts = [*hypotheses, *(text for several in references for text in several)]
    tokens, used, remarks = _tokenise(texts, tokeniser)
    hyps, rest = tokens[: len(hypotheses)], iter(tokens[len(hypotheses) :])
    refs = [[next(rest) for _ in several] for several in references]
    scores = _python_scores(hyps, refs)
    if meteor is not None:
        try:
            scores["METEOR"] = meteor.score(hyps, refs)
        except JavaError as error:
            remarks = (*remarks, f"no METEOR: {error}")
    return CaptionScores(scores, used, remarks)


def tokenise_plain(texts: Sequence[str]) -> list[str]:
    """Words of each text without Java: lower case, no punctuation, `isn't` as `is n't`."""
    return [" ".join(_TOKEN.findall(_CLITIC.sub(r" \1", _straight(text)))) for text in texts]


def _tokenise(
    texts: Sequence[str], tokeniser: Tokeniser | None
) -> tuple[list[str], Tokeniser, tuple[str, ...]]:
    if tokeniser == "plain":
        return tokenise_plain(texts), "plain", ()
    try:
        return tokenise_ptb(texts), "ptb", ()
    except JavaError as error:
        if tokeniser == "ptb":
            raise
        return tokenise_plain(texts), "plain", (f"plain tokeniser: {error}",)


def _python_scores(hyps: list[str], refs: list[list[str]]) -> dict[str, float]:
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    result = {n: [caption] for n, caption in enumerate(hyps)}
    truth = dict(enumerate(refs))
    bleu, _ = Bleu(4).compute_score(truth, result, verbose=0)
    scores = {f"BLEU-{n}": float(score) for n, score in enumerate(bleu, start=1)}
    scores["ROUGE-L"] = float(Rouge().compute_score(truth, result)[0])
    scores["CIDEr"] = float(Cider().compute_score(truth, result)[0])
    return scores


def _straight(text: str) -> str:
    return text.lower().replace("\u2019", "'")


def _check(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> None:
    if not hypotheses:
        raise ValueError("there are no captions to score")
    if len(hypotheses) != len(references):
        raise ValueError(
            f"{len(hypotheses)} captions cannot be scored against references of "
            f"{len(references)} images"
        )
    for place, several in enumerate(references):
        if isinstance(several, str) or not several:
            raise ValueError(f"caption {place} needs a list of references, got {several!r}")
