"""The Parquet index of a dataset: where each sample lies, its checksums, captions and facts."""

from __future__ import annotations

import json
import os
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from distgan.data.manifest import INDEX, MANIFEST, Manifest, ShardFile, file_sha256
from distgan.data.samples import Caption
from distgan.data.tars import DamagedShard, Member

FACTUAL = "factual"  # how captions without a style are called
EXTENSIONS = ("jpg", "png", "webp")
SCHEMA = pa.schema(
    [
        ("split", pa.string()),
        ("shard", pa.string()),
        ("key", pa.string()),
        ("extension", pa.string()),
        ("image_offset", pa.int64()),
        ("image_size", pa.int64()),
        ("image_crc32", pa.uint32()),
        ("json_offset", pa.int64()),  # of the member that holds the captions: json, or txt
        ("json_size", pa.int64()),
        ("json_crc32", pa.uint32()),
        ("captions", pa.list_(pa.struct([("text", pa.string()), ("style", pa.string())]))),
        ("facts", pa.string()),  # JSON
    ]
)

Row = dict[str, Any]


def row(
    split: str,
    shard: str,
    key: str,
    image: tuple[Member, bytes],
    words: tuple[Member, bytes],
    captions: Iterable[Caption],
    facts: dict[str, Any],
) -> Row:
    """One line of the index; `image` and `words` are members of the shard with their contents."""
    return {
        "split": split,
        "shard": shard,
        "key": key,
        "extension": image[0].name.rpartition(".")[2],
        **_place("image", *image),
        **_place("json", *words),
        "captions": [{"text": c.text, "style": c.style} for c in captions],
        "facts": json.dumps(facts, ensure_ascii=False),
    }


def write_index(table: pa.Table, path: Path) -> None:
    """Write rows as Parquet; the same rows give the same bytes."""
    pq.write_table(table, path, compression="zstd", row_group_size=65536)


def read_index(content: bytes) -> pa.Table:
    """The rows that `write_index` wrote. pa.ArrowException or OSError for what is no Parquet.

    On this thread alone: Arrow's pools, when they have only just started, may abort a program
    that ends at once.
    """
    file = pq.ParquetFile(pa.BufferReader(content), pre_buffer=False)
    return file.read(use_threads=False)


def check_keys(table: pa.Table) -> None:
    """ValueError naming keys that occur twice within a split."""
    seen = Counter(zip(table["split"].to_pylist(), table["key"].to_pylist(), strict=True))
    twice = [f"{split}: {key}" for (split, key), count in seen.items() if count > 1]
    if twice:
        raise ValueError(f"{len(twice)} keys occur more than once: {', '.join(twice[:5])}")


def count_captions(table: pa.Table) -> dict[str, dict[str, int]]:
    """How many captions of each style (FACTUAL without one) each split has."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for split, captions in zip(
        table["split"].to_pylist(), table["captions"].to_pylist(), strict=True
    ):
        counts[split].update(caption["style"] or FACTUAL for caption in captions)
    return {split: dict(sorted(count.items())) for split, count in counts.items()}


def is_unseen(split: str) -> bool:
    """Is a split kept from training, by its name: val, dev, test and what begins with these?"""
    return split.startswith(("val", "dev", "test"))


def shard_file(root: Path, name: str, split: str, samples: int) -> ShardFile:
    """What the manifest says of a shard that lies under `root`."""
    path = root / name
    return ShardFile(name, split, samples, path.stat().st_size, file_sha256(path))


def write_manifest(root: Path, manifest: Manifest) -> None:
    """Write `dataset.json`, whole or not at all."""
    path = root / MANIFEST
    temporary = path.with_suffix(".tmp")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.write(manifest.to_json())
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def index_path(root: Path) -> Path:
    return root / INDEX


def _place(what: str, member: Member, content: bytes) -> Row:
    if len(content) != member.size:
        raise DamagedShard(f"{member.name}: cut: {len(content)} of {member.size} bytes")
    return {
        f"{what}_offset": member.offset,
        f"{what}_size": member.size,
        f"{what}_crc32": zlib.crc32(content),
    }
