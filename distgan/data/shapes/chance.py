"""Keyed chance: a stream of random numbers that is a pure function of what it is for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

_WORDS_AT_ONCE = 48
T = TypeVar("T")


class Chance:
    """Philox4x64-10 with key (seed, stream) and counter (0, purpose, number, 0).

    Only raw words of the generator are used: numpy promises those for ever, unlike the
    distributions built on them. All of `seed`, `stream`, `number` and `purpose` are below 2**64.
    """

    def __init__(self, seed: int, stream: int, number: int, purpose: int) -> None:
        self._philox = np.random.Philox(
            key=np.array([seed, stream], dtype=np.uint64),
            counter=np.array([0, purpose, number, 0], dtype=np.uint64),
        )
        self._words: list[int] = []

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        """A number in [low, high) with 53 random bits."""
        if not self._words:
            self._words = self._philox.random_raw(_WORDS_AT_ONCE).tolist()
        return low + (high - low) * ((self._words.pop() >> 11) / 9007199254740992.0)

    def happens(self, probability: float) -> bool:
        """True with this probability."""
        return self.uniform() < probability

    def below(self, n: int) -> int:
        """An integer in [0, n)."""
        return int(self.uniform() * n)

    def pick(self, items: Sequence[T]) -> T:
        """One of the items, each alike."""
        return items[self.below(len(items))]

    def weigh(self, items: Sequence[T], weights: Sequence[float]) -> T:
        """One of the items, by weight; the weights need not sum to one."""
        left = self.uniform() * sum(weights)
        for item, weight in zip(items, weights, strict=True):
            left -= weight
            if left < 0:
                return item
        return items[-1]

    def draw(self, items: Sequence[T], count: int) -> list[T]:
        """`count` different items in random order."""
        pool = list(items)
        return [pool.pop(self.below(len(pool))) for _ in range(count)]


def grain(key: int, rows: int, columns: int) -> np.ndarray:
    """Uniform noise in [-1, 1), float64 (rows, columns, 3), from a 32-bit key."""
    words = np.random.Philox(key=key).random_raw(rows * columns * 3)
    return ((words >> np.uint64(11)) / 4503599627370496.0 - 1.0).reshape(rows, columns, 3)
