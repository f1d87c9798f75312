"""Diversity against slow, obvious references."""

import math
from collections import Counter

import pytest
import torch

from distgan.metrics.diversity import (
    adjective_use,
    diversity,
    self_bleu,
    stutters,
)
from distgan.randomness import Draw, uniforms

CAPTIONS = ["a red cat", "a red dog sat", "a red cat", "dog dog"]


def test_numbers_of_a_set():
    assert diversity(CAPTIONS, training=["a red cat", "a man"]) == pytest.approx(
        {
            "distinct_1": 5 / 12,
            "distinct_2": 5 / 8,  # a red, red cat, red dog, dog sat, dog dog of 2+3+2+1
            "distinct_3": 3 / 4,
            "vocabulary": 5,
            "length": 3,
            "repeats": 1 / 4,
            "duplicates": 1 / 4,
            "novel": 1 / 2,
        }
    )


def test_captions_too_short_for_a_bigram():
    assert diversity(["cat", ""])["distinct_2"] == 0
    with pytest.raises(ValueError, match="no captions"):
        diversity([])


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("a red cat on a red mat", False),
        ("a red red cat", True),
        ("a red a red cat", True),
        ("cat on a mat on a mat", True),
        ("red", False),
        ("", False),
    ],
)
def test_stuttering(caption, expected):
    assert stutters(caption.split()) is expected


def bleu_one_against_many(words, others):
    """Sentence BLEU-4 with a count of 0.1 for no match, straight from its definition."""
    result = 1.0
    for n in (1, 2, 3, 4):
        grams = Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))
        matched = 0
        for gram, count in grams.items():
            seen = [sum(tuple(o[i : i + n]) == gram for i in range(len(o) - n + 1)) for o in others]
            matched += min(count, max(seen))
        result *= ((matched or 0.1) / max(len(words) - n + 1, 1)) ** 0.25
    nearest = min((abs(len(o) - len(words)), len(o)) for o in others)[1]
    return result * (1.0 if len(words) >= nearest else math.exp(1 - nearest / len(words)))


def random_captions(seed, number=12, length=9, vocabulary=6):
    rows = torch.arange(number)[:, None]
    drawn = uniforms(Draw(seed, 1, 0), rows, position=torch.arange(length + 1))
    words = (drawn * vocabulary).long().tolist()
    return [[f"w{w}" for w in row[: 2 + row[-1] + length // 3]] for row in words]


@pytest.mark.parametrize("seed", range(5))
def test_self_bleu_equals_its_definition(seed):
    captions = random_captions(seed)
    slow = [
        bleu_one_against_many(caption, captions[:n] + captions[n + 1 :])
        for n, caption in enumerate(captions)
    ]
    fast = self_bleu([" ".join(caption) for caption in captions])
    assert fast == pytest.approx(sum(slow) / len(slow), rel=1e-12)


def test_self_bleu_of_equal_and_of_foreign_captions():
    assert self_bleu(["a red cat sat down"] * 3) == pytest.approx(1)
    assert self_bleu(["a b c d e f g h", "i j k l m n o p"]) < 0.03
    with pytest.raises(ValueError, match="fewer than two"):
        self_bleu(["a cat"])


def test_adjectives():
    use = adjective_use(["a nice nice dog", "a bad cat", "an old cat"], {"nice", "bad", "ugly"})
    assert use.counts == {"nice": 2, "bad": 1}
    assert use.entropy_bits == pytest.approx(-(2 / 3 * math.log2(2 / 3) + 1 / 3 * math.log2(1 / 3)))
    assert use.top4 == 1
    assert adjective_use(["a cat"], {"nice"}).entropy_bits == 0
