"""Checks every byte of a dataset and names what is wrong: the file, and within shards the key."""

from __future__ import annotations

import hashlib
import io
import json
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq

from distgan.data.damage import UnreadableImage
from distgan.data.feature_shards import verify_features
from distgan.data.images import decode
from distgan.data.manifest import (
    INDEX,
    MANIFEST,
    Manifest,
    ShardFile,
    TextFile,
    file_sha256,
    parse_manifest,
)
from distgan.data.progress import Progress, silent
from distgan.data.tars import BLOCK, header_belongs, padded
from distgan.data.texts import words_of

_DECODED_SIZE = 32  # pixels: enough to make the decoder read the whole file


def verify(
    root: Path,
    *,
    contents: bool = False,
    jobs: int = 1,
    progress: Progress = silent,
) -> list[str]:
    """Everything wrong with the dataset under `root`, one sentence each; empty when it is sound.

    `contents` also decodes every image and looks for captions without words, which sound bytes
    may still hold. `jobs` shards are read at a time; `progress` is told the shards done and
    their number.
    """
    path = root / MANIFEST
    if not path.is_file():
        return [f"{path} is missing" if root.is_dir() else f"{root} does not exist"]
    try:
        manifest = parse_manifest(path.read_bytes().decode("utf-8", "replace"), str(path))
    except ValueError as error:
        return [str(error)]
    problems = [*_stray(root, manifest)]
    for text in manifest.texts:
        problems += _check_text(root, text)
    rows = _rows_by_shard(root, manifest, problems)

    def check(shard: ShardFile) -> list[str]:
        its_rows = None if rows is None else rows.get(shard.name, [])
        found = list(_check_shard(root / shard.name, shard, its_rows))
        return found + list(_check_contents(root, shard, its_rows or []) if contents else ())

    # in threads: hashing and decoding leave the interpreter free
    with ThreadPoolExecutor(jobs) as threads:
        try:
            for done, found in enumerate(threads.map(check, manifest.shards), 1):
                problems += found
                progress(done, len(manifest.shards))
        except BaseException:
            threads.shutdown(cancel_futures=True)
            raise
    return [*problems, *verify_features(root, manifest.index_sha256, _keys(rows or {}))]


Row = dict[str, Any]


def _stray(root: Path, manifest: Manifest) -> Iterator[str]:
    listed = {shard.name for shard in manifest.shards}
    for path in sorted(root.rglob("*.tar")):
        name = str(path.relative_to(root))
        if name not in listed:
            yield f"{name}: a shard that {MANIFEST} does not list"


def _check_text(root: Path, text: TextFile) -> Iterator[str]:
    path = root / text.name
    if not path.is_file():
        yield f"{text.name}: missing"
    elif file_sha256(path) != text.sha256:
        content = path.read_bytes()
        lines = content.count(b"\n")
        yield (
            f"{text.name}: changed: {len(content)} bytes and {lines} lines instead of "
            f"{text.size} and {text.lines}"
        )


def _rows_by_shard(
    root: Path, manifest: Manifest, problems: list[str]
) -> dict[str, list[Row]] | None:
    """The index's rows, or None (and a problem) when the index itself is not sound."""
    path = root / INDEX
    if not path.is_file():
        problems.append(f"{INDEX}: missing")
        return None
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != manifest.index_sha256:
        problems.append(f"{INDEX}: changed, or of another dataset (its hash differs)")
        return None
    table = pq.read_table(io.BytesIO(content))
    counts = {x["values"]: x["counts"] for x in pc.value_counts(table["split"]).to_pylist()}
    if counts != manifest.splits:
        problems.append(f"{INDEX}: splits {counts}, but {MANIFEST} says {manifest.splits}")
    rows: dict[str, list[Row]] = {}
    for row in table.to_pylist():
        rows.setdefault(row["shard"], []).append(row)
    return rows


def _keys(rows: dict[str, list[Row]]) -> dict[str, list[str]]:
    """The keys of every split, in the order of the index."""
    keys: dict[str, list[str]] = {}
    for row in (row for its_rows in rows.values() for row in its_rows):
        keys.setdefault(row["split"], []).append(row["key"])
    return keys


def _check_shard(path: Path, shard: ShardFile, rows: list[Row] | None) -> Iterator[str]:
    if not path.is_file():
        keys = f" ({shard.samples} samples{_range(rows)})"
        yield f"{shard.name}: missing{keys}"
        return
    if file_sha256(path) == shard.sha256:
        return
    size = path.stat().st_size
    if size != shard.size:
        yield f"{shard.name}: {size} bytes instead of {shard.size}"
    named = list(_damaged_rows(path, shard, rows or []))
    yield from named
    if not named and size == shard.size:
        yield f"{shard.name}: changed outside every sample (padding, end mark, or the index is bad)"


def _damaged_rows(path: Path, shard: ShardFile, rows: list[Row]) -> Iterator[str]:
    size = path.stat().st_size
    with path.open("rb") as file:
        for row in rows:
            for what in ("image", "json"):
                wrong = _damage(file, size, row, what)
                if wrong:
                    yield f"{shard.name}: {row['key']}: {wrong}"


def _damage(file: io.BufferedReader, size: int, row: Row, what: str) -> str | None:
    offset, length = row[f"{what}_offset"], row[f"{what}_size"]
    if offset + length > size:
        return f"cut: the {what} ends at byte {offset + length}"
    file.seek(offset - BLOCK)
    header = file.read(BLOCK)
    content = file.read(length)
    padding = file.read(padded(length) - length)
    if zlib.crc32(content) != row[f"{what}_crc32"]:
        return f"the {what}'s bytes changed"
    if not header_belongs(header, row["key"], length):
        return f"the {what}'s tar header changed"
    if any(padding):
        return f"the padding after the {what} changed"
    return None


def _check_contents(root: Path, shard: ShardFile, rows: list[Row]) -> Iterator[str]:
    path = root / shard.name
    if not path.is_file():
        return
    with path.open("rb") as file:
        for row in rows:
            file.seek(row["image_offset"])
            content = file.read(row["image_size"])
            try:
                decode(content, _DECODED_SIZE)
            except UnreadableImage as error:
                yield f"{shard.name}: {row['key']}: {error}"
            for caption in row["captions"] or []:
                if not words_of(caption["text"] or ""):
                    yield f"{shard.name}: {row['key']}: no words in caption {caption['text']!r}"


def _range(rows: list[Row] | None) -> str:
    return f", {rows[0]['key']} to {rows[-1]['key']}" if rows else ""


def summary(manifest: Manifest) -> str:
    """A few lines on what a dataset holds."""
    lines = [f"made from {json.dumps(manifest.source['name'])}"]
    for split, count in manifest.splits.items():
        captions = ", ".join(f"{n:,} {s}" for s, n in manifest.captions.get(split, {}).items())
        lines.append(f"  {split}: {count:,} images; captions: {captions or 'none'}")
        if manifest.said.get(split):
            share = manifest.unknown[split] / manifest.said[split]
            lines[-1] += f"; {share:.2%} of {manifest.said[split]:,} words unknown"
    for text in manifest.texts:
        lines.append(f"  text without images: {text.lines:,} lines {text.style}")
    size = sum(shard.size for shard in manifest.shards)
    lines.append(
        f"  {len(manifest.shards)} shards, {size / 2**20:,.1f} MiB; {len(manifest.words):,} words"
    )
    return "\n".join(lines)
