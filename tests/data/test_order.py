from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distgan.data.order import (
    DIGEST_BITS,
    Mixed,
    OneOfEach,
    Shuffled,
    Shuffling,
    _key,
    digest,
    fingerprints,
    raw,
)

sizes = st.integers(1, 400)


@settings(deadline=None)
@given(items=sizes, block=st.integers(1, 50), window=st.integers(1, 120), seed=st.integers(0, 9))
def test_every_epoch_holds_each_item_once(items: int, block: int, window: int, seed: int) -> None:
    order = Shuffled(Shuffling("a", seed, block, window), items)
    for epoch in range(3):
        assert sorted(order.epoch(epoch).tolist()) == list(range(items))


def test_the_order_is_fixed_for_good() -> None:
    """A change here would reshuffle every run in the world that resumes."""
    order = Shuffled(Shuffling("train", 7, 3, 6), 12)
    assert order.epoch(0).tolist() == KNOWN[0]
    assert order.epoch(1).tolist() == KNOWN[1]


KNOWN = [[6, 8, 3, 7, 5, 4, 10, 0, 1, 9, 11, 2], [3, 2, 0, 1, 5, 4, 7, 11, 8, 6, 10, 9]]


def test_orders_differ_by_name_seed_and_epoch() -> None:
    def first(name: str, seed: int, epoch: int) -> tuple[int, ...]:
        order = Shuffled(Shuffling(name, seed, 8, 32), 100)
        return tuple(order.epoch(epoch).tolist())

    kinds = {first(n, s, e) for n in ("a", "b") for s in (0, 1) for e in (0, 1)}
    assert len(kinds) == 8


