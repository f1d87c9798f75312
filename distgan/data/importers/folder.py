"""Images of one's own: a folder with captions beside it, or a table that says where images lie.

    prepare.py folder my_images --out data/mine
    prepare.py folder my_captions.csv --out data/mine
    prepare.py folder my_images --captions table.tsv --caption-column title --out data/mine

A folder has captions.csv, captions.tsv or captions.jsonl in it, or a .txt beside each image
with a caption a line. A table given in place of the folder names its images by absolute paths,
or by paths relative to where the table lies.

A CSV has a header; its columns are parted by commas, tabs, semicolons or bars. A .jsonl has an
object a line, whose captions may be a list of strings or of {"text", "style"}. The columns
`image` and `caption` are needed, `style`, `split` and `class` may be there; options name them
where they are called otherwise. All others become facts.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from distgan.data.importers.found import SUFFIXES as IMAGE_SUFFIXES
from distgan.data.importers.found import fingerprint, image_files
from distgan.data.importers.joining import Described, ImageFiles, check_joined, merge
from distgan.data.importers.options import fractions_of, option
from distgan.data.importers.tables import SUFFIXES, ColumnOptions, read_described
from distgan.data.samples import Caption
from distgan.data.texts import lines_of, read_utf8

_TABLES = tuple(f"captions{suffix}" for suffix in SUFFIXES)


@dataclass(frozen=True, kw_only=True)
class FolderOptions(ColumnOptions):
    """Where the files are and what becomes of them."""

    images: Path = option(
        "the folder of images, or a .csv, .tsv or .jsonl with their paths", positional=True
    )
    captions: Path | None = option(
        "a .csv, .tsv or .jsonl; by default captions.csv, .tsv or .jsonl in the folder, else a "
        ".txt beside each image",
        default=None,
    )


def folder(options: FolderOptions) -> ImageFiles:
    """The importer of the folder, or of the table, that `options.images` is."""
    if options.images.suffix not in SUFFIXES or options.images.is_dir():
        return FolderOfImages(options)
    if options.captions is not None:
        raise ValueError(f"--captions {options.captions}: {options.images} is a table already")
    return ListOfImages(options)


class FolderOfImages(ImageFiles):
    """Images of a folder with their captions."""

    name = "folder"

    def __init__(self, options: FolderOptions) -> None:
        images = image_files(options.images)
        table = _table(options)
        files = [table] if table else [p for p in map(_beside, images.values()) if p.is_file()]
        super().__init__(options, inputs=fingerprint(images, files))
        if not files and not options.unlabelled:
            raise ValueError(
                f"{options.images}: no captions: neither {', '.join(_TABLES)} nor a .txt beside "
                "any image; --captions names a table, --unlabelled does without"
            )
        given = self._beside(images) if table is None else self._listed(options, table, images)
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
                lines = lines_of(read_utf8(_beside(path)))
                given[name].captions += [Caption(line) for line in lines if line.strip()]
        self.report.say(f"found {len(images):,} images, captions in .txt files beside them")
        return given

    def _listed(
        self, options: FolderOptions, table: Path, images: dict[str, Path]
    ) -> dict[str, Described]:
        """What the rows of a table say, also (nothing) of images it does not name."""
        rows = read_described(table, options)
        for row in rows:
            row.name = _within(row.name, options.images)
        self.report.say(f"found {len(images):,} images, and {len(rows):,} rows in {table.name}")
        named = merge(rows)
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


class ListOfImages(ImageFiles):
    """The images that a table names, wherever they lie."""

    name = "folder"

    def __init__(self, options: FolderOptions) -> None:
        rows, table = read_described(options.images, options), options.images
        paths = [Path(os.path.abspath(table.parent / row.name)) for row in rows]
        root = _root(Path(os.path.abspath(table.parent)), paths)
        for row, path in zip(rows, paths, strict=True):
            row.name = path.relative_to(root).as_posix()
        there = {row.name: p for row, p in zip(rows, paths, strict=True) if _is_image(p)}
        super().__init__(options, inputs=fingerprint(there, [table]))
        self.report.say(
            f"found {len(there):,} images that {table.name} names in {len(rows):,} rows"
        )
        self.join(
            rows,
            there,
            fractions=fractions_of(*options.fractions),
            unlabelled=options.unlabelled,
        )


def _root(beside: Path, paths: Sequence[Path]) -> Path:
    """The table's folder where all images lie below it, else the deepest folder with them all."""
    if all(path.is_relative_to(beside) for path in paths):
        return beside
    return Path(os.path.commonpath([path.parent for path in paths]))


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()


def _within(name: str, images: Path) -> str:
    """An absolute path below the folder of images as the relative one, others as they are."""
    path = Path(name)
    if path.is_absolute() and path.is_relative_to(images.absolute()):
        return path.relative_to(images.absolute()).as_posix()
    return path.as_posix()


def _table(options: FolderOptions) -> Path | None:
    if options.captions is not None:
        return options.captions
    present = [options.images / name for name in _TABLES if (options.images / name).is_file()]
    if len(present) > 1:
        raise ValueError(f"both {present[0]} and {present[1]} exist; choose one with --captions")
    return present[0] if present else None


def _beside(image: Path) -> Path:
    return image.with_suffix(".txt")
