"""Damage to prepared datasets: `verify` names it; opening refuses, or a stream survives."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from damaging import flipped, stream, survived

from distgan.data.damage import TooManyBadSamples
from distgan.data.dataset import Dataset
from distgan.data.manifest import file_sha256, parse_manifest
from distgan.data.shard_index import write_index
from distgan.data.verify import verify

FIRST, OTHER = "train-000000.tar", "train-000001.tar"  # hold train000 to train009, and 010 to 019
NINE = {f"train{i:03d}" for i in range(10, 20)}


def rows_of(root: Path) -> list[dict[str, Any]]:
    return pq.read_table(root / "index.parquet").to_pylist()


def forge(root: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the row of train012, and everything that would tell."""
    table = pq.read_table(root / "index.parquet")
    rows = table.to_pylist()
    change(next(row for row in rows if row["key"] == "train012"))
    write_index(pa.Table.from_pylist(rows, schema=table.schema), root / "index.parquet")
    path = root / "dataset.json"
    manifest = parse_manifest(path.read_text("utf-8"), "dataset.json")
    new = replace(manifest, index_sha256=file_sha256(root / "index.parquet"))
    path.write_text(new.to_json(), encoding="utf-8")


def place(root: Path, key: str, what: str = "image") -> int:
    return next(row[f"{what}_offset"] for row in rows_of(root) if row["key"] == key)


def flip(root: Path, byte: int) -> None:
    (root / OTHER).write_bytes(flipped((root / OTHER).read_bytes(), byte))


def swap(root: Path) -> None:
    (root / FIRST).rename(root / "kept")
    (root / OTHER).rename(root / FIRST)
    (root / "kept").rename(root / OTHER)


SWAPPED = {f"train{i:03d}" for i in range(20)}
SURVIVED: dict[str, tuple[Callable[[Path], object], set[str], str]] = {
    "flipped byte in an image": (
        lambda root: flip(root, place(root, "train012") + 50),
        {"train012"},
        f"{OTHER}: train012: the image's bytes changed",
    ),
    "shard cut at a member's boundary": (
        lambda root: os.truncate(root / OTHER, place(root, "train017") - 512),
        {"train017", "train018", "train019"},
        f"{OTHER}: train017: cut",
    ),
    "shard cut inside a header": (
        lambda root: os.truncate(root / OTHER, place(root, "train017") - 200),
        {"train017", "train018", "train019"},
        f"{OTHER}: train017: cut",
    ),
    "shard cut inside an image": (
        lambda root: os.truncate(root / OTHER, place(root, "train017") + 9),
        {"train017", "train018", "train019"},
        f"{OTHER}: train017: cut",
    ),
    "shard of no bytes": (
        lambda root: os.truncate(root / OTHER, 0),
        NINE,
        f"{OTHER}: 0 bytes instead of",
    ),
    "missing shard": (lambda root: (root / OTHER).unlink(), NINE, f"{OTHER}: missing (10 samples"),
    "renamed shard": (
        lambda root: (root / OTHER).rename(root / "train-1.tar"),
        NINE,
        f"{OTHER}: missing",
    ),
    "swapped shards": (swap, SWAPPED, f"{OTHER}: train010: the image's bytes changed"),
    "row beyond its shard": (
        lambda root: forge(root, lambda row: row.update(image_offset=10**12)),
        {"train012"},
        f"{OTHER}: train012: the index is wrong: cut",
    ),
    "row of a size beyond everything": (
        lambda root: forge(root, lambda row: row.update(image_size=2**60)),
        {"train012"},
        f"{OTHER}: train012: the index is wrong: cut",
    ),
    "row of a negative offset": (
        lambda root: forge(root, lambda row: row.update(image_offset=-5)),
        {"train012"},
        f"{OTHER}: train012: the index is wrong: no tar holds",
    ),
    "row of a negative size": (
        lambda root: forge(root, lambda row: row.update(image_size=-5)),
        {"train012"},
        f"{OTHER}: train012: the index is wrong: no tar holds -5 bytes",
    ),
    "row of another image": (
        lambda root: forge(root, lambda row: row.update(image_crc32=7)),
        {"train012"},
        f"{OTHER}: train012: the image is not the one that the index remembers",
    ),
    "row in a shard that is not there": (
        lambda root: forge(root, lambda row: row.update(shard="../../x.tar")),
        {"train012"},
        "index.parquet: 1 samples, train012 to train012 in ../../x.tar, which dataset.json",
    ),
}


@pytest.mark.parametrize("kind", SURVIVED)
def test_damage_to_shards_and_rows_is_named_and_survived(
    kind: str, written: Callable[..., Path]
) -> None:
    root = written()
    harm, keys, said_of_it = SURVIVED[kind]
    harm(root)
    assert any(p.startswith(said_of_it) for p in verify(root, contents=True)), kind
    captions = Dataset.open(root, allow_damage=True).split("train")
    numbers = [i for i in range(len(captions)) if captions.key(i) in keys]
    count = sum(len(captions.captions(i)) for i in numbers)
    survived(root, keys, bound=count)
    with pytest.raises((ValueError, TooManyBadSamples), match=r"\.tar"):
        next(stream(root, 0))


def rewrite(root: Path, name: str, change: Callable[[bytes], bytes]) -> None:
    (root / name).write_bytes(change((root / name).read_bytes()))


REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing index": (lambda root: (root / "index.parquet").unlink(), r"index\.parquet.*missing"),
    "index of no bytes": (
        lambda root: rewrite(root, "index.parquet", lambda data: b""),
        r"index\.parquet",
    ),
    "cut index": (
        lambda root: rewrite(root, "index.parquet", lambda data: data[:-9]),
        r"index\.parquet",
    ),
    "index that is no Parquet": (lambda root: forge_garbage(root), "not a Parquet file"),
    "missing manifest": (lambda root: (root / "dataset.json").unlink(), r"dataset\.json"),
    "cut manifest": (
        lambda root: rewrite(root, "dataset.json", lambda data: data[:-9]),
        r"dataset\.json: damaged",
    ),
    "changed manifest": (
        lambda root: rewrite(root, "dataset.json", lambda data: data.replace(b"23", b"24", 1)),
        r"dataset\.json: damaged, or changed",
    ),
    "manifest of another program": (
        lambda root: rewrite(root, "dataset.json", lambda data: b'{"format": "x"}'),
        r"dataset\.json: not a distgan-dataset",
    ),
}


def forge_garbage(root: Path) -> None:
    (root / "index.parquet").write_bytes(b"garbage" * 99)
    path = root / "dataset.json"
    manifest = parse_manifest(path.read_text("utf-8"), "dataset.json")
    new = replace(manifest, index_sha256=file_sha256(root / "index.parquet"))
    path.write_text(new.to_json(), encoding="utf-8")


@pytest.mark.parametrize("kind", REFUSED)
def test_a_dataset_without_a_sound_index_is_refused(
    kind: str, written: Callable[..., Path]
) -> None:
    root = written()
    harm, said_of_it = REFUSED[kind]
    harm(root)
    assert any(re.search(said_of_it, problem) for problem in verify(root)), verify(root)
    for bound in (0, 99):
        with pytest.raises(ValueError, match=said_of_it):
            Dataset.open(root, allow_damage=bound > 0)
