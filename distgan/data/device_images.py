"""Decodes a batch of image files on an accelerator; loaders then hand over the files themselves.

nvJPEG's pixels are a few grey levels from those of the CPU's decoder, so a run keeps to one.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from distgan.data.damage import DamagedSample, UnreadableImage
from distgan.data.folder import Read
from distgan.data.images import FORMATS, MAX_PIXELS, central, decode, orientation
from distgan.data.order import Order
from distgan.data.sources import FILE, Item, Source
from distgan.data.substitutes import Fault, usable

FILE_BYTES = "file_bytes"
"""Of a batch: how many bytes of its joined files are each sample's, int64 (B,)."""


def decode_files(
    files: Sequence[Tensor], size: int, device: torch.device
) -> list[Tensor | UnreadableImage]:
    """For each file, uint8 (n,) on the CPU: (3, size, size) uint8 on the device, or why not.

    Plain JPEGs are decoded there together, all others, and those it refuses, on the CPU.
    """
    plain = [i for i, data in enumerate(files) if is_plain_jpeg(data.numpy().tobytes())]
    found: dict[int, Tensor | UnreadableImage] = dict(
        zip(plain, _decode_together([files[i] for i in plain], size, device), strict=False)
    )
    for i in range(len(files)):
        if i not in found:
            try:
                found[i] = decode(files[i].numpy().tobytes(), size).to(device)
            except UnreadableImage as error:
                found[i] = error
    return [found[i] for i in range(len(files))]


def is_plain_jpeg(data: bytes) -> bool:
    """Is it a JPEG of usual size in grey or YCbCr, not to be turned?"""
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            return (
                image.format == "JPEG"
                and image.mode in ("RGB", "L")
                and image.width * image.height <= MAX_PIXELS
                and orientation(image) == 1
            )
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return False


def _decode_together(files: list[Tensor], size: int, device: torch.device) -> list[Tensor]:
    """Empty when one of the files cannot be decoded: the library then gives none of them."""
    from torchvision.io import ImageReadMode, decode_jpeg  # takes seconds, and is wanted rarely

    if not files:
        return []
    try:
        images = decode_jpeg(files, mode=ImageReadMode.RGB, device=device)
    except RuntimeError as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        return []
    return [_fit(image, size) for image in images]


def _fit(pixels: Tensor, size: int) -> Tensor:
    """The middle square, resized with antialiasing; in float32, as devices do it."""
    square = central(pixels)
    if square.shape[-1] == size:
        return square
    shape = (size, size)
    fitted = functional.interpolate(square[None].float(), shape, mode="bilinear", antialias=True)
    return fitted[0].round_().clamp_(0, 255).to(torch.uint8)


class Decoding(Source):
    """A source that hands over files, with each decoded on the device."""

    def __init__(self, source: Source, size: int, device: torch.device) -> None:
        self.source, self.size, self.device = source, size, device
        self.digest = source.digest

    def __len__(self) -> int:
        return len(self.source)

    def sample(self, item: int, read: Read) -> Item:
        sample = dict(self.source.sample(item, read))
        (image,) = decode_files([sample.pop(FILE)], self.size, self.device)
        if isinstance(image, UnreadableImage):
            extent = self.source.extent(item)
            assert extent is not None
            raise DamagedSample(extent.name, self.key(item), str(image))
        return {**sample, "image": image}

    def id(self, item: int) -> int:
        return self.source.id(item)

    def key(self, item: int) -> str:
        return self.source.key(item)


class DeviceDecoder:
    """Turns the files of a batch into images, replacing what cannot be decoded."""

    def __init__(self, source: Source, size: int, device: torch.device) -> None:
        self.source = Decoding(source, size, device)

    def unfold(
        self, batch: dict[str, Any], items: Sequence[int], order: Order
    ) -> tuple[dict[str, Any], list[Fault]]:
        """The batch with `image` (B, 3, S, S) uint8 on the device in place of its files, and
        which samples others took the place of. `items`: what the order named."""
        batch = dict(batch)
        files = batch.pop(FILE).split(batch.pop(FILE_BYTES).tolist())
        images = decode_files(files, self.source.size, self.source.device)
        faults: list[Fault] = []
        for row, image in enumerate(images):
            if isinstance(image, UnreadableImage):
                position = int(batch["position"][row])
                used, sample, found = usable(self.source, order, position, items[row])
                faults += found
                images[row] = sample.pop("image")
                batch["id"][row], batch["key"][row] = self.source.id(used), self.source.key(used)
                for name, value in sample.items():
                    batch[name][row] = value
        return {**batch, "image": torch.stack(images)}, faults
