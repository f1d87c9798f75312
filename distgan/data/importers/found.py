"""What an importer finds on the disk: image files, and a record of what was left out and why."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from distgan.data.damage import UnreadableImage
from distgan.data.images import decode, kind_of
from distgan.data.manifest import file_sha256
from distgan.data.progress import Bar
from distgan.data.samples import Caption
from distgan.data.texts import is_unicode, words_of

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
_LONG_WAIT = 2000  # images that take long enough to say so
_CHECKED_SIZE = 16  # pixels: reads the whole file, works little


@dataclass
class Report:
    """Lines on what was found and joined, and what was dropped for which reason."""

    lines: list[str] = field(default_factory=list)
    dropped: dict[str, list[str]] = field(default_factory=dict)

    def say(self, line: str) -> None:
        self.lines.append(line)

    def drop(self, reason: str, name: str) -> None:
        self.dropped.setdefault(reason, []).append(name)

    def text(self) -> list[str]:
        """The report, with the first names of everything dropped."""
        lines = list(self.lines)
        for reason, names in self.dropped.items():
            shown = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
            lines.append(f"dropped {len(names):,}: {reason}: {shown}")
        return lines


@dataclass(frozen=True)
class Found:
    """One image file that will be a sample; `facts` go into its JSON."""

    key: str
    path: Path
    extension: str
    captions: tuple[Caption, ...]
    facts: dict[str, Any] = field(default_factory=dict)


def image_files(folder: Path) -> dict[str, Path]:
    """Image files under `folder` by their path within it. ValueError when there are none."""
    if not folder.is_dir():
        raise ValueError(f"folder {folder} does not exist")
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    if not paths:
        raise ValueError(f"{folder} holds no images ({', '.join(SUFFIXES)})")
    images = {path.relative_to(folder).as_posix(): path for path in paths}
    for name in images:
        if not is_unicode(name):
            raise ValueError(
                f"{folder}: the file name {os.fsencode(name)!r} is not UTF-8; rename it"
            )
    return images


def readable(paths: Mapping[str, Path], report: Report) -> dict[str, str]:
    """The extension (by its content) of each image that can be decoded; others are reported."""

    def check(path: Path) -> str | UnreadableImage:
        try:
            return check_image(path.read_bytes())
        except UnreadableImage as error:
            return error

    kinds = {}
    with ThreadPoolExecutor(os.cpu_count()) as pool, Bar("images looked at", _LONG_WAIT) as bar:
        for name, kind in zip(paths, pool.map(check, paths.values()), strict=True):
            kinds[name] = kind
            bar.show(len(kinds), len(paths))
    for name, kind in kinds.items():
        if isinstance(kind, UnreadableImage):
            report.drop("images that cannot be decoded", f"{name} ({kind})")
    return {name: kind for name, kind in kinds.items() if isinstance(kind, str)}


def check_image(data: bytes) -> str:
    """The extension an image file should have. UnreadableImage when it cannot be decoded."""
    decode(data, _CHECKED_SIZE)
    return kind_of(data)


def with_words(captions: Iterable[Caption], name: str, report: Report) -> tuple[Caption, ...]:
    """The captions that have words, in Unicode, trimmed; the others are reported."""
    kept = []
    for caption in captions:
        text = " ".join(caption.text.split())
        if not is_unicode(text):
            report.drop("captions with half a surrogate pair", f"{name} {text!a}")
        elif words_of(text):
            kept.append(Caption(text, caption.style))
        else:
            report.drop("captions without words", f"{name} {caption.text!r}")
    return tuple(kept)


def key_of(name: str) -> str:
    """An image's path without the extension, slashes and dots made `_`."""
    return name.rpartition(".")[0].replace("/", "_").replace(".", "_")


def keys_of(names: Iterable[str]) -> dict[str, str]:
    """The key of each image. ValueError naming two images that would get the same one."""
    keys = {name: key_of(name) for name in names}
    twice = [key for key, count in Counter(keys.values()).items() if count > 1]
    if twice:
        same = [name for name, key in keys.items() if key == twice[0]]
        raise ValueError(f"images {', '.join(same)} would share the key {twice[0]}; rename one")
    return keys


def split_by_name(key: str, fractions: Sequence[tuple[str, float]]) -> str:
    """The split a sample belongs to for good: by a hash of its key, whatever else there is.

    ValueError when there are no `fractions`.
    """
    if not fractions:
        raise ValueError(f"{key}: no split is given for it")
    place = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") / 2**64
    for split, fraction in fractions:
        if place < fraction:
            return split
        place -= fraction
    return fractions[0][0]


def fingerprint(images: Mapping[str, Path], files: Iterable[Path]) -> str:
    """A hash of the files' contents and of the images' names and sizes."""
    total = hashlib.sha256()
    for name, path in images.items():
        total.update(f"{name}\0{path.stat().st_size}\0".encode())
    for path in files:
        total.update(bytes.fromhex(file_sha256(path)))
    return total.hexdigest()
