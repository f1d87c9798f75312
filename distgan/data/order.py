"""The order of samples in an endless stream: a pure function of (seed, stream name, place).

An epoch permutes blocks of neighbours, so that reads stay near each other, then shuffles within
windows. The keys are raw words of numpy's Philox, whose values are fixed for good, sorted
stably: neither the number of workers nor the version of a library changes the order.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

_BLOCKS, _WINDOWS, _SUBSTITUTES, _CHOICES, _OTHER_CHOICES, _PERIODS = range(6)
_EPOCHS = 3  # kept in memory by each order
_CHUNK = 1 << 16  # positions looked at together
_SLOTS = 1 << 12  # of a mixture's periods that are drawn together: part of what the order is
DIGEST_BITS = 48  # sums of digests over thousands of ranks stay below 2**63

Lap = tuple[int, int]
"""(part, epoch): an epoch of one part of a stream; streams of one source have part 0 alone."""


class Order(Protocol):
    """Which item stands at each position of an endless stream."""

    name: str

    def item_at(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """The items at these positions of the stream."""
        ...

    def substitutes(self, position: int, tries: int) -> NDArray[np.int64]:
        """(tries,): items to put at a position whose own item is damaged, in order of trial."""
        ...

    def lap(self, position: int) -> Lap:
        """The epoch that a position belongs to. No sample occurs twice in one."""
        ...

    def laps(self, end: int) -> tuple[Lap, ...]:
        """For each part the epoch that its last position before `end` belongs to."""
        ...

    def epochs(self, end: int) -> float:
        """Epochs of the first part before `end`."""
        ...

    def identity(self) -> dict[str, Any]:
        """What the order depends on beside its name, its seed and the source."""
        ...


class Shuffling(NamedTuple):
    """How a stream is shuffled, whatever its source."""

    name: str
    seed: int
    block: int
    window: int

    def of_part(self, number: int) -> Shuffling:
        """The same for a part of the source, with an order of its own."""
        return self._replace(name=f"{self.name}[{number}]")


class Shuffled:
    """Every item once an epoch."""

    def __init__(self, shuffling: Shuffling, items: int) -> None:
        self.name, self.seed, self.block, self.window = shuffling
        if items < 1 or self.block < 1 or self.window < 1:
            raise ValueError(
                f"items, block, window must be at least 1: {items}, {self.block}, {self.window}"
            )
        self.length = items  # positions of an epoch
        self._key = _key(shuffling)
        self._epochs: dict[int, NDArray[np.int64]] = {}

    def epoch(self, epoch: int) -> NDArray[np.int64]:
        """(length,): the items of one epoch in their order."""
        if epoch not in self._epochs:
            while len(self._epochs) >= _EPOCHS:
                del self._epochs[next(iter(self._epochs))]
            self._epochs[epoch] = self._new_epoch(epoch)
            self._epochs[epoch].flags.writeable = False
        return self._epochs[epoch]

    def _new_epoch(self, epoch: int) -> NDArray[np.int64]:
        blocks = -(-self.length // self.block)
        starts = np.argsort(raw(self._key, _BLOCKS, epoch, blocks), kind="stable") * self.block
        order = (starts[:, None] + np.arange(self.block)).ravel()
        order = order[order < self.length]
        windows = np.arange(self.length) // self.window
        return order[np.lexsort((raw(self._key, _WINDOWS, epoch, self.length), windows))]

    def item_at(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        epochs, places = np.divmod(positions, self.length)
        found = np.empty_like(positions)
        for epoch in np.unique(epochs):
            here = epochs == epoch
            found[here] = self.epoch(int(epoch))[places[here]]
        return found

    def substitutes(self, position: int, tries: int) -> NDArray[np.int64]:
        words = raw(self._key, _SUBSTITUTES, position, tries)
        return (words % np.uint64(self.length)).astype(np.int64)

    def lap(self, position: int) -> Lap:
        return 0, position // self.length

    def laps(self, end: int) -> tuple[Lap, ...]:
        return (self.lap(max(end - 1, 0)),)

    def epochs(self, end: int) -> float:
        return end / self.length

    def identity(self) -> dict[str, Any]:
        return {"block": self.block, "window": self.window}

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_epochs": {}}


class OneOfEach(Shuffled):
    """Items in groups of neighbours: every group once an epoch, by an item of it drawn each time.

    `ends` (groups,): where each group ends, ascending; none is empty. The draw is keyed by the
    position in the stream.
    """

    def __init__(self, shuffling: Shuffling, ends: NDArray[np.int64]) -> None:
        super().__init__(shuffling, len(ends))
        self._starts = np.concatenate([[0], ends[:-1]]).astype(np.int64)
        self._counts = (ends - self._starts).astype(np.uint64)
        if ends[-1] < len(ends) or not self._counts.all():
            raise ValueError("groups: one is empty")

    def _new_epoch(self, epoch: int) -> NDArray[np.int64]:
        groups = super()._new_epoch(epoch)
        return self._chosen(groups, raw(self._key, _CHOICES, epoch, self.length))

    def substitutes(self, position: int, tries: int) -> NDArray[np.int64]:
        groups = super().substitutes(position, tries)
        return self._chosen(groups, raw(self._key, _OTHER_CHOICES, position, tries))

    def _chosen(self, groups: NDArray[np.int64], words: NDArray[np.uint64]) -> NDArray[np.int64]:
        return self._starts[groups] + (words % self._counts[groups]).astype(np.int64)

    def identity(self) -> dict[str, Any]:
        return super().identity() | {"groups": self.length}


class Mixed:
    """Several orders mixed: of `period` neighbouring positions, weight many belong to each part.

    Position p lies in period p // period. A keyed permutation says which part stands where within
    a period; so how many positions a part had before p follows from p alone, and each part runs
    through its own order, its epochs whole. Items are numbered through all parts.
    """

    def __init__(
        self,
        shuffling: Shuffling,
        parts: Sequence[Order],
        sizes: Sequence[int],
        weights: Sequence[int],
    ) -> None:
        """`sizes`: the items of each part; `weights`: whole numbers above 0."""
        if not len(parts) == len(sizes) == len(weights) or min(weights, default=0) < 1:
            raise ValueError(f"weights must be whole numbers above 0, one a part, got {weights}")
        self.name, self.parts = shuffling.name, tuple(parts)
        self.weights = np.array(weights, dtype=np.int64) // math.gcd(*weights)
        self.period = int(self.weights.sum())
        self._first = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64)
        self._key = _key(shuffling)
        self._together = max(1, _SLOTS // self.period)  # periods drawn together
        self._kept: tuple[int, NDArray[np.int64], NDArray[np.int64]] | None = None

    def places(self, positions: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """For each position its part, and its position in the part's own stream."""
        periods, slots = np.divmod(positions, self.period)
        groups, rows = np.divmod(periods, self._together)
        part, before = np.empty_like(positions), np.empty_like(positions)
        for group in np.unique(groups):
            here = groups == group
            parts, counts = self._patterns(int(group))
            part[here] = parts[rows[here], slots[here]]
            before[here] = counts[rows[here], slots[here]]
        return part, periods * self.weights[part] + before

    def _patterns(self, group: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(periods, period) each: the part in every slot, and that part's slots before it."""
        if self._kept is None or self._kept[0] != group:
            words = raw(self._key, _PERIODS, group, self._together * self.period)
            places = np.argsort(words.reshape(-1, self.period), axis=1, kind="stable")
            parts = np.repeat(np.arange(len(self.parts)), self.weights)[places]
            before = np.empty_like(parts)
            for number in range(len(self.parts)):
                mine = parts == number
                before[mine] = (np.cumsum(mine, axis=1) - 1)[mine]
            self._kept = group, parts, before
        return self._kept[1], self._kept[2]

    def item_at(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        part, inner = self.places(positions)
        found = np.empty_like(positions)
        for number, order in enumerate(self.parts):
            here = part == number
            found[here] = self._first[number] + order.item_at(inner[here])
        return found

    def _place(self, position: int) -> tuple[int, int]:
        part, inner = self.places(np.array([position]))
        return int(part[0]), int(inner[0])

    def substitutes(self, position: int, tries: int) -> NDArray[np.int64]:
        """Of the same part: proportions stay exact."""
        part, inner = self._place(position)
        return self._first[part] + self.parts[part].substitutes(inner, tries)

    def lap(self, position: int) -> Lap:
        part, inner = self._place(position)
        return part, self.parts[part].lap(inner)[1]

    def counts(self, end: int) -> list[int]:
        """How many of the positions before `end` belong to each part."""
        period = end // self.period
        part, _ = self.places(np.arange(period * self.period, end))
        rest = np.bincount(part, minlength=len(self.parts))
        return (period * self.weights + rest).tolist()

    def laps(self, end: int) -> tuple[Lap, ...]:
        inner = zip(self.parts, self.counts(end), strict=True)
        return tuple((n, order.laps(count)[0][1]) for n, (order, count) in enumerate(inner))

    def epochs(self, end: int) -> float:
        return self.parts[0].epochs(self.counts(end)[0])

    def identity(self) -> dict[str, Any]:
        return {
            "weights": self.weights.tolist(),
            "parts": [order.identity() for order in self.parts],
        }

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_kept": None}


def digest(order: Order, first: int, end: int) -> int:
    """What `fingerprints` of all positions in [first, end) add up to."""
    total = 0
    for start in range(first, end, _CHUNK):
        positions = np.arange(start, min(start + _CHUNK, end))
        total += fingerprints(positions, order.item_at(positions))
    return total % (1 << DIGEST_BITS)


def fingerprints(positions: NDArray[np.int64], items: NDArray[np.int64]) -> int:
    """The sum, mod 2**DIGEST_BITS, of a hash of each (position, item): order does not matter."""
    mixed = _mix(_mix(positions.astype(np.uint64)) ^ items.astype(np.uint64))
    mask = np.uint64((1 << DIGEST_BITS) - 1)
    low, high = mixed & mask & np.uint64(0xFFFFFF), (mixed & mask) >> np.uint64(24)
    return (int(low.sum()) + (int(high.sum()) << 24)) % (1 << DIGEST_BITS)


def raw(key: tuple[int, int], purpose: int, number: int, count: int) -> NDArray[np.uint64]:
    """`count` 64-bit words of Philox4x64-10 under this key, from the counter of a purpose."""
    counter = np.array([0, number, purpose, 0], dtype=np.uint64)
    return np.random.Philox(key=np.array(key, dtype=np.uint64), counter=counter).random_raw(count)


def _key(shuffling: Shuffling) -> tuple[int, int]:
    stream = hashlib.sha256(shuffling.name.encode()).digest()[:8]
    return shuffling.seed, int.from_bytes(stream, "little")


def _mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """SplitMix64's finaliser (Steele, Lea and Flood, 2014): a bijection that scatters bits."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
