"""Images that lie in a column of Parquet files, with captions in others."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from distgan.data.damage import UnreadableImage
from distgan.data.importers.found import (
    Found,
    check_image,
    fingerprint,
    split_by_name,
    with_words,
)
from distgan.data.importers.joining import ImageFiles
from distgan.data.importers.options import fractions_of
from distgan.data.importers.tables import (
    ColumnOptions,
    Columns,
    json_facts,
    number_classes,
    row_captions,
    row_facts,
)

_BATCH = 64  # rows looked at together


class ParquetImages(ImageFiles):
    """Rows with an image and captions, in the order of the files and their rows."""

    name = "huggingface"

    def __init__(
        self,
        options: ColumnOptions,
        tables: Sequence[tuple[Path, str | None]],
    ) -> None:
        """`tables` with the split each belongs to; None: `options.fractions` make the splits."""
        super().__init__(options, inputs=fingerprint({}, [path for path, _ in tables]))
        self._columns = options
        self._group: tuple[Path, int, pa.ChunkedArray] | None = None
        self._image_columns: dict[Path, str] = {}
        self._counts: dict[Path, int] = {}  # rows
        fractions = fractions_of(*options.fractions)
        named = list(dict.fromkeys(split for _, split in tables if split))
        if named and any(split is None for _, split in tables):
            odd = next(path for path, split in tables if split is None)
            raise ValueError(f"{odd}: neither its name nor its folder says a split, others' do")
        found: dict[str, list[Found]] = {s: [] for s in named or [s for s, _ in fractions]}
        for path, split in tables:
            for each in self._rows(path, split or "all"):
                found[split or split_by_name(each.key, fractions)].append(each)
        self._check_kept(found)
        number_classes(each.facts for samples in found.values() for each in samples)
        self.place(found)

    def image(self, found: Found) -> tuple[bytes, str]:
        return self._bytes(found.path, found.facts["row"]), found.extension

    def __getstate__(self) -> dict[str, Any]:
        """Without the rows that happen to be in memory."""
        return {**self.__dict__, "_group": None}

    def _check_kept(self, found: Mapping[str, Sequence[Found]]) -> None:
        """ValueError when too many rows have no image that can be decoded, or no caption."""
        kept, rows = sum(map(len, found.values())), sum(self._counts.values())
        if kept < self.options.min_joined * rows:
            reasons = "; ".join(self.report.text()[-len(self.report.dropped) :])
            raise ValueError(
                f"{kept:,} of {rows:,} rows have an image and captions "
                f"(min_joined={self.options.min_joined}); {reasons}"
            )

    def _rows(self, path: Path, split: str) -> Iterator[Found]:
        """The samples of one file; what is dropped is reported."""
        file = opened(path)
        image = image_column(file.schema_arrow, self._columns.image_column, str(path))
        self._image_columns[path], self._counts[path] = image, file.metadata.num_rows
        names = [name for name in file.schema_arrow.names if name != image]
        columns = Columns.choose(names, _without_image(self._columns), str(path))
        classes = class_names(file.schema_arrow)
        self.report.say(f"{path.name}: {file.metadata.num_rows:,} rows, images in {image!r}")
        number = 0
        for batch in file.iter_batches(_BATCH):
            images = batch[image].to_pylist()
            for row, picture in zip(batch.select(names).to_pylist(), images, strict=True):
                where = f"{path.name} row {number}"
                found = self._described(row, image_bytes(picture), columns, classes, where)
                if found is not None:
                    extension, captions, facts = found
                    facts = {"row": number, **_named(picture), **facts}
                    key = f"{split}_{path.stem}_{number:07d}".replace(".", "_")
                    yield Found(key, path, extension, captions, facts)
                number += 1

    def _described(
        self,
        row: dict[str, Any],
        data: bytes | None,
        columns: Columns,
        classes: dict[str, list[str]],
        where: str,
    ) -> tuple[str, Any, dict[str, Any]] | None:
        """Extension, captions and facts of a row; None, and a line in the report, for none."""
        if data is None:
            self.report.drop("rows without an image's bytes", where)
            return None
        try:
            extension = check_image(data)
        except UnreadableImage as error:
            self.report.drop("images that cannot be decoded", f"{where} ({error})")
            return None
        captions = with_words(row_captions(row, columns, where), where, self.report)
        if not captions and not columns.unlabelled:
            self.report.drop("images without captions", where)
            return None
        facts = json_facts(row_facts(row, columns, where), where, self.report)
        if columns.label in classes and "class" in facts:
            facts |= self._named_class(facts.pop("class"), classes[columns.label], where)
        return extension, captions, facts

    def _named_class(self, number: int, names: Sequence[str], where: str) -> dict[str, Any]:
        """A class and its name; nothing for -1, which is how rows without a class are written."""
        if 0 <= number < len(names):
            return {"class": number, "class_name": names[number]}
        self.report.drop(f"class numbers outside the {len(names)} names", f"{where}: {number}")
        return {}

    def _bytes(self, path: Path, row: int) -> bytes:
        """The image of a row; the rows stored together with it stay in memory."""
        file = pq.ParquetFile(path)
        counts = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
        ends = list(accumulate(counts))
        group = bisect_right(ends, row)
        if self._group is None or self._group[:2] != (path, group):
            name = self._image_columns[path]
            self._group = path, group, file.read_row_group(group, columns=[name])[name]
        data = image_bytes(self._group[2][row - ends[group] + counts[group]].as_py())
        assert data is not None, "rows without bytes were dropped"
        return data


def opened(path: Path) -> pq.ParquetFile:
    """ValueError naming the file when it is damaged or of another kind."""
    try:
        return pq.ParquetFile(path)
    except pa.ArrowInvalid as error:
        raise ValueError(f"{path} is no Parquet file, or is cut: {error}") from error


def image_column(schema: pa.Schema, asked: str | None, where: str) -> str:
    """The column of images: the one asked for, or the only one that can be. Else ValueError."""
    if asked is not None and asked not in schema.names:
        raise ValueError(f"{where}: no column {asked!r} (--image-column); it has {schema.names}")
    possible = [field.name for field in schema if _holds_images(field.type)]
    if asked is not None:
        if asked not in possible:
            raise ValueError(
                f"{where}: column {asked!r} is {schema.field(asked).type}, not images' bytes; "
                "nothing is downloaded here"
            )
        return asked
    said = [name for name, kind in _features(schema).items() if kind.get("_type") == "Image"]
    chosen = [name for name in possible if name in said] or possible
    if len(chosen) != 1:
        raise ValueError(
            f"{where}: {len(chosen)} columns hold images ({', '.join(chosen) or 'none'}; columns: "
            f"{', '.join(f'{f.name} {f.type}' for f in schema)}); --image-column chooses one"
        )
    return chosen[0]


def image_bytes(value: Any) -> bytes | None:
    """The file in a cell: bytes, or {"bytes": ...}; None where there is nothing."""
    data = value.get("bytes") if isinstance(value, dict) else value
    return data or None


def class_names(schema: pa.Schema) -> dict[str, list[str]]:
    """The names of the classes of every column that is a ClassLabel, by their number."""
    features = _features(schema).items()
    return {n: kind["names"] for n, kind in features if kind.get("_type") == "ClassLabel"}


def _features(schema: pa.Schema) -> dict[str, dict[str, Any]]:
    """What Hugging Face wrote of its columns into the file."""
    try:
        said = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        features = said.get("info", {}).get("features") or {}
    except (ValueError, AttributeError):
        return {}
    return {name: kind for name, kind in features.items() if isinstance(kind, dict)}


def _holds_images(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        names = [kind.field(i).name for i in range(kind.num_fields)]
        return "bytes" in names and _holds_images(kind.field("bytes").type)
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def _named(picture: Any) -> dict[str, str]:
    path = picture.get("path") if isinstance(picture, dict) else None
    return {"image": path} if path else {}


def _without_image(options: ColumnOptions) -> ColumnOptions:
    """The same but for the image column, which is not among the text."""
    return replace(options, image_column=None)
