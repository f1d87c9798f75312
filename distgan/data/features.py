"""Regions of images from a frozen encoder, computed once and remembered.

Images are encoded in fixed blocks of neighbours, whoever asks for whichever of them: a block's
numbers never depend on the batch, the rank, or where a run was resumed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import torch
from torch import Tensor

from distgan.data.damage import DamagedSample, TooManyBadSamples
from distgan.data.dataset import Split

BLOCK = 64
"""Images encoded together, in every run and in feature shards."""

_log = logging.getLogger(__name__)


class Features:
    """The regions (K, D) of every image of a split, computed block by block when first needed.

    An image that cannot be read stands as black; it is counted and named in `bad`, and more of
    them than `max_bad_samples` raise TooManyBadSamples.
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
    ) -> None:
        """`encode`: images uint8 (B, 3, S, S) on `device` to regions (B, K, D)."""
        self.split, self.image_size, self.encode = split, image_size, encode
        self.device, self.block, self.max_bad_samples = device, block, max_bad_samples
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
        images = torch.stack([self._image(i) for i in range(first, end)])
        return self.encode(images.to(self.device))

    def _compute(self, number: int) -> None:
        regions, first = self.encoded(number), number * self.block
        if self._table is None:
            self._table = regions.new_empty(len(self.split), *regions.shape[1:])
        self._table[first : first + len(regions)] = regions
        self._known[number] = True

    def _image(self, i: int) -> Tensor:
        try:
            return self.split.image(i, self.image_size)
        except DamagedSample as error:
            self.bad[i] = str(error)
            _log.warning("features: black takes the place of %s", error)
        if len(self.bad) > self.max_bad_samples:
            raise TooManyBadSamples(
                f"split {self.split.name}: {len(self.bad)} bad images are more than "
                f"data.max_bad_samples={self.max_bad_samples}: {'; '.join(self.bad.values())}"
            )
        return torch.zeros(3, self.image_size, self.image_size, dtype=torch.uint8)
