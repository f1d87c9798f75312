"""Writes feature shards, atomically and restartably; a shard at a time, by whichever process.

Everything is written into OUT.partial, each shard complete or absent; the last step renames it to
OUT. Images are encoded in the blocks that training encodes them in, so the bytes are the same
however many processes write, and the numbers are those of encoding on the fly.
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import save
from torch import Tensor

from distgan.data.damage import TooManyBadSamples
from distgan.data.dataset import Dataset, Split
from distgan.data.feature_manifest import (
    MANIFEST,
    FeatureManifest,
    FeatureShard,
    Recipe,
    parse_feature_manifest,
)
from distgan.data.feature_shards import DTYPES
from distgan.data.features import Features
from distgan.data.manifest import file_sha256
from distgan.data.progress import Progress, silent

_PLAN = "plan.json"

Encode = Callable[[Tensor], Tensor]
"""Images uint8 (B, 3, S, S) to regions (B, K, D)."""


class FeaturePiece(NamedTuple):
    """One shard to be written: images [first, end) of a split."""

    split: str
    number: int
    first: int
    end: int

    @property
    def name(self) -> str:
        return f"{self.split}-{self.number:06d}.safetensors"


WriteFeatures = Callable[[Path, Recipe, Sequence[FeaturePiece]], Iterator[FeaturePiece]]
"""Writes pieces into a folder and yields each once it is complete, in any order."""


def write_features(
    dataset: Dataset,
    out: Path,
    recipe: Recipe,
    splits: Sequence[str],
    write: WriteFeatures,
    *,
    max_bad_samples: int = 0,
    progress: Progress = silent,
) -> bool:
    """Write the features of these splits to `out`; False when `out` holds just those already.

    Images that cannot be read stand as black and are named in the manifest; TooManyBadSamples
    when there are more of them than `max_bad_samples`. ValueError when `out` is anything else.
    """
    counts = {name: len(dataset.split(name)) for name in splits}
    if _already_there(out, recipe, counts):
        return False
    partial = out.with_name(out.name + ".partial")
    _start_or_continue(partial, recipe, counts)
    pieces = plan(counts, recipe.shard_rows)
    missing = [piece for piece in pieces if not _facts_path(partial, piece).is_file()]
    total = sum(counts.values())
    done = total - sum(piece.end - piece.first for piece in missing)
    progress(done, total)
    for piece in write(partial, recipe, missing) if missing else ():
        done += piece.end - piece.first
        progress(done, total)
    _finish(partial, dataset, recipe, counts, pieces, max_bad_samples)
    _move(partial, out)
    return True


def plan(counts: Mapping[str, int], shard_rows: int) -> list[FeaturePiece]:
    """The shards of splits with so many images."""
    return [
        FeaturePiece(split, number, first, min(first + shard_rows, count))
        for split, count in counts.items()
        for number, first in enumerate(range(0, count, shard_rows))
    ]


def write_piece(
    split: Split,
    folder: Path,
    recipe: Recipe,
    piece: FeaturePiece,
    encode: Encode,
    device: torch.device,
) -> None:
    """Encode and write one shard, then the facts that say it is complete."""
    features = Features(
        split,
        recipe.image_size,
        encode,
        device=device,
        block=recipe.block,
        max_bad_samples=len(split),  # counted over all pieces in the end
    )
    blocks = range(piece.first // recipe.block, -(-piece.end // recipe.block))
    dtype = DTYPES[recipe.dtype]
    regions = torch.cat([features.encoded(number).to(dtype).cpu() for number in blocks])
    if not torch.isfinite(regions).all():
        raise ValueError(f"{piece.name}: the encoder's regions are not finite in {recipe.dtype}")
    rows = regions.view(len(regions), -1).view(torch.uint8).numpy()
    sums = torch.tensor([zlib.crc32(row) for row in rows])
    _replace(folder / piece.name, save({"crc32": sums, "features": regions.contiguous()}))
    facts = {"shape": regions.shape[1:], "bad": {str(i): why for i, why in features.bad.items()}}
    _replace(_facts_path(folder, piece), json.dumps(facts, ensure_ascii=False).encode())


def _facts_path(folder: Path, piece: FeaturePiece) -> Path:
    return folder / f"{piece.name}.json"


def _replace(path: Path, content: bytes) -> None:
    """Write a file in one stroke."""
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _already_there(out: Path, recipe: Recipe, counts: Mapping[str, int]) -> bool:
    if not out.exists():
        return False
    path = out / MANIFEST
    if not path.is_file():
        raise ValueError(f"{out} exists and holds no features; choose another name")
    present = parse_feature_manifest(path.read_text("utf-8"), str(path))
    have, want = asdict(present.recipe), asdict(recipe)
    differing = sorted(key for key in want if have[key] != want[key])
    if present.splits != dict(counts):
        differing.append("splits")
    if differing:
        raise ValueError(
            f"{out} holds other features (differ in {', '.join(differing)}); choose another "
            "name, or remove them first"
        )
    return True


def _start_or_continue(partial: Path, recipe: Recipe, counts: Mapping[str, int]) -> None:
    """Keep the finished shards of an interrupted call for the same features, else start anew."""
    text = json.dumps({"recipe": asdict(recipe), "splits": dict(counts)}, sort_keys=True)
    path = partial / _PLAN
    if partial.exists() and not (path.is_file() and path.read_text("utf-8") == text):
        shutil.rmtree(partial)
    partial.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _finish(
    partial: Path,
    dataset: Dataset,
    recipe: Recipe,
    counts: Mapping[str, int],
    pieces: Sequence[FeaturePiece],
    max_bad_samples: int,
) -> None:
    facts: list[dict[str, Any]] = [
        json.loads(_facts_path(partial, piece).read_text("utf-8")) for piece in pieces
    ]
    bad: dict[str, dict[str, str]] = {}
    for piece, told in zip(pieces, facts, strict=True):
        for row, why in told["bad"].items():
            bad.setdefault(piece.split, {})[dataset.split(piece.split).key(int(row))] = why
    found = [why for reasons in bad.values() for why in reasons.values()]
    if len(found) > max_bad_samples:
        raise TooManyBadSamples(
            f"{len(found)} bad images are more than max_bad_samples={max_bad_samples}: "
            f"{'; '.join(found[:10])}"
        )
    regions, channels = facts[0]["shape"]
    manifest = FeatureManifest(
        recipe=recipe,
        regions=regions,
        channels=channels,
        splits=dict(counts),
        bad=bad,
        shards=tuple(_described(partial, piece) for piece in pieces),
    )
    _replace(partial / MANIFEST, manifest.to_json().encode())


def _described(partial: Path, piece: FeaturePiece) -> FeatureShard:
    path = partial / piece.name
    size, digest = path.stat().st_size, file_sha256(path)
    return FeatureShard(piece.name, piece.split, piece.first, piece.end - piece.first, size, digest)


def _move(partial: Path, out: Path) -> None:
    os.replace(partial, out)
    for path in (*out.glob("*.safetensors.json"), *out.glob("*.tmp"), out / _PLAN):
        with suppress(FileNotFoundError):
            path.unlink()
