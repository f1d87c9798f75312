"""An endless stream of global batches, cut into shares: exact, elastic, accountable.

A position of the stream is a sample's place in it, counted from 0 over all epochs. Which item
stands there is `Order`'s answer alone; a rank takes its share of each batch's positions. So the
whole state is the number of positions given out, whatever the number of ranks and processes.
"""

from __future__ import annotations

import logging
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from distgan.data.damage import DamagedSample, TooManyBadSamples
from distgan.data.order import DIGEST_BITS, Order, fingerprints
from distgan.data.sources import Source

Batch = dict[str, Any]

_log = logging.getLogger(__name__)
_SUBSTITUTES = 64  # items tried for the place of a damaged one
_AHEAD = 2  # batches each loader prepares


class Fault(NamedTuple):
    """A damaged sample whose place another one took."""

    position: int
    item: int
    what: str


class Loaded(NamedTuple):
    """This rank's share of a batch as the loaders hand it over."""

    batch: Batch
    items: tuple[int, ...]  # that the order named, damaged or not
    faults: tuple[Fault, ...]


class _Tally(NamedTuple):
    """How many positions, and what their fingerprints add up to."""

    positions: int = 0
    digest: int = 0

    def plus(self, positions: int, digest: int) -> _Tally:
        return _Tally(self.positions + positions, (self.digest + digest) % (1 << DIGEST_BITS))


