"""A Hugging Face dataset on the disk: an image folder with its metadata, or Parquet files.

What `huggingface-cli download --repo-type dataset USER/NAME --local-dir NAME` leaves is read
as it is, and so is what `to_parquet` writes:

    prepare.py huggingface NAME --out data/name

An image folder has metadata.jsonl, .csv or .parquet with `file_name`, in ROOT or in its split
folders (train, validation, test). A Parquet dataset has files named SPLIT-00000-of-00002.parquet,
or lying in a folder named like the split, with an image column ({bytes, path}, or bytes) and one
or more text columns: `--caption-column text`, or `--caption-column caption_0,caption_1`.

The split `validation` (valid, dev, val) becomes `val`. Without splits, --fractions makes them.
Columns that are not used become facts; those of type ClassLabel become `class` and `class_name`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from distgan.data.importers.found import fingerprint, image_files
from distgan.data.importers.joining import Described, ImageFiles
from distgan.data.importers.options import fractions_of, option
from distgan.data.importers.parquet import ParquetImages, opened
from distgan.data.importers.tables import (
    ColumnOptions,
    Columns,
    Numbered,
    describe,
    json_facts,
    number_classes,
    rows_of,
)

_ALIASES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "val"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), "test"),
}
_METADATA = ("metadata.jsonl", "metadata.csv", "metadata.parquet")
_SHARD = re.compile(r"(.+?)-(\d{5})-of-(\d{5})")  # a hash may follow


@dataclass(frozen=True, kw_only=True)
class HuggingFaceOptions(ColumnOptions):
    """Where the dataset is and which of its columns are which."""

    root: Path = option("the dataset's folder, or a single .parquet file", positional=True)


def huggingface(options: HuggingFaceOptions) -> ImageFiles:
    """The importer for what lies in `options.root`. ValueError when that is neither kind."""
    root = options.root
    if not root.exists():
        raise ValueError(f"{root} does not exist")
    metadata = sorted(p for name in _METADATA for p in root.rglob(name))
    if metadata:
        return ImageFolder(options, metadata)
    tables = [root] if root.suffix == ".parquet" else sorted(root.rglob("*.parquet"))
    if tables:
        check_shards(tables)
        by_split = [(path, split_of_table(path, root)) for path in tables]
        return ParquetImages(options, by_split)
    if any(root.rglob("*.arrow")):
        raise ValueError(
            f"{root} holds .arrow files (`save_to_disk`); write its splits with `to_parquet`"
        )
    raise ValueError(f"{root} holds neither {', '.join(_METADATA)} nor other Parquet files")


class ImageFolder(ImageFiles):
    """Image files with what metadata files say of them."""

    name = "huggingface"

    def __init__(self, options: HuggingFaceOptions, metadata: list[Path]) -> None:
        images = image_files(options.root)
        super().__init__(options, inputs=fingerprint(images, metadata))
        described = [said for path in metadata for said in self._described(options, path)]
        number_classes(said.facts for said in described)
        self.report.say(
            f"found {len(images):,} images, and {len(described):,} rows in "
            f"{', '.join(p.relative_to(options.root).as_posix() for p in metadata)}"
        )
        self.join(
            described,
            images,
            fractions=fractions_of(*options.fractions),
            unlabelled=options.unlabelled,
        )

    def _described(self, options: HuggingFaceOptions, path: Path) -> Iterator[Described]:
        """Rows under the images' names below the root, with the split that these say."""
        folder = path.parent.relative_to(options.root)
        rows = _parquet_rows(path) if path.suffix == ".parquet" else rows_of(path)
        for number, row in rows:
            where = f"{path}: line {number}"
            said = describe(row, Columns.choose(row, options, where), where)
            said.facts = json_facts(said.facts, where, self.report)
            said.name = (folder / said.name).as_posix()
            said.split = split_in(*Path(said.name).parts[:-1]) or _known(said.split)
            yield said


def split_in(*folders: str) -> str | None:
    """The split that the first of the folders with such a name stands for."""
    return next((_ALIASES[name.lower()] for name in folders if name.lower() in _ALIASES), None)


def split_of_table(path: Path, root: Path) -> str | None:
    """By the file's name (`dev-00000-of-00001`, `test_2`), else by its folders below `root`."""
    numbered = _SHARD.match(path.stem)
    name = numbered[1] if numbered else re.split(r"[-_.]?\d", path.stem)[0]
    if numbered or name.lower() in _ALIASES:
        return _known(name)
    inside = path.relative_to(root).parts[:-1] if path != root else ()
    return split_in(*reversed(inside))


def check_shards(tables: list[Path]) -> None:
    """ValueError naming what is missing from files numbered `00000-of-00002`."""
    there: dict[tuple[str, str], set[int]] = {}
    for path in tables:
        if found := _SHARD.match(path.stem):
            there.setdefault((f"{path.parent}/{found[1]}", found[3]), set()).add(int(found[2]))
    for (name, total), numbers in there.items():
        missing = set(range(int(total))) - numbers
        if missing:
            raise ValueError(f"{name}-{min(missing):05d}-of-{total}.parquet is missing")


def _known(split: str | None) -> str | None:
    return _ALIASES.get(split.lower(), split) if split else None


def _parquet_rows(path: Path) -> Iterator[Numbered]:
    yield from enumerate(opened(path).read().to_pylist(), 1)
