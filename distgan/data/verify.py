"""Checks every byte of a dataset and names what is wrong: the file, and within shards the key."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from distgan.data.damage import UnreadableImage
from distgan.data.feature_shards import verify_features
from distgan.data.folder import Extent, Folder
from distgan.data.foreign import prefix_of
from distgan.data.images import decode, kind_of
from distgan.data.manifest import (
    INDEX,
    MANIFEST,
    Manifest,
    ShardFile,
    TextFile,
    parse_manifest,
)
from distgan.data.progress import Progress, silent
from distgan.data.read_ahead import ReadAhead
from distgan.data.shard_index import read_index
from distgan.data.tars import BLOCK, header_belongs, padded
from distgan.data.texts import fault_of

_DECODED_SIZE = 32  # pixels: enough to make the decoder read the whole file
_PIECE = 8 * 2**20  # bytes read at once where a whole shard is
_HELD = 64 * 2**20  # bytes fetched before their turn


def verify(
    root: str | Path,
    *,
    contents: bool = False,
    jobs: int = 1,
    progress: Progress = silent,
) -> list[str]:
    """Everything wrong with the dataset under `root`, a local folder or a URI, one sentence each;
    empty when it is sound.

    `contents` also decodes every image and looks at every caption: sound bytes may still hold
    what cannot be learned from. `jobs` shards are read at a time; `progress` is told the shards
    done and their number. Feature shards are looked at on local disks only.
    """
    folder = Folder(str(root))
    try:
        content = folder.read(MANIFEST)
    except ValueError as error:
        return [str(error) if folder.exists() else f"{folder.place} does not exist"]
    try:
        manifest = parse_manifest(content.decode("utf-8", "replace"), f"{folder.place}/{MANIFEST}")
    except ValueError as error:
        return [str(error)]
    problems = [*_stray(folder, manifest)]
    for text in manifest.texts:
        problems += _check_text(folder, text)
    rows = _rows_by_shard(folder, manifest, problems)

    def check(shard: ShardFile) -> list[str]:
        its_rows = None if rows is None else rows.get(shard.name, [])
        found = list(_check_shard(folder, shard, its_rows))
        return found + list(_check_contents(folder, shard, its_rows or []) if contents else ())

    # in threads: hashing and decoding leave the interpreter free
    with ThreadPoolExecutor(jobs) as threads:
        try:
            for done, found in enumerate(threads.map(check, manifest.shards), 1):
                problems += found
                progress(done, len(manifest.shards))
        except BaseException:
            threads.shutdown(cancel_futures=True)
            raise
    if folder.local is None:
        return problems
    return [*problems, *verify_features(folder.local, manifest.index_sha256, _keys(rows or {}))]


Row = dict[str, Any]


def _stray(folder: Folder, manifest: Manifest) -> Iterator[str]:
    """Shards of nobody; where the folder cannot be listed they go unseen, and do no harm."""
    listed = {shard.name for shard in manifest.shards}
    for name in folder.names() or ():
        if name.endswith(".tar") and name not in listed:
            yield f"{name}: a shard that {MANIFEST} does not list"


def _check_text(folder: Folder, text: TextFile) -> Iterator[str]:
    try:
        content = folder.read(text.name)
    except ValueError:
        yield f"{text.name}: missing"
        return
    if hashlib.sha256(content).hexdigest() != text.sha256:
        lines = content.count(b"\n")
        yield (
            f"{text.name}: changed: {len(content)} bytes and {lines} lines instead of "
            f"{text.size} and {text.lines}"
        )


def _rows_by_shard(
    folder: Folder, manifest: Manifest, problems: list[str]
) -> dict[str, list[Row]] | None:
    """The index's rows, or None (and a problem) when the index itself is not sound."""
    try:
        content = folder.read(INDEX)
    except ValueError:
        problems.append(f"{INDEX}: missing")
        return None
    if hashlib.sha256(content).hexdigest() != manifest.index_sha256:
        problems.append(f"{INDEX}: changed, or of another dataset (its hash differs)")
        return None
    try:
        table = read_index(content)
    except (pa.ArrowException, OSError) as error:
        problems.append(f"{INDEX}: not a Parquet file: {error}")
        return None
    counts = {x["values"]: x["counts"] for x in pc.value_counts(table["split"]).to_pylist()}
    if counts != manifest.splits:
        problems.append(f"{INDEX}: splits {counts}, but {MANIFEST} says {manifest.splits}")
    rows: dict[str, list[Row]] = {}
    for row in table.to_pylist():
        rows.setdefault(row["shard"], []).append(row)
    for name in sorted(rows.keys() - {shard.name for shard in manifest.shards}):
        keys = f"{len(rows[name])} samples{_range(rows[name])}"
        problems.append(f"{INDEX}: {keys} in {name}, which {MANIFEST} does not list")
    return rows