class Stream:
    """An iterator over this rank's shares of global batches of `rows` samples.

    A batch holds the source's tensors, stacked, and `position`, `id`, `weight` (1/rows) and
    `key`. Batches cross the borders of epochs; shares of ranks differ by at most one sample.
    `loaders` processes read ahead; what they prepared but nobody took is not consumed.
    """

    def __init__(
        self,
        source: Source,
        *,
        name: str,
        rows: int,
        seed: int,
        rank: int = 0,
        size: int = 1,
        loaders: int = 0,
        block: int = 256,
        window: int = 4096,
        max_bad_samples: int = 0,
        pin: bool = False,
    ) -> None:
        if not 0 <= rank < size:
            raise ValueError(f"rank must be in [0, {size}), got {rank}")
        if rows < size:
            raise ValueError(f"stream {name}: a batch of {rows} rows cannot feed {size} workers")
        self.source, self.name, self.rows, self.seed = source, name, rows, seed
        self.rank, self.size, self.loaders, self.pin = rank, size, loaders, pin
        self.max_bad_samples = max_bad_samples
        self.order = Order(name=name, seed=seed, items=len(source), block=block, window=window)
        self.consumed = 0  # positions given out, over all ranks
        self._batches: Iterator[Loaded] | None = None
        self._loaded = _Tally()  # of what was consumed before this stream's life
        self._count, self._digest = 0, 0  # of what this rank gave out itself
        self._expected = _Tally()  # of all ranks by the order, as far as it was worked out
        self._bad: dict[int, dict[int, str]] = {}  # by epoch and item
        self._bad_before: dict[int, int] = {}  # those of the epoch that the state was taken in

    def __iter__(self) -> Stream:
        return self

    def __next__(self) -> Batch:
        if self._batches is None:
            self._batches = self._start()
        loaded = next(self._batches)
        self._account(loaded)
        self.consumed += self.rows
        return loaded.batch

    @property
    def epoch(self) -> float:
        """Epochs consumed."""
        return self.consumed / len(self.source)

    @property
    def bad(self) -> list[str]:
        """The damaged samples this rank met in the current epoch and the last."""
        return [what for found in self._bad.values() for what in found.values()]

    def state_dict(self, total: Callable[[Tensor], Tensor] = lambda mine: mine) -> dict[str, Any]:
        """The place in the stream, equal on every rank. Collective if `total`, a sum over the
        ranks, is. AssertionError when what was given out is not what the order demands."""
        epoch = max(self.consumed - 1, 0) // len(self.source)
        mine = torch.tensor([self._count, self._digest, len(self._bad.get(epoch, {}))])
        count, digest, bad = (int(x) for x in total(mine))
        given_out = self._loaded.plus(count, digest)
        self._expected = self._expected.plus(
            self.consumed - self._expected.positions,
            self.order.digest(self._expected.positions, self.consumed),
        )
        assert given_out == self._expected, f"{self.name}: {given_out} is not {self._expected}"
        bad += self._bad_before.get(epoch, 0)
        self._check_bad(bad)
        return {
            **self._identity(),
            "consumed": self.consumed,
            "digest": given_out.digest,
            "bad": {"epoch": epoch, "count": bad},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go to where `state` was taken, at whatever number of ranks and loaders.

        ValueError when it is another stream's, or when its digest is not that of its positions.
        """
        for key, value in self._identity().items():
            if state[key] != value:
                raise ValueError(
                    f"stream {self.name}: {key} was {state[key]!r} when saved, now {value!r}"
                )
        consumed = int(state["consumed"])
        if state["digest"] != self.order.digest(0, consumed):
            raise ValueError(
                f"stream {self.name}: the saved digest is not that of positions 0 to {consumed}"
            )
        self.close()
        self.consumed = consumed
        self._loaded = self._expected = _Tally(consumed, int(state["digest"]))
        self._count, self._digest, self._bad = 0, 0, {}
        self._bad_before = {int(state["bad"]["epoch"]): int(state["bad"]["count"])}

    def close(self) -> None:
        """End the loaders; the next batch starts them again."""
        self._batches = None

    def _identity(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "seed": self.seed,
            "items": len(self.source),
            "source": self.source.digest,
            "block": self.order.block,
            "window": self.order.window,
        }

    def _shares(self) -> Iterator[list[tuple[int, int]]]:
        """This rank's (position, item) pairs of each batch from now on, without end."""
        first = self.rows * self.rank // self.size
        end = self.rows * (self.rank + 1) // self.size
        start = self.consumed
        while True:
            positions = np.arange(start + first, start + end)
            items = self.order.item_at(positions)
            yield list(zip(positions.tolist(), items.tolist(), strict=True))
            start += self.rows

    def _start(self) -> Iterator[Loaded]:
        reader = Reader(self.source, self.order, self.rows)
        if self.loaders == 0:
            return (reader.__getitems__(share) for share in self._shares())
        context = multiprocessing.get_context("forkserver")
        # a process forked from one that has imported torch starts in no time
        context.set_forkserver_preload(["__main__", "distgan.data.stream"])
        loader = DataLoader(
            reader,
            batch_sampler=_Endless(self._shares),
            num_workers=self.loaders,
            prefetch_factor=_AHEAD,
            collate_fn=_as_it_is,
            multiprocessing_context=context,
            generator=torch.Generator(),  # else starting would draw from the global one
            pin_memory=self.pin,
        )
        return iter(loader)

    def _account(self, loaded: Loaded) -> None:
        positions = loaded.batch["position"].numpy()
        items = np.array(loaded.items, dtype=np.int64)
        self._count += len(positions)
        self._digest = (self._digest + fingerprints(positions, items)) % (1 << DIGEST_BITS)
        for fault in loaded.faults:
            epoch = fault.position // len(self.source)
            self._bad.setdefault(epoch, {})[fault.item] = fault.what
            _log.warning("%s: another takes the place of %s", self.name, fault.what)
        if loaded.faults:
            for epoch in sorted(self._bad)[:-2]:
                del self._bad[epoch]
            self._check_bad(max(len(found) for found in self._bad.values()))

    def _check_bad(self, count: int) -> None:
        """Each sample occurs once an epoch: so many differ within one of them."""
        if count > self.max_bad_samples:
            raise TooManyBadSamples(
                f"stream {self.name}: {count} bad samples are more than data.max_bad_samples="
                f"{self.max_bad_samples}: {'; '.join(self.bad[:10]) or 'on other workers'}"
            )


class Reader(Dataset[Any]):
    """Reads a share's samples, putting others in the place of damaged ones."""

    def __init__(self, source: Source, order: Order, rows: int) -> None:
        self.source, self.order, self.rows = source, order, rows

    def __getitem__(self, place: tuple[int, int]) -> Loaded:
        return self.__getitems__([place])

    def __getitems__(self, share: Sequence[tuple[int, int]]) -> Loaded:
        """All samples of a share, stacked."""
        samples, items, faults = [], [], []
        for position, item in share:
            used, sample, found = self._usable(position, item)
            faults += found
            items.append(used)
            samples.append(sample)
        batch: Batch = {
            name: torch.stack([sample[name] for sample in samples]) for name in samples[0]
        }
        batch["position"] = torch.tensor([position for position, _ in share])
        batch["id"] = torch.tensor([self.source.id(item) for item in items])
        batch["weight"] = torch.full((len(share),), 1 / self.rows, dtype=torch.float64)
        batch["key"] = [self.source.key(item) for item in items]
        return Loaded(batch, tuple(item for _, item in share), tuple(faults))

    def _usable(self, position: int, item: int) -> tuple[int, dict[str, Any], list[Fault]]:
        try:
            return item, self.source[item], []
        except DamagedSample as error:
            faults = [Fault(position, item, str(error))]
        for other in self.order.substitutes(position, _SUBSTITUTES).tolist():
            try:
                return other, self.source[other], faults
            except DamagedSample as error:
                last = error
        raise TooManyBadSamples(
            f"stream {self.order.name}: {faults[0].what}; and so are {_SUBSTITUTES} others "
            f"tried in its place, the last {last}"
        )


class _Endless:
    """A batch sampler from a function that makes an endless iterator."""

    def __init__(self, shares: Callable[[], Iterator[list[tuple[int, int]]]]) -> None:
        self._shares = shares

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        return self._shares()


def _as_it_is(loaded: Any) -> Any:
    return loaded
