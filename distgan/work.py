"""How much writing captions may do at once, and in which numbers.

None of it changes which policy the words are drawn from. Chunks change a word only where its
uniform falls within rounding of a bin's border; with `tile` not even there.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import torch
from torch import Tensor

from distgan.models.decoder import Decoder, Footprint

GIB = 2**30
SHARE = 16  # one part in so many of the device's memory, where no bound is set
ROWS = {"cpu": 256, "cuda": 8192}  # decoded at once where memory allows: caches, or occupancy


class Plan(NamedTuple):
    """What is alive at once."""

    captions: int  # whose rollouts are written together
    rows: int  # that read a word and draw the next in one call


class Work(NamedTuple):
    """Bounds and precision of decoding many rows."""

    chunk_rows: int | None = None  # decoded at once; None: what memory and caches like
    memory_gib: float | None = None  # of states, tables and buffers; None: 1/16 of the device's
    tile: int | None = None  # every call decodes exactly so many rows, the last ones made up
    dtype: torch.dtype | None = None  # of the products; None: the decoder's own

    def plan(self, footprint: Footprint, device: torch.device, T: int, rollouts: int) -> Plan:
        """Captions and rows at once, within the bound; never fewer than one."""
        bound = memory(device) / SHARE if self.memory_gib is None else self.memory_gib * GIB
        rows = self.chunk_rows or max(16, min(ROWS[device.type], int(bound / 4 / footprint.step)))
        rows = self.tile or rows
        left = bound - rows * footprint.step
        most = rollouts * T  # a caption's rows, in the step in which they are most
        each = footprint.image + footprint.caption + 2 * most * footprint.row
        return Plan(max(1, min(rows, int(left / each))), rows)

    def ready(
        self, decoder: Decoder, context: object, images: tuple[int, int], row_steps: int, rows: int
    ) -> Decoder:
        """The decoder for `row_steps` rows of these images, `rows` at once.

        What is prepared once an image multiplies the rows of an image together, as many as there
        are: so tiles, which must not depend on that, do without.
        """
        if self.tile:
            return decoder
        return decoder.prepared(
            context, images, row_steps=row_steps, chunk_rows=rows, dtype=self.dtype
        )

    @torch.no_grad()
    def shared(
        self, decoder: Decoder, context: object, image: Tensor, rollouts: int
    ) -> tuple[Decoder, int]:
        """A decoder both to write captions of images `image` (R,) and to roll out from them, and
        the rows it takes at once: what is prepared is prepared once, where memory allows.

        In another precision than the decoder's own nothing is shared: captions come from the
        policy whose log-probabilities are improved.
        """
        T, device = decoder.max_length, image.device
        plan = self.plan(decoder.footprint(context), device, T, rollouts)
        if self.dtype is not None or not 0 < len(image) <= plan.captions:
            return decoder, plan.rows
        row_steps = len(image) * (2 * T + rollouts * T * (T - 1) // 2)
        images = (int(image[0]), int(image[-1]) + 1)
        return self.ready(decoder, context, images, row_steps, plan.rows), plan.rows

    def precision(self, device: torch.device) -> AbstractContextManager[object]:
        """What is not prepared runs under autocast where `dtype` is a 16-bit type."""
        if self.dtype in (torch.bfloat16, torch.float16):
            return torch.autocast(device.type, dtype=self.dtype)
        return nullcontext()


ANYHOW = Work()


class Chunks(NamedTuple):
    """Rows in parts of at most `rows`, or of exactly `tile`."""

    rows: int
    tile: int | None

    def of(self, count: int, device: torch.device) -> Iterator[Tensor]:
        """Consecutive row numbers."""
        yield from torch.arange(count, device=device).split(self.rows)

    def filled(self, part: Tensor) -> Tensor:
        """The row numbers, and after them repeats of the last up to whole tiles."""
        if self.tile is None:
            return part
        missing = -len(part) % self.tile
        return torch.cat([part, part[-1:].expand(missing)])


def memory(device: torch.device) -> int:
    """Bytes the device has, used or not: the same in every run, so that chunks are too."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