def _keys(rows: dict[str, list[Row]]) -> dict[str, list[str]]:
    """The keys of every split, in the order of the index."""
    keys: dict[str, list[str]] = {}
    for row in (row for its_rows in rows.values() for row in its_rows):
        keys.setdefault(row["split"], []).append(row["key"])
    return keys


def _check_shard(folder: Folder, shard: ShardFile, rows: list[Row] | None) -> Iterator[str]:
    size = folder.size(shard.name)
    if size is None:
        keys = f" ({shard.samples} samples{_range(rows)})"
        yield f"{shard.name}: missing{keys}"
        return
    if _sha256(folder, shard.name, size) == shard.sha256:
        for row in rows or []:
            for what in ("image", "json"):
                if wrong := _misplaced(size, row, what):
                    yield f"{shard.name}: {row['key']}: the index is wrong: {wrong}"
        return
    if size != shard.size:
        yield f"{shard.name}: {size} bytes instead of {shard.size}"
    named = list(_damaged_rows(folder, size, shard, rows or []))
    yield from named
    if not named and size == shard.size:
        yield f"{shard.name}: changed outside every sample (padding, end mark, or the index is bad)"


def _sha256(folder: Folder, name: str, size: int) -> str:
    digest = hashlib.sha256()
    for offset in range(0, size, _PIECE):
        digest.update(folder.read_at(name, offset, min(_PIECE, size - offset)))
    return digest.hexdigest()


def _damaged_rows(folder: Folder, size: int, shard: ShardFile, rows: list[Row]) -> Iterator[str]:
    for row in rows:
        for what in ("image", "json"):
            wrong = _misplaced(size, row, what) or _damage(folder, shard.name, row, what)
            if wrong:
                yield f"{shard.name}: {row['key']}: {wrong}"


def _misplaced(size: int, row: Row, what: str) -> str | None:
    offset, length = row[f"{what}_offset"], row[f"{what}_size"]
    if offset < BLOCK or length < 0:
        return f"no tar holds {length} bytes of {what} from byte {offset}"
    if offset + length > size:
        return f"cut: the {what} ends at byte {offset + length}"
    return None


def _damage(folder: Folder, shard: str, row: Row, what: str) -> str | None:
    offset, length = row[f"{what}_offset"], row[f"{what}_size"]
    member = folder.read_at(shard, offset - BLOCK, BLOCK + padded(length))
    header, content = member[:BLOCK], member[BLOCK : BLOCK + length]
    if zlib.crc32(content) != row[f"{what}_crc32"]:
        return f"the {what}'s bytes changed"
    keys = {row["key"], row["key"].removeprefix(prefix_of(shard))}
    if not any(header_belongs(header, key, length) for key in keys):
        return f"the {what}'s tar header changed"
    if any(member[BLOCK + length :]):
        return f"the padding after the {what} changed"
    return None


def _check_contents(folder: Folder, shard: ShardFile, rows: list[Row]) -> Iterator[str]:
    """What is wrong with images and captions that are whole as bytes."""
    size = folder.size(shard.name)
    rows = [row for row in rows if size is not None and not _misplaced(size, row, "image")]
    extents = [Extent(folder, shard.name, r["image_offset"], r["image_size"]) for r in rows]
    ahead = ReadAhead(_HELD)
    try:
        ahead.expect(extents)
        for row, extent in zip(rows, extents, strict=True):
            for wrong in (*_faults_of_image(row, ahead.read(extent)), *_faults_of_captions(row)):
                yield f"{shard.name}: {row['key']}: {wrong}"
    finally:
        ahead.close()


def _faults_of_image(row: Row, content: bytes) -> Iterator[str]:
    if zlib.crc32(content) != row["image_crc32"]:
        yield "the image is not the one that the index remembers"
        return
    try:
        decode(content, _DECODED_SIZE)
        kind = kind_of(content)
    except UnreadableImage as error:
        yield str(error)
        return
    if kind != row["extension"]:
        yield f"its name says {row['extension']}, but it is a {kind}"
    if kind == "png" and (fault := _fault_of_png(content)):
        yield fault


def _fault_of_png(content: bytes) -> str | None:
    """Checksums of pixels, which decoders do not look at."""
    place = 8
    while place + 12 <= len(content):
        length = int.from_bytes(content[place : place + 4])
        checked = content[place + 4 : place + 8 + length]
        given = content[place + 8 + length : place + 12 + length]
        if zlib.crc32(checked) != int.from_bytes(given):
            return f"a chunk of the PNG has a wrong checksum, at byte {place}"
        place += 12 + length
    return None


def _faults_of_captions(row: Row) -> Iterator[str]:
    for caption in row["captions"] or []:
        if fault := fault_of(caption["text"] or ""):
            yield f"a caption {fault}"


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
