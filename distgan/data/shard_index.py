"""The Parquet index of a dataset: where each sample lies, its checksums, captions and facts."""

from __future__ import annotations

import json
import re
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from distgan.data.manifest import INDEX, MANIFEST, Manifest, ShardFile, file_sha256
from distgan.data.samples import Caption
from distgan.data.tars import DamagedShard, Member, members

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


def index_shard(path: Path, name: str, split: str) -> list[Row]:
    """The rows of a shard in the common layout: KEY.jpg|jpeg|png|webp with KEY.json or KEY.txt.

    Captions are taken from the JSON's `captions` (strings, or {"text", "style"}) or `caption`,
    else from the lines of the text. Errors name the shard and the key.
    """
    found: dict[str, dict[str, Member]] = {}
    for member in members(path):
        folder, _, base = member.name.rpartition("/")
        stem, _, extension = base.partition(".")
        key = f"{folder}/{stem}".strip("./") if folder else stem
        parts = found.setdefault(key, {})
        extension = extension.lower().replace("jpeg", "jpg")
        if extension in parts:
            raise ValueError(f"{path}: {key}: two members {key}.{extension}")
        parts[extension] = member
    with path.open("rb") as file:

        def read(member: Member) -> bytes:
            file.seek(member.offset)
            return file.read(member.size)

        rows = []
        for key, parts in found.items():
            image = next((parts[e] for e in EXTENSIONS if e in parts), None)
            if image is None:
                raise ValueError(f"{path}: {key}: no image ({', '.join(EXTENSIONS)}) among {parts}")
            words, captions, facts = _captions(path, key, parts, read)
            content = (image._replace(name=image.name.lower().replace("jpeg", "jpg")), read(image))
            rows.append(row(split, name, key, content, words, captions, facts))
    if not rows:
        raise ValueError(f"{path}: an empty shard: no samples")
    return rows


def split_of(name: str) -> str:
    """The split a shard belongs to by its name: `val-000012.tar` and `val/12.tar` are of val."""
    stem = re.sub(r"[-_.]*\{?\d*\}?$", "", Path(name).name.removesuffix(".tar"))
    return stem or (Path(name).parent.name or "train")


def is_unseen(split: str) -> bool:
    """Is a split kept from training, by its name: val, dev, test and what begins with these?"""
    return split.startswith(("val", "dev", "test"))


def shard_file(root: Path, name: str, split: str, samples: int) -> ShardFile:
    """What the manifest says of a shard that lies under `root`."""
    path = root / name
    return ShardFile(name, split, samples, path.stat().st_size, file_sha256(path))


def write_manifest(root: Path, manifest: Manifest) -> None:
    (root / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")


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


def _captions(
    path: Path, key: str, parts: dict[str, Member], read: Any
) -> tuple[tuple[Member, bytes], list[Caption], dict[str, Any]]:
    """The member with the captions and its contents, the captions, and all other facts."""
    facts: dict[str, Any] = {}
    if "json" in parts:
        content = read(parts["json"])
        try:
            facts = json.loads(content)
            given = facts.pop("captions", None) or facts.pop("caption", None) or []
            captions = [_caption(item) for item in ([given] if isinstance(given, str) else given)]
        except (ValueError, AttributeError, TypeError, KeyError) as error:
            raise ValueError(f"{path}: {key}.json: not captions and facts: {error!r}") from error
        if captions or "txt" not in parts:
            return (parts["json"], content), captions, facts
    if "txt" not in parts:
        raise ValueError(f"{path}: {key}: neither {key}.json nor {key}.txt")
    content = read(parts["txt"])
    try:
        lines = content.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: {key}.txt: not UTF-8: {error}") from error
    return (parts["txt"], content), [Caption(s.strip()) for s in lines if s.strip()], facts


def _caption(item: str | dict[str, Any]) -> Caption:
    if isinstance(item, str):
        return Caption(item)
    return Caption(str(item["text"]), item.get("style"))
