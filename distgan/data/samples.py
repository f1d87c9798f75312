"""A sample as importers yield it and shards hold it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Caption:
    """One caption. `style` is a style's name, or None for a factual caption."""

    text: str
    style: str | None = None


@dataclass(frozen=True)
class Sample:
    """One image with its captions.

    `image` holds the original file's bytes, `extension` their kind (jpg, png, webp); `facts`
    goes into the sample's JSON beside the captions (ids, class, a drawn scene).
    """

    key: str
    image: bytes
    extension: str
    captions: tuple[Caption, ...]
    facts: dict[str, Any] = field(default_factory=dict)
