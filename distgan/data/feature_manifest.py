"""`features.json`: which encoder made a folder of feature shards, from what, and their hashes."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any, Literal

FORMAT = "distgan-features"
VERSION = 1
MANIFEST = "features.json"
FOLDER = "features"  # within a dataset's folder: FOLDER/NAME holds the features NAME

Dtype = Literal["bfloat16", "float32"]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """All that the numbers depend on."""

    dataset: str  # its digest
    encoder: str  # its name
    weights: str  # the digest of its weights
    image_size: int
    preprocessing: str
    dtype: Dtype  # as stored; the encoder computes in float32
    block: int  # neighbours that are encoded together
    shard_rows: int

    def __post_init__(self) -> None:
        if self.shard_rows < 1 or self.shard_rows % self.block:
            raise ValueError(
                f"shard_rows must be a multiple of {self.block}, got {self.shard_rows}"
            )


@dataclass(frozen=True)
class FeatureShard:
    """A safetensors file with the regions of images [first, first + rows) of a split."""

    name: str
    split: str
    first: int
    rows: int
    size: int  # bytes
    sha256: str


@dataclass(frozen=True, kw_only=True)
class FeatureManifest:
    """The contents of `features.json`."""

    recipe: Recipe
    regions: int  # K
    channels: int  # D
    splits: dict[str, int]  # rows
    bad: dict[str, dict[str, str]]  # by split and key: images that could not be read, and why
    shards: tuple[FeatureShard, ...]

    def to_json(self) -> str:
        body = {"format": FORMAT, "version": VERSION, **asdict(self)}
        return json.dumps({**body, "sha256": _hash(body)}, indent=1, ensure_ascii=False) + "\n"

    def of_split(self, split: str) -> list[FeatureShard]:
        """The shards of a split, in the order of their rows."""
        return sorted((s for s in self.shards if s.split == split), key=lambda s: s.first)


def parse_feature_manifest(text: str, where: str) -> FeatureManifest:
    """The manifest in `text`; ValueError naming `where` for anything not written by `to_json`."""
    try:
        body: Any = json.loads(text)
    except ValueError as error:
        raise ValueError(f"{where}: damaged: not JSON ({error})") from error
    if not isinstance(body, dict) or body.get("format") != FORMAT:
        raise ValueError(f"{where}: not {FORMAT}")
    if body.get("version") != VERSION:
        raise ValueError(
            f"{where}: version {body.get('version')!r}; this program reads version {VERSION}"
        )
    if body.pop("sha256", None) != _hash(body):
        raise ValueError(
            f"{where}: damaged, or changed since it was written (its own hash differs)"
        )
    return FeatureManifest(
        recipe=Recipe(**body["recipe"]),
        regions=body["regions"],
        channels=body["channels"],
        splits=body["splits"],
        bad=body["bad"],
        shards=tuple(FeatureShard(**shard) for shard in body["shards"]),
    )


def _hash(body: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
