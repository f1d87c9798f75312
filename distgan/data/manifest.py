"""`dataset.json`: what a dataset consists of, with a hash of everything, itself included."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

FORMAT = "distgan-dataset"
VERSION = 1
MANIFEST = "dataset.json"
INDEX = "index.parquet"


@dataclass(frozen=True)
class ShardFile:
    """A tar of the dataset; `name` is its path within it."""

    name: str
    split: str
    samples: int
    size: int  # bytes
    sha256: str


@dataclass(frozen=True)
class TextFile:
    """Lines of one style that belong to no image."""

    style: str
    name: str
    lines: int
    size: int  # bytes
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The contents of `dataset.json`.

    `source` says what the dataset was made from and how; two equal ones mean equal datasets.
    `captions` counts captions by split and style ("factual" for those without a style);
    `said` counts the words of a split's captions, `unknown` those that `words` lacks.
    """

    source: dict[str, Any]
    splits: dict[str, int]
    captions: dict[str, dict[str, int]]
    shards: tuple[ShardFile, ...]
    styles: tuple[str, ...]
    words: tuple[str, ...]  # the vocabulary, most frequent first
    index_sha256: str
    texts: tuple[TextFile, ...] = field(default=())
    said: dict[str, int] = field(default_factory=dict)
    unknown: dict[str, int] = field(default_factory=dict)

    def to_json(self) -> str:
        body = {"format": FORMAT, "version": VERSION, **asdict(self)}
        return json.dumps({**body, "sha256": _hash(body)}, indent=1, ensure_ascii=False) + "\n"


def parse_manifest(text: str, where: str) -> Manifest:
    """The manifest in `text`; ValueError naming `where` for anything not written by `to_json`."""
    try:
        body = json.loads(text)
    except ValueError as error:
        raise ValueError(f"{where}: damaged: not JSON ({error})") from error
    if not isinstance(body, dict) or body.get("format") != FORMAT:
        raise ValueError(f"{where}: not a {FORMAT}")
    if body.get("version") != VERSION:
        raise ValueError(
            f"{where}: version {body.get('version')!r}; this program reads version {VERSION}"
        )
    if body.pop("sha256", None) != _hash(body):
        raise ValueError(
            f"{where}: damaged, or changed since it was written (its own hash differs)"
        )
    del body["format"], body["version"]
    body["shards"] = tuple(ShardFile(**shard) for shard in body["shards"])
    body["texts"] = tuple(TextFile(**text) for text in body["texts"])
    return Manifest(**body | {name: tuple(body[name]) for name in ("styles", "words")})


def file_sha256(path: Path) -> str:
    """The hash of a file's contents, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _hash(body: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
