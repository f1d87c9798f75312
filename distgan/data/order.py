"""The order of samples in an endless stream: a pure function of (seed, stream name, place).

An epoch permutes blocks of neighbours, so that reads stay near each other, then shuffles within
windows. The keys are raw words of numpy's Philox, whose values are fixed for good, sorted
stably: neither the number of workers nor the version of a library changes the order.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

_BLOCKS, _WINDOWS, _SUBSTITUTES = 0, 1, 2
DIGEST_BITS = 48  # sums of digests over thousands of ranks stay below 2**63


class Order:
    """Which item stands at each position of an endless stream over `items` items."""

    def __init__(self, *, name: str, seed: int, items: int, block: int, window: int) -> None:
        if items < 1 or block < 1 or window < 1:
            raise ValueError(f"items, block, window must be at least 1: {items}, {block}, {window}")
        self.name, self.seed, self.items, self.block, self.window = name, seed, items, block, window
        stream = hashlib.sha256(name.encode()).digest()[:8]
        self._key = (seed, int.from_bytes(stream, "little"))

    def epoch(self, epoch: int) -> NDArray[np.int64]:
        """(items,): the items of one epoch in their order, each exactly once."""
        return _epoch(self._key, self.items, self.block, self.window, epoch)

    def item_at(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """The items at these positions of the stream."""
        epochs, places = np.divmod(positions, self.items)
        found = np.empty_like(positions)
        for epoch in np.unique(epochs):
            here = epochs == epoch
            found[here] = self.epoch(int(epoch))[places[here]]
        return found

    def substitutes(self, position: int, tries: int) -> NDArray[np.int64]:
        """(tries,): items to put at a position whose own item is damaged, in order of trial."""
        raw = _raw(self._key, _SUBSTITUTES, position, tries)
        return (raw % np.uint64(self.items)).astype(np.int64)

    def digest(self, first: int, end: int) -> int:
        """What `fingerprints` of all positions in [first, end) add up to."""
        total = 0
        for epoch in range(first // self.items, -(-end // self.items)):
            start = epoch * self.items
            positions = np.arange(max(first, start), min(end, start + self.items))
            total += fingerprints(positions, self.epoch(epoch)[positions - start])
        return total % (1 << DIGEST_BITS)


def fingerprints(positions: NDArray[np.int64], items: NDArray[np.int64]) -> int:
    """The sum, mod 2**DIGEST_BITS, of a hash of each (position, item): order does not matter."""
    mixed = _mix(_mix(positions.astype(np.uint64)) ^ items.astype(np.uint64))
    mask = np.uint64((1 << DIGEST_BITS) - 1)
    low, high = mixed & mask & np.uint64(0xFFFFFF), (mixed & mask) >> np.uint64(24)
    return (int(low.sum()) + (int(high.sum()) << 24)) % (1 << DIGEST_BITS)


@lru_cache(maxsize=16)
def _epoch(
    key: tuple[int, int], items: int, block: int, window: int, epoch: int
) -> NDArray[np.int64]:
    blocks = -(-items // block)
    starts = np.argsort(_raw(key, _BLOCKS, epoch, blocks), kind="stable") * block
    order = (starts[:, None] + np.arange(block)).ravel()
    order = order[order < items]
    windows = np.arange(items) // window
    order = order[np.lexsort((_raw(key, _WINDOWS, epoch, items), windows))]
    order.flags.writeable = False
    return order


def _raw(key: tuple[int, int], purpose: int, number: int, count: int) -> NDArray[np.uint64]:
    """`count` 64-bit words of Philox4x64-10 under this key, from the counter of a purpose."""
    counter = np.array([0, number, purpose, 0], dtype=np.uint64)
    return np.random.Philox(key=np.array(key, dtype=np.uint64), counter=counter).random_raw(count)


def _mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """SplitMix64's finaliser (Steele, Lea and Flood, 2014): a bijection that scatters bits."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
