"""A small importer of made-up samples."""

from __future__ import annotations

import io
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from distgan.data.samples import Caption, Sample


def picture(i: int, size: tuple[int, int] = (20, 16), kind: str = "JPEG") -> bytes:
    """An image file whose colours depend on `i`."""
    pixels = np.random.default_rng(i).integers(0, 256, (2, 2, 3), dtype=np.uint8)
    data = io.BytesIO()
    Image.fromarray(pixels).resize(size).save(data, kind)
    return data.getvalue()


@dataclass(frozen=True)
class Numbers:
    """`counts` samples a split: two factual captions each, every third has a cheerful one."""

    counts: dict[str, int] = field(default_factory=lambda: {"train": 23, "val": 5})

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(self.counts)

    def num_samples(self, split: str) -> int:
        return self.counts[split]

    def sample(self, split: str, i: int) -> Sample:
        captions = [Caption(f"Number {i}, plainly."), Caption(f"the number {i}")]
        if i % 3 == 0:
            captions.append(Caption(f"a lovely number {i} !", "cheerful"))
        return Sample(f"{split}{i:03d}", picture(i), "jpg", tuple(captions), {"number": i})

    def texts(self) -> dict[str, list[str]]:
        return {"cheerful": ["what a lovely day", "oh joy"]}
