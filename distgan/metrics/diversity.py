"""How varied a set of captions is; words are apart by spaces."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

BLEU_ORDER = 4
EPSILON = 0.1  # what a count of no match becomes: method 1 of Chen and Cherry (2014)


class AdjectiveUse(NamedTuple):
    """H = -sum_j p(adj_j) log2 p(adj_j), and the mass of the four most used (ATTEND-GAN, 5)."""

    entropy_bits: float
    top4: float
    counts: dict[str, int]  # most used first


def diversity(captions: Sequence[str], training: Iterable[str] | None = None) -> dict[str, float]:
    """Numbers of a set of captions.

    `distinct_1..3`: distinct n-grams over all n-grams; `vocabulary`: distinct words; `length`:
    mean words; `repeats`: share of captions that stutter (see `stutters`); `duplicates`: share
    of captions that say what an earlier one said; `novel`, if `training` texts are given: share
    of captions that are not among them.
    """
    if not captions:
        raise ValueError("there are no captions to measure")
    words = [caption.split() for caption in captions]
    numbers = {f"distinct_{n}": distinct(words, n) for n in (1, 2, 3)}
    numbers["vocabulary"] = float(len({word for caption in words for word in caption}))
    numbers["length"] = sum(map(len, words)) / len(words)
    numbers["repeats"] = sum(map(stutters, words)) / len(words)
    numbers["duplicates"] = 1 - len({tuple(caption) for caption in words}) / len(words)
    if training is not None:
        known = {tuple(text.split()) for text in training}
        numbers["novel"] = sum(tuple(caption) not in known for caption in words) / len(words)
    return numbers


def distinct(words: Sequence[Sequence[str]], n: int) -> float:
    """Distinct n-grams over all n-grams of a set of captions; 0 where there are none."""
    grams = [gram for caption in words for gram in _grams(caption, n)]
    return len(set(grams)) / len(grams) if grams else 0.0


def stutters(words: Sequence[str]) -> bool:
    """Whether one to three words are at once said again: `a red a red`."""
    return any(
        list(words[at : at + n]) == list(words[at + n : at + 2 * n])
        for n in (1, 2, 3)
        for at in range(len(words) - 2 * n + 1)
    )


def self_bleu(captions: Sequence[str]) -> float:
    """Mean BLEU-4 of each caption against all others (Texygen; Zhu et al. 2018). High: alike.

    A caption is not among its own references, but an equal one elsewhere is. Exact for any
    number of captions: the others' largest count of an n-gram is one of the two largest.
    """
    words = [caption.split() for caption in captions]
    if len(words) < 2:
        raise ValueError("self-BLEU compares captions with each other, got fewer than two")
    tables = [[Counter(_grams(caption, n)) for caption in words] for n in range(1, BLEU_ORDER + 1)]
    largest = [_two_largest(table) for table in tables]
    lengths = Counter(map(len, words))
    total = 0.0
    for place, caption in enumerate(words):
        log_precision = 0.0
        for table, tops in zip(tables, largest, strict=True):
            matched = _matches(table[place], place, tops)
            possible = max(sum(table[place].values()), 1)
            log_precision += math.log((matched or EPSILON) / possible) / BLEU_ORDER
        total += math.exp(log_precision) * _brevity(len(caption), lengths)
    return total / len(words)


def adjective_use(captions: Sequence[str], adjectives: Collection[str]) -> AdjectiveUse:
    """Which of a style's adjectives captions use, and how evenly."""
    wanted = set(adjectives)
    counts = Counter(w for caption in captions for w in caption.split() if w in wanted)
    total = sum(counts.values())
    if not total:
        return AdjectiveUse(0.0, 0.0, {})
    shares = [count / total for _, count in counts.most_common()]
    entropy = -sum(share * math.log2(share) for share in shares)
    return AdjectiveUse(entropy + 0.0, sum(shares[:4]), dict(counts.most_common()))


def _grams(words: Sequence[str], n: int) -> list[tuple[str, ...]]:
    return [tuple(words[at : at + n]) for at in range(len(words) - n + 1)]


def _two_largest(table: Sequence[Counter]) -> dict[tuple[str, ...], tuple[int, int, int]]:
    """Each n-gram's largest count, the caption that has it, and the largest of the others."""
    found: dict[tuple[str, ...], tuple[int, int, int]] = {}
    for place, counts in enumerate(table):
        for gram, count in counts.items():
            first, owner, second = found.get(gram, (0, -1, 0))
            if count > first:
                found[gram] = (count, place, first)
            else:
                found[gram] = (first, owner, max(second, count))
    return found


def _matches(counts: Counter, place: int, tops: dict[tuple[str, ...], tuple[int, int, int]]) -> int:
    matched = 0
    for gram, count in counts.items():
        first, owner, second = tops[gram]
        matched += min(count, second if owner == place else first)
    return matched


def _brevity(length: int, lengths: Counter) -> float:
    """BLEU's brevity penalty against the nearest length among the other captions."""
    others = [other for other, count in lengths.items() if count > (other == length)]
    nearest = min(others, key=lambda other: (abs(other - length), other))
    return 1.0 if length >= nearest else math.exp(1 - nearest / max(length, 1))
