from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distgan.data.order import DIGEST_BITS, Shuffled, Shuffling, digest, fingerprints

sizes = st.integers(1, 400)


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