def test_blocks_stay_together_within_windows() -> None:
    """What a window holds comes from as many blocks as fit into it, so reads stay near."""
    order = Shuffled(Shuffling("a", 0, 10, 100), 1000)
    windows = order.epoch(0).reshape(10, 100)
    assert all(len(np.unique(window // 10)) == 10 for window in windows)
    assert not np.array_equal(np.sort(windows[0]), np.arange(100))


def test_positions_run_through_the_epochs() -> None:
    order = Shuffled(Shuffling("a", 0, 2, 5), 7)
    everything = np.concatenate([order.epoch(epoch) for epoch in range(4)])
    positions = np.array([27, 3, 0, 6, 7, 13, 14])
    assert np.array_equal(order.item_at(positions), everything[positions])


@settings(deadline=None)
@given(
    n=st.integers(1, 60), swap=st.tuples(st.integers(0, 59), st.integers(0, 59)), cut=st.integers(0)
)
def test_digest_ignores_the_order_of_reading_but_not_what_was_read(
    n: int, swap: tuple[int, int], cut: int
) -> None:
    order = Shuffled(Shuffling("a", 0, 4, 8), 13)
    positions = np.arange(n)
    items = order.item_at(positions)
    whole = digest(order, 0, n)
    parts = fingerprints(positions[: cut % n], items[: cut % n]) + fingerprints(
        positions[cut % n :], items[cut % n :]
    )
    assert parts % (1 << DIGEST_BITS) == whole
    i, j = swap[0] % n, swap[1] % n
    swapped = items.copy()
    swapped[[i, j]] = swapped[[j, i]]
    assert (fingerprints(positions, swapped) == whole) == bool(items[i] == items[j])
    assert fingerprints(positions[1:], items[1:]) != whole


def test_impossible_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="items, block, window"):
        Shuffled(Shuffling("a", 0, 1, 1), 0)


weights = st.lists(st.tuples(st.integers(1, 40), st.integers(1, 7)), min_size=1, max_size=4)
shufflings = st.builds(
    Shuffling, st.just("m"), st.integers(0, 9), st.integers(1, 20), st.integers(1, 50)
)


def mixed(shuffling: Shuffling, parts: list[tuple[int, int]]) -> Mixed:
    orders = [Shuffled(shuffling.of_part(n), size) for n, (size, _) in enumerate(parts)]
    return Mixed(shuffling, orders, [size for size, _ in parts], [w for _, w in parts])


def slowly_mixed(shuffling: Shuffling, parts: list[tuple[int, int]], end: int) -> list[int]:
    """By its definition, from the first position on: shuffle each period, count what each part
    has given out."""
    key = _key(shuffling)
    divisor = math.gcd(*(weight for _, weight in parts))
    slots = [n for n, (_, weight) in enumerate(parts) for _ in range(weight // divisor)]
    together = max(1, (1 << 12) // len(slots))
    given, items, first = [0] * len(parts), [], [0]
    for size, _ in parts:
        first.append(first[-1] + size)
    orders = [Shuffled(shuffling.of_part(n), size) for n, (size, _) in enumerate(parts)]
    for period in range(-(-end // len(slots))):
        assert period < together  # the first of the counters
        if period == 0:
            words = raw(key, 5, 0, together * len(slots))[: end + 30]
        mine = words[period * len(slots) :][: len(slots)].tolist()
        for slot in sorted(range(len(slots)), key=lambda i: mine[i]):
            part = slots[slot]
            epoch, place = divmod(given[part], parts[part][0])
            items.append(first[part] + int(orders[part].epoch(epoch)[place]))
            given[part] += 1
    return items[:end]


@settings(deadline=None, max_examples=40)
@given(shuffling=shufflings, parts=weights, end=st.integers(1, 300))
def test_a_mixture_is_what_its_definition_says(
    shuffling: Shuffling, parts: list[tuple[int, int]], end: int
) -> None:
    found = mixed(shuffling, parts).item_at(np.arange(end)).tolist()
    assert found == slowly_mixed(shuffling, parts, end)


@settings(deadline=None, max_examples=60)
@given(shuffling=shufflings, parts=weights, start=st.integers(0, 10**9), periods=st.integers(1, 9))
def test_a_mixture_is_exact_anywhere_without_history(
    shuffling: Shuffling, parts: list[tuple[int, int]], start: int, periods: int
) -> None:
    """From any period on: each part has its weight in every one, and runs on in its own order."""
    order = mixed(shuffling, parts)
    positions = (start // order.period) * order.period + np.arange(periods * order.period)
    part, inner = order.places(positions)
    each = part.reshape(periods, order.period)
    for number in range(len(parts)):
        assert ((each == number).sum(1) == order.weights[number]).all()
        mine = inner[part == number]
        before = positions[0] // order.period * order.weights[number]
        assert np.array_equal(mine, before + np.arange(len(mine)))
        assert order.counts(int(positions[0]))[number] == before
    shuffled = np.random.default_rng(0).permutation(positions)
    assert np.array_equal(
        order.item_at(shuffled), order.item_at(positions)[shuffled - positions[0]]
    )
    for position in positions[:3].tolist():
        wanted = order.places(np.array([position]))[0][0]
        first = sum(size for size, _ in parts[:wanted])
        others = order.substitutes(position, 9)
        assert ((others >= first) & (others < first + parts[wanted][0])).all()
        number, epoch = order.lap(position)
        assert number == wanted and order.laps(position + 1)[number] == (number, epoch)


def test_the_order_of_a_mixture_is_fixed_for_good() -> None:
    order = mixed(Shuffling("train", 7, 3, 6), [(5, 4), (4, 2)])
    assert order.period == 3
    assert order.item_at(np.arange(12)).tolist() == [5, 4, 0, 1, 6, 3, 2, 2, 8, 0, 7, 4]
    with pytest.raises(ValueError, match="weights must be whole numbers above 0"):
        mixed(Shuffling("train", 7, 3, 6), [(5, 4), (4, 0)])


groups = st.lists(st.integers(1, 6), min_size=1, max_size=40)


@settings(deadline=None, max_examples=60)
@given(shuffling=shufflings, counts=groups)
def test_one_of_each_group_an_epoch(shuffling: Shuffling, counts: list[int]) -> None:
    """Against the definition: images shuffled as ever, the caption drawn by the position."""
    ends = np.cumsum(counts)
    order, plain = OneOfEach(shuffling, ends), Shuffled(shuffling, len(counts))
    for epoch in range(3):
        words = raw(_key(shuffling), 3, epoch, len(counts)).tolist()
        expected = []
        for place, image in enumerate(plain.epoch(epoch).tolist()):
            choice = words[place] % counts[image]
            expected.append(int(ends[image]) - counts[image] + choice)
        assert order.epoch(epoch).tolist() == expected
        image_of = np.searchsorted(ends, order.epoch(epoch), side="right")
        assert sorted(image_of.tolist()) == list(range(len(counts)))
    assert (order.substitutes(5, 30) < ends[-1]).all()


def test_every_caption_of_an_image_is_drawn_in_time() -> None:
    order = OneOfEach(Shuffling("a", 0, 4, 8), np.array([5, 6, 16]))
    drawn = [np.sort(order.epoch(epoch)) for epoch in range(600)]
    counts = np.bincount(np.concatenate(drawn), minlength=16)
    assert counts[5] == 600 and counts[:5].min() > 80 and counts[6:].min() > 30
    with pytest.raises(ValueError, match="one is empty"):
        OneOfEach(Shuffling("a", 0, 4, 8), np.array([2, 2, 3]))
