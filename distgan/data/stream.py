"""An endless stream of global batches, cut into shares: exact, elastic, accountable.

A position of the stream is a sample's place in it, counted from 0 over all epochs. Which item
stands there is `Order`'s answer alone; a rank takes its share of each batch's positions. So the
whole state is the number of positions given out, whatever the number of ranks and processes.
"""

from __future__ import annotations

import logging
import multiprocessing
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from distgan.data.damage import TooManyBadSamples
from distgan.data.device_images import FILE_BYTES, DeviceDecoder
from distgan.data.folder import Extent, Read, read_now
from distgan.data.order import DIGEST_BITS, Lap, Order, Shuffling, digest, fingerprints
from distgan.data.read_ahead import ReadAhead
from distgan.data.sources import FILE, Item, Source
from distgan.data.substitutes import Fault, usable

Batch = dict[str, Any]

_log = logging.getLogger(__name__)
_AHEAD = 2  # batches each loader prepares


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
        read_ahead: int = 0,
        read_ahead_bytes: int = 64 * 2**20,
        pin: bool = False,
        decoder: DeviceDecoder | None = None,
    ) -> None:
        """`read_ahead`: samples whose files each reading process fetches before their turn, as
        far as `read_ahead_bytes` allow. `pin`: batches lie in pinned memory, where there is CUDA.
        `decoder`: for a source that hands over files."""
        if not 0 <= rank < size:
            raise ValueError(f"rank must be in [0, {size}), got {rank}")
        if rows < size:
            raise ValueError(f"stream {name}: a batch of {rows} rows cannot feed {size} workers")
        self.source, self.name, self.rows, self.seed = source, name, rows, seed
        self.rank, self.size, self.loaders, self.pin = rank, size, loaders, pin
        self.max_bad_samples, self.decoder = max_bad_samples, decoder
        self.read_ahead, self.read_ahead_bytes = read_ahead, read_ahead_bytes
        self.order: Order = source.order(Shuffling(name, seed, block, window))
        self.consumed = 0  # positions given out, over all ranks
        self._batches: Iterator[Loaded] | None = None
        self._reader: Reader | None = None  # where this process reads
        self._loaded = _Tally()  # of what was consumed before this stream's life
        self._count, self._digest = 0, 0  # of what this rank gave out itself
        self._expected = _Tally()  # of all ranks by the order, as far as it was worked out
        self._bad: dict[Lap, dict[int, str]] = {}  # by epoch and item
        self._bad_before: dict[Lap, int] = {}  # those of the epochs that the state was taken in
        self._named: dict[str, None] = {}  # every damaged sample this rank met, once

    def __iter__(self) -> Stream:
        return self

    def __next__(self) -> Batch:
        if self._batches is None:
            self._batches = self._start()
        loaded = next(self._batches)
        if self.decoder is not None:
            batch, faults = self.decoder.unfold(loaded.batch, loaded.items, self.order)
            loaded = loaded._replace(batch=batch, faults=(*loaded.faults, *faults))
        self._account(loaded)
        self.consumed += self.rows
        return loaded.batch

    @property
    def epoch(self) -> float:
        """Epochs consumed; of a mixture, those of its first part."""
        return self.order.epochs(self.consumed)

    @property
    def bad(self) -> list[str]:
        """The damaged samples this rank met, each once."""
        return list(self._named)

    def state_dict(self, total: Callable[[Tensor], Tensor] = lambda mine: mine) -> dict[str, Any]:
        """The place in the stream, equal on every rank. Collective if `total`, a sum over the
        ranks, is. AssertionError when what was given out is not what the order demands."""
        laps = self.order.laps(self.consumed)
        found = [len(self._bad.get(lap, {})) for lap in laps]
        count, given, *bad = total(torch.tensor([self._count, self._digest, *found])).tolist()
        given_out = self._loaded.plus(count, given)
        self._expected = self._expected.plus(
            self.consumed - self._expected.positions,
            digest(self.order, self._expected.positions, self.consumed),
        )
        assert given_out == self._expected, f"{self.name}: {given_out} is not {self._expected}"
        bad = [n + self._bad_before.get(lap, 0) for n, lap in zip(bad, laps, strict=True)]
        self._check_bad(sum(bad))
        return {
            **self._identity(),
            "consumed": self.consumed,
            "digest": given_out.digest,
            "bad": [[*lap, n] for lap, n in zip(laps, bad, strict=True)],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go to where `state` was taken, at whatever number of ranks and loaders.

        ValueError when it is another stream's, or when its digest is not that of its positions.
        """
        for key, value in self._identity().items():
            if state.get(key) != value:
                raise ValueError(
                    f"stream {self.name}: {key} was {state.get(key)!r} when saved, now {value!r}"
                )
        consumed = int(state["consumed"])
        if state["digest"] != digest(self.order, 0, consumed):
            raise ValueError(
                f"stream {self.name}: the saved digest is not that of positions 0 to {consumed}"
            )
        self.close()
        self.consumed = consumed
        self._loaded = self._expected = _Tally(consumed, int(state["digest"]))
        self._count, self._digest, self._bad = 0, 0, {}
        self._bad_before = {(int(part), int(epoch)): int(n) for part, epoch, n in state["bad"]}

    def close(self) -> None:
        """End the loaders; the next batch starts them again."""
        self._batches = None
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def _identity(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "seed": self.seed,
            "items": len(self.source),
            "source": self.source.digest,
            "order": self.order.identity(),
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
        stride = self.rows * max(1, self.loaders)
        plan = _Plan(self.read_ahead, self.read_ahead_bytes, stride)
        reader = Reader(self.source, self.order, self.rows, plan)
        if self.loaders == 0:
            self._reader = reader
            loaded = (reader.__getitems__(share) for share in self._shares())
            return map(_pinned, loaded) if self.pin and torch.cuda.is_available() else loaded
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
            self._bad.setdefault(self.order.lap(fault.position), {})[fault.item] = fault.what
            if fault.what not in self._named:
                _log.warning("%s: another takes the place of %s", self.name, fault.what)
            self._named[fault.what] = None
        if loaded.faults:
            current = dict(self.order.laps(int(positions[-1]) + 1))
            for part, epoch in list(self._bad):
                if epoch < current[part] - 1:
                    del self._bad[part, epoch]
            most = Counter[int]()
            for (part, _), found in self._bad.items():
                most[part] = max(most[part], len(found))
            self._check_bad(most.total())

    def _check_bad(self, count: int) -> None:
        """No sample occurs twice in an epoch: so many differ within one, summed over parts."""
        if count > self.max_bad_samples:
            raise TooManyBadSamples(
                f"stream {self.name}: {count} bad samples are more than data.max_bad_samples="
                f"{self.max_bad_samples}: {'; '.join(self.bad[:10]) or 'on other workers'}"
            )


class _Plan(NamedTuple):
    """How far ahead a reader fetches. `stride`: positions from one of its shares to its next."""

    samples: int
    most_bytes: int
    stride: int


class Reader(Dataset[Any]):
    """Reads a share's samples, putting others in the place of damaged ones."""

    def __init__(self, source: Source, order: Order, rows: int, plan: _Plan) -> None:
        self.source, self.order, self.rows, self.plan = source, order, rows, plan
        self._ahead: ReadAhead | None = None
        self._announced: tuple[int, int] | None = None  # positions of the next share to come

    def __getitem__(self, place: tuple[int, int]) -> Loaded:
        return self.__getitems__([place])

    def __getitems__(self, share: Sequence[tuple[int, int]]) -> Loaded:
        """All samples of a share, stacked."""
        read = self._look_ahead([position for position, _ in share])
        samples, items, faults = [], [], []
        for position, item in share:
            used, sample, found = self._usable(position, item, read)
            faults += found
            items.append(used)
            samples.append(sample)
        files = [sample.pop(FILE) for sample in samples if FILE in sample]
        batch: Batch = {
            name: torch.stack([sample[name] for sample in samples]) for name in samples[0]
        }
        if files:
            batch[FILE] = torch.cat(files)
            batch[FILE_BYTES] = torch.tensor([len(data) for data in files])
        batch["position"] = torch.tensor([position for position, _ in share])
        batch["id"] = torch.tensor([self.source.id(item) for item in items])
        batch["weight"] = torch.full((len(share),), 1 / self.rows, dtype=torch.float64)
        batch["key"] = [self.source.key(item) for item in items]
        return Loaded(batch, tuple(item for _, item in share), tuple(faults))

    def _usable(self, position: int, item: int, read: Read) -> tuple[int, Item, list[Fault]]:
        asked = []

        def noted(extent: Extent) -> bytes:
            asked.append(extent)
            return read(extent)

        found = usable(self.source, self.order, position, item, noted)
        extent = self.source.extent(item)
        if self._ahead is not None and extent is not None and extent not in asked:
            self._ahead.forget(extent)  # found damaged without its file
        return found

    def close(self) -> None:
        """End the threads that read ahead."""
        if self._ahead is not None:
            self._ahead.close()
        self._ahead = self._announced = None

    def _look_ahead(self, positions: Sequence[int]) -> Read:
        """Announce the shares that will follow this one, as far as they are not yet."""
        if self.plan.samples == 0:
            return read_now
        shares = -(-self.plan.samples // len(positions))  # ahead of this one
        here = np.array(positions)
        if self._ahead is None or self._announced != (positions[0], positions[-1]):
            self.close()
            self._ahead = ReadAhead(self.plan.most_bytes)
            coming = [here + k * self.plan.stride for k in range(shares + 1)]
        else:
            coming = [here + shares * self.plan.stride]
        self._announced = (positions[0] + self.plan.stride, positions[-1] + self.plan.stride)
        items = self.order.item_at(np.concatenate(coming)).tolist()
        extents = (self.source.extent(item) for item in items)
        self._ahead.expect([extent for extent in extents if extent is not None])
        return self._ahead.read


class _Endless:
    """A batch sampler from a function that makes an endless iterator."""

    def __init__(self, shares: Callable[[], Iterator[list[tuple[int, int]]]]) -> None:
        self._shares = shares

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        return self._shares()


def _pinned(loaded: Loaded) -> Loaded:
    """As data loaders do it: copies to the device then go on beside the work."""
    batch = {
        name: value.pin_memory() if isinstance(value, Tensor) else value
        for name, value in loaded.batch.items()
    }
    return loaded._replace(batch=batch)


def _as_it_is(loaded: Any) -> Any:
    return loaded
