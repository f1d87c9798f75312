"""Regions of images from a frozen encoder, computed once and remembered.

Images are encoded in fixed blocks of neighbours, whoever asks for whichever of them: a block's
numbers never depend on the batch, the rank, or where a run was resumed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

from distgan.data.damage import DamagedSample, TooManyBadSamples, UnreadableImage
from distgan.data.dataset import Split
from distgan.data.device_images import decode_files
from distgan.data.sources import as_file

BLOCK = 64
"""Images encoded together, in every run and in feature shards."""

_log = logging.getLogger(__name__)


class Features:
    """The regions (K, D) of every image of a split, computed block by block when first needed.

    An image that cannot be read stands as black; it is counted and named in `bad`, and more of
    them than `max_bad_samples` raise TooManyBadSamples. They are counted in this split and on
    this rank alone: ranks ask for different images at different times and cannot wait for each
    other here, so a run may meet as many in each split and on each rank before it stops.
    """

    def __init__(
        self,
        split: Split,
        image_size: int,
        encode: Callable[[Tensor], Tensor],
        *,
        device: torch.device,
        block: int = BLOCK,
        max_bad_samples: int = 0,
        decode: Literal["cpu", "gpu"] = "cpu",
    ) -> None:
        """`encode`: images uint8 (B, 3, S, S) on `device` to regions (B, K, D). `decode`: gpu
        leaves JPEGs to `device`."""
        self.split, self.image_size, self.encode = split, image_size, encode
        self.device, self.block, self.max_bad_samples = device, block, max_bad_samples
        self.decode = decode
        self.bad: dict[int, str] = {}  # by id
        self._table: Tensor | None = None  # (images, K, D)
        self._known = torch.zeros(-(-len(split) // block), dtype=torch.bool)

    @torch.no_grad()
    def of(self, ids: Tensor) -> Tensor:
        """Regions (B, K, D) of images `ids` (B,) int64, on the device."""
        blocks = (ids.cpu() // self.block).unique()
        for number in blocks[~self._known[blocks]].tolist():
            self._compute(number)
        assert self._table is not None
        return self._table[ids.to(self.device)]

    @torch.no_grad()
    def encoded(self, number: int) -> Tensor:
        """Regions (B, K, D) of the images of a block, worked out anew; the last may be shorter."""
        first = number * self.block
        end = min(first + self.block, len(self.split))
        images = torch.stack(self._images(range(first, end)))
        return self.encode(images.to(self.device))

    def _compute(self, number: int) -> None:
        regions, first = self.encoded(number), number * self.block
        if self._table is None:
            self._table = regions.new_empty(len(self.split), *regions.shape[1:])
        self._table[first : first + len(regions)] = regions
        self._known[number] = True

    def _images(self, numbers: Sequence[int]) -> list[Tensor]:
        """(3, S, S) uint8 each; black where one cannot be read."""
        read = self._decoded_on_device if self.decode == "gpu" else self._decoded
        found = read(numbers)
        black = torch.zeros(3, self.image_size, self.image_size, dtype=torch.uint8)
        on = self.device if self.decode == "gpu" else torch.device("cpu")
        return [found[i] if i in found else black.to(on) for i in numbers]

    def _decoded(self, numbers: Sequence[int]) -> dict[int, Tensor]:
        found = {}
        for i in numbers:
            try:
                found[i] = self.split.image(i, self.image_size)
            except DamagedSample as error:
                self._blame(i, error)
        return found

    def _decoded_on_device(self, numbers: Sequence[int]) -> dict[int, Tensor]:
        files: dict[int, Tensor] = {}
        for i in numbers:
            try:
                files[i] = as_file(self.split.image_bytes(i))
            except DamagedSample as error:
                self._blame(i, error)
        images = decode_files(list(files.values()), self.image_size, self.device)
        found = dict(zip(files, images, strict=True))
        for i, image in found.items():
            if isinstance(image, UnreadableImage):
                what = DamagedSample(self.split.shard(i), self.split.key(i), str(image))
                self._blame(i, what)
        return {i: image for i, image in found.items() if isinstance(image, Tensor)}

    def _blame(self, i: int, error: DamagedSample) -> None:
        self.bad[i] = str(error)
        _log.warning("features: black takes the place of %s", error)
        if len(self.bad) > self.max_bad_samples:
            raise TooManyBadSamples(
                f"split {self.split.name}: {len(self.bad)} bad images are more than "
                f"data.max_bad_samples={self.max_bad_samples}: {'; '.join(self.bad.values())}"
            ) from error
