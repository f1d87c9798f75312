"""A folder of images with captions in captions.csv, captions.jsonl or a .txt beside each image.

captions.csv has a header with `image` and `caption`, and may have `style` and `split`;
captions.jsonl has an object a line with the same names (`captions` may be a list of strings or
of {"text", "style"}; other names become facts). IMAGE.txt has a caption a line.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from distgan.data.importers.found import (
    Found,
    Report,
    fingerprint,
    fractions_of,
    image_files,
    keys_of,
    readable,
    split_by_name,
    with_words,
)
from distgan.data.samples import Caption, Sample

_TABLES = ("captions.csv", "captions.jsonl")


@dataclass(frozen=True, kw_only=True)
class FolderOptions:
    """Where the files are and what becomes of them."""

    images: Path
    captions: Path | None = None  # a .csv or .jsonl; None: looked for in `images`
    fractions: tuple[float, float, float] = (0.8, 0.1, 0.1)  # where no split is given
    unlabelled: bool = False  # keep images without captions

    def __post_init__(self) -> None:
        fractions_of(*self.fractions)


@dataclass
class _Given:
    """What the captions file says of one image."""

    captions: list[Caption] = field(default_factory=list)
    split: str | None = None
    facts: dict[str, Any] = field(default_factory=dict)


class FolderOfImages:
    """Images of a folder with their captions."""

    def __init__(self, options: FolderOptions) -> None:
        self.report = Report()
        images = image_files(options.images)
        table = _table(options)
        files = [table] if table else [p for p in map(_beside, images.values()) if p.is_file()]
        kept = {"fractions": options.fractions, "unlabelled": options.unlabelled}
        self.source = {"name": "folder", **kept, "inputs": fingerprint(images, files)}
        given = self._given(images, table)
        self._facts: dict[str, dict[str, Any]] = {}
        self._found = self._join(options, images, given)
        self.splits = tuple(self._found)

    def num_samples(self, split: str) -> int:
        return len(self._found[split])

    def sample(self, split: str, i: int) -> Sample:
        found = self._found[split][i]
        facts = {"file": found.path.name, **self._facts[found.key]}
        return Sample(found.key, found.path.read_bytes(), found.extension, found.captions, facts)

    def texts(self) -> dict[str, list[str]]:
        return {}

    def _given(self, images: dict[str, Path], table: Path | None) -> dict[str, _Given]:
        given = {name: _Given() for name in images}
        if table is None:
            for name, path in images.items():
                if _beside(path).is_file():
                    lines = _beside(path).read_text("utf-8-sig").splitlines()
                    given[name].captions += [Caption(line) for line in lines if line.strip()]
            self.report.say(f"found {len(images):,} images, captions in .txt files beside them")
            return given
        rows = list(_read_csv(table) if table.suffix == ".csv" else _read_jsonl(table))
        for name, said in rows:
            if name not in given:
                self.report.drop(f"rows of {table.name} whose image is not there", name)
                continue
            before = given[name]
            if before.split and said.split and before.split != said.split:
                raise ValueError(f"{table}: {name} is in splits {before.split} and {said.split}")
            before.captions += said.captions
            before.split = before.split or said.split
            before.facts |= said.facts
        self.report.say(f"found {len(images):,} images, and {len(rows):,} rows in {table.name}")
        return given

    def _join(
        self, options: FolderOptions, images: dict[str, Path], given: dict[str, _Given]
    ) -> dict[str, list[Found]]:
        fractions = fractions_of(*options.fractions)
        named = {said.split for said in given.values() if said.split}
        splits = sorted(named) if named else [split for split, _ in fractions]
        found: dict[str, list[Found]] = {split: [] for split in splits}
        kinds = readable(images, self.report)
        keys = keys_of(kinds)
        for name, kind in kinds.items():
            said, key = given[name], keys[name]
            captions = with_words(said.captions, name, self.report)
            if not captions and not options.unlabelled:
                self.report.drop("images without captions (--unlabelled keeps them)", name)
            elif named and not said.split:
                self.report.drop("images without a split while others have one", name)
            else:
                split = said.split or split_by_name(key, fractions)
                self._facts[key] = said.facts
                found[split].append(Found(key, images[name], kind, captions))
        for split, samples in found.items():
            total = sum(len(sample.captions) for sample in samples)
            self.report.say(f"{split}: {len(samples):,} images, {total:,} captions")
        return found


def _table(options: FolderOptions) -> Path | None:
    if options.captions is not None:
        if not options.captions.is_file():
            raise ValueError(f"captions file {options.captions} does not exist")
        if options.captions.suffix not in (".csv", ".jsonl"):
            raise ValueError(f"captions file {options.captions} must be a .csv or a .jsonl")
        return options.captions
    present = [options.images / name for name in _TABLES if (options.images / name).is_file()]
    if len(present) > 1:
        raise ValueError(f"both {present[0]} and {present[1]} exist; choose one with --captions")
    return present[0] if present else None


def _beside(image: Path) -> Path:
    return image.with_suffix(".txt")


def _read_csv(path: Path) -> Iterator[tuple[str, _Given]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, skipinitialspace=True)
        columns = reader.fieldnames or []
        if not {"image", "caption"} <= set(columns):
            raise ValueError(f"{path}: needs columns image and caption, has {list(columns)}")
        for row in reader:
            if row["image"] is None or row["caption"] is None:
                raise ValueError(f"{path}: line {reader.line_num}: a column is missing")
            caption = Caption(row["caption"], row.get("style") or None)
            yield row["image"].strip(), _Given([caption], row.get("split") or None)


def _read_jsonl(path: Path) -> Iterator[tuple[str, _Given]]:
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                try:
                    yield _from_json(json.loads(line))
                except (ValueError, KeyError, TypeError, AttributeError) as error:
                    raise ValueError(
                        f"{path}: line {number} is not an object with image and caption or "
                        f"captions: {error!r}"
                    ) from error


def _from_json(row: dict[str, Any]) -> tuple[str, _Given]:
    style = row.pop("style", None)
    captions = row.pop("captions", None)
    given = [row.pop("caption")] if captions is None else list(captions)
    split = row.pop("split", None)
    made = [
        Caption(str(c["text"]), c.get("style", style)) if isinstance(c, dict) else Caption(c, style)
        for c in given
    ]
    return str(row.pop("image")), _Given(made, split, row)
