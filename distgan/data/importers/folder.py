"""A folder of images with captions in captions.csv, captions.jsonl or a .txt beside each image.

captions.csv has a header with `image` and `caption`, and may have `style` and `split`;
captions.jsonl has an object a line with the same names (`captions` may be a list of strings or
of {"text", "style"}; other names become facts). IMAGE.txt has a caption a line.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distgan.data.importers.found import fingerprint, image_files
from distgan.data.importers.joining import Described, ImageFiles, check_joined, merge
from distgan.data.importers.options import SplitOptions, fractions_of, option
from distgan.data.samples import Caption

_TABLES = ("captions.csv", "captions.jsonl")


@dataclass(frozen=True, kw_only=True)
class FolderOptions(SplitOptions):
    """Where the files are and what becomes of them."""

    images: Path = option("the folder of images", positional=True)
    captions: Path | None = option(
        "a .csv (image,caption[,style][,split]) or .jsonl; by default captions.csv or "
        "captions.jsonl in the folder, else a .txt beside each image",
        default=None,
    )
    unlabelled: bool = option("keep images without captions", default=False)


class FolderOfImages(ImageFiles):
    """Images of a folder with their captions."""

    name = "folder"

    def __init__(self, options: FolderOptions) -> None:
        images = image_files(options.images)
        table = _table(options)
        files = [table] if table else [p for p in map(_beside, images.values()) if p.is_file()]
        super().__init__(options, inputs=fingerprint(images, files))
        given = self._beside(images) if table is None else self._listed(table, images)
        self.join(
            [given[name] for name in images if name in given],
            images,
            fractions=fractions_of(*options.fractions),
            unlabelled=options.unlabelled,
        )

    def _beside(self, images: dict[str, Path]) -> dict[str, Described]:
        """What the text files beside the images say, a caption a line."""
        given = {name: Described(name) for name in images}
        for name, path in images.items():
            if _beside(path).is_file():
                lines = _beside(path).read_text("utf-8-sig").splitlines()
                given[name].captions += [Caption(line) for line in lines if line.strip()]
        self.report.say(f"found {len(images):,} images, captions in .txt files beside them")
        return given

    def _listed(self, table: Path, images: dict[str, Path]) -> dict[str, Described]:
        """What the rows of a table say, also (nothing) of images it does not name."""
        rows = list(_read_csv(table) if table.suffix == ".csv" else _read_jsonl(table))
        self.report.say(f"found {len(images):,} images, and {len(rows):,} rows in {table.name}")
        named = merge(rows, str(table))
        check_joined(table.name, named, images, self.options.min_joined)
        for row in rows:
            if row.name not in images:
                self.report.drop(f"rows of {table.name} whose image is not there", row.name)
        return self._completed(named, images)

    def _completed(
        self, named: dict[str, Described], images: dict[str, Path]
    ) -> dict[str, Described]:
        if not any(said.split for said in named.values()):
            return {name: named.get(name, Described(name)) for name in images}
        given = {}
        for name in images:
            if name in named and named[name].split:
                given[name] = named[name]
            else:
                self.report.drop("images without a split while others have one", name)
        return given


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


def _read_csv(path: Path) -> Iterator[Described]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, skipinitialspace=True)
        columns = reader.fieldnames or []
        if not {"image", "caption"} <= set(columns):
            raise ValueError(f"{path}: needs columns image and caption, has {list(columns)}")
        for row in reader:
            if row["image"] is None or row["caption"] is None:
                raise ValueError(f"{path}: line {reader.line_num}: a column is missing")
            caption = Caption(row["caption"], row.get("style") or None)
            yield Described(row["image"].strip(), [caption], row.get("split") or None)


def _read_jsonl(path: Path) -> Iterator[Described]:
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


def _from_json(row: dict[str, Any]) -> Described:
    style = row.pop("style", None)
    captions = row.pop("captions", None)
    given = [row.pop("caption")] if captions is None else list(captions)
    split = row.pop("split", None)
    made = [
        Caption(str(c["text"]), c.get("style", style)) if isinstance(c, dict) else Caption(c, style)
        for c in given
    ]
    return Described(str(row.pop("image")), made, split, row)
