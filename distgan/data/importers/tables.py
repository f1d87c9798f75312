"""Tables of images with captions: CSV in any common delimiter, or a JSON object a line.

A row names its image and says one caption or a list of them; it may say a style, a split and a
class. Columns are found by their usual names, or by the names the options give them; all
others become facts of the image.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import date, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

from distgan.data.importers.found import Report
from distgan.data.importers.joining import Described
from distgan.data.importers.options import SplitOptions, option
from distgan.data.samples import Caption
from distgan.data.texts import read_utf8

SUFFIXES = (".csv", ".tsv", ".jsonl")

Numbered = tuple[int, dict[str, Any]]
"""A line's number in its file, and the row's values by column."""

QUOTES = 'text in quotes ends with one, and has those within it doubled: "a ""small"" dog"'

_DELIMITERS = ",\t;|"
_NUMBERED = re.compile(r"(caption|text|sentence)_?\d+$")
_USUAL = {
    "image": ("image", "file_name", "filename", "image_path", "path", "file"),
    "caption": ("captions", "caption", "text", "description"),
    "style": ("style",),
    "split": ("split",),
    "class": ("class", "label", "class_id", "class_name"),
}


@dataclass(frozen=True, kw_only=True)
class ColumnOptions(SplitOptions):
    """Which column holds what."""

    image_column: str | None = option(
        "column of the image's path (default: image, file_name, image_path, path or file)",
        default=None,
        metavar="NAME",
    )
    caption_column: str | None = option(
        "column of the caption or captions, or several with commas (default: captions, caption, "
        "text or description, or else caption_0, caption_1, ...)",
        default=None,
        metavar="NAME[,NAME]",
    )
    style_column: str | None = option(
        "column of the caption's style (default: style, if there)", default=None, metavar="NAME"
    )
    split_column: str | None = option(
        "column of the image's split (default: split, if there)", default=None, metavar="NAME"
    )
    class_column: str | None = option(
        "column of the image's class, a number or a name (default: class, label, class_id or "
        "class_name, if there)",
        default=None,
        metavar="NAME",
    )
    unlabelled: bool = option("keep images without captions", default=False)


@dataclass(frozen=True)
class Columns:
    """The columns of a table by their use; None, or none, where there is no such column.

    Without a column of captions a row has none where they may be `unlabelled`.
    """

    image: str | None
    captions: tuple[str, ...]
    style: str | None
    split: str | None
    label: str | None
    unlabelled: bool

    @classmethod
    def choose(cls, present: Collection[str], options: ColumnOptions, where: str) -> Columns:
        """From those `present`. ValueError naming a column that was asked for and is not there."""

        def named(use: str) -> str | None:
            asked = vars(options)[f"{use}_column"]
            if asked is not None:
                return _present(asked, use, present, where)
            return next((name for name in _USUAL[use] if name in present), None)

        asked = options.caption_column
        if asked is not None:
            captions = tuple(_present(n, "caption", present, where) for n in asked.split(","))
        else:
            usual = named("caption")
            captions = (usual,) if usual else tuple(sorted(filter(_NUMBERED.match, present)))
        return cls(
            *(named("image"), captions, named("style"), named("split"), named("class")),
            options.unlabelled,
        )


def read_described(path: Path, options: ColumnOptions) -> list[Described]:
    """The rows of a table as descriptions of images. Errors name file, line and column."""
    chosen: dict[tuple[str, ...], Columns] = {}
    described = []
    for line, row in rows_of(path):
        names = tuple(row)
        if names not in chosen:
            chosen[names] = Columns.choose(names, options, f"{path}: line {line}")
        described.append(describe(row, chosen[names], f"{path}: line {line}"))
    if not described:
        raise ValueError(f"{path}: no rows")
    number_classes(said.facts for said in described)
    return described


def describe(row: dict[str, Any], columns: Columns, where: str) -> Described:
    """What one row says of its image."""
    if columns.image is None:
        raise ValueError(f"{where}: no image column (--image-column names it); {_has(row)}")
    name = row[columns.image]
    if not isinstance(name, str) or not name.strip():
        raise ValueError(f"{where}: column {columns.image!r} names no image: {name!r:.80}")
    split = row[columns.split] if columns.split else None
    return Described(
        name.strip(),
        row_captions(row, columns, where),
        str(split).strip() if _says(split) else None,
        row_facts(row, columns, where),
    )


def row_captions(row: dict[str, Any], columns: Columns, where: str) -> list[Caption]:
    """The row's captions in its style. ValueError where it has no column for them but needs it."""
    if not columns.captions and not columns.unlabelled:
        raise ValueError(f"{where}: no caption column (--caption-column names it); {_has(row)}")
    style = row[columns.style] if columns.style else None
    style = str(style).strip() if _says(style) else None
    return [
        caption
        for name in columns.captions
        for caption in captions_in(row[name], style, f"{where}: column {name!r}")
    ]


def row_facts(row: dict[str, Any], columns: Columns, where: str) -> dict[str, Any]:
    """The row's class, and its columns that have no other use."""
    used = {columns.image, *columns.captions, columns.style, columns.split, columns.label}
    facts = {k: v for k, v in row.items() if k not in used and k != "captions" and _says(v)}
    label = row[columns.label] if columns.label else None
    if _says(label):
        facts |= class_facts(label, f"{where}: column {columns.label!r}")
    return facts


def json_facts(facts: dict[str, Any], where: str, report: Report) -> dict[str, Any]:
    """Facts as JSON can hold them, dates and decimals as text; the others are reported.

    Cells of Parquet are more than JSON knows, and what it cannot say would end the writing.
    """
    kept = {}
    for name, value in facts.items():
        try:
            kept[name] = _json_value(value)
        except TypeError as error:
            report.drop("facts that are no text, number, date or list", f"{where} {name} ({error})")
    return kept


def captions_in(value: Any, style: str | None, where: str) -> list[Caption]:
    """Captions from a string, from {"text", "style"}, or from a list of them.

    A null is an empty caption, which `with_words` leaves out and reports.
    """
    if value is None:
        return [Caption("", style)]
    if isinstance(value, str):
        return [Caption(value, style)]
    if isinstance(value, dict) and isinstance(value.get("text", 0), str | None):
        return [Caption(value["text"] or "", value.get("style", style))]
    if isinstance(value, (list, tuple)):
        return [caption for each in value for caption in captions_in(each, style, where)]
    raise ValueError(f"{where}: no caption: {value!r:.80}")


def class_facts(label: Any, where: str) -> dict[str, Any]:
    """A class given as a whole number, or by its name, which `number_classes` numbers."""
    if isinstance(label, bool) or not isinstance(label, (int, str)):
        raise ValueError(f"{where}: a class is a whole number or a name, not {label!r}")
    text = str(label).strip()
    return {"class": int(text)} if text.lstrip("-").isdecimal() else {"class_name": text}


def number_classes(facts_of_all: Iterable[dict[str, Any]]) -> None:
    """Give classes that only have a name their number, in the order of the alphabet."""
    unnumbered = [f for f in facts_of_all if "class_name" in f and "class" not in f]
    numbers = {name: n for n, name in enumerate(sorted({f["class_name"] for f in unnumbered}))}
    for facts in unnumbered:
        facts["class"] = numbers[facts["class_name"]]


def rows_of(path: Path) -> Iterator[Numbered]:
    """The rows of a .csv, .tsv or .jsonl. ValueError naming the file, and the line, otherwise."""
    if not path.is_file():
        raise ValueError(f"table {path} does not exist")
    if path.suffix not in SUFFIXES:
        raise ValueError(f"table {path} must be one of {', '.join(SUFFIXES)}")
    text = read_utf8(path)
    return _json_rows(path, text) if path.suffix == ".jsonl" else _csv_rows(path, text)


def _csv_rows(path: Path, text: str) -> Iterator[Numbered]:
    lines = io.StringIO(text, newline="")  # only line ends part lines, not U+2028 and the like
    delimiter = _delimiter(lines.readline())
    lines.seek(0)
    rows = csv.reader(lines, delimiter=delimiter, skipinitialspace=True, strict=True)
    line = 0  # the last of the rows that were read
    try:
        header = [name.strip() for name in next(rows, [])]
        line = rows.line_num
        if len(set(header)) < len(header):
            raise ValueError(f"{path}: a column occurs twice: {header}")
        for fields in rows:
            if len(fields) != len(header) and any(fields):
                raise ValueError(
                    f"{path}: line {rows.line_num} has {len(fields)} columns, the first line "
                    f"{len(header)} ({', '.join(header)}): {fields!r:.120}"
                )
            line = rows.line_num
            if any(fields):
                yield line, dict(zip(header, fields, strict=True))
    except csv.Error as error:
        raise ValueError(f"{path}: the row from line {line + 1} on: {error}; {QUOTES}") from error


def _delimiter(header: str) -> str:
    """The one that parts the first line into the most columns."""
    return max(_DELIMITERS, key=lambda sign: len(next(csv.reader([header], delimiter=sign), [])))


def _json_rows(path: Path, text: str) -> Iterator[Numbered]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise ValueError(f"{path}: line {number} is not JSON: {error}") from error
        if not isinstance(row, dict):
            raise ValueError(f"{path}: line {number} is no JSON object: {line!r:.80}")
        yield number, row


def _present(name: str, use: str, present: Collection[str], where: str) -> str:
    if name not in present:
        raise ValueError(f"{where}: no column {name!r} (--{use}-column); {_has(present)}")
    return name


def _json_value(value: Any) -> Any:
    """TypeError, saying the kind, for bytes and what else JSON cannot hold."""
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    if isinstance(value, (date, time)):
        return value.isoformat()
    if isinstance(value, (Decimal, timedelta, UUID)):
        return str(value)
    if isinstance(value, (list, tuple)):
        return [_json_value(each) for each in value]
    if isinstance(value, dict):
        return {str(key): _json_value(each) for key, each in value.items()}
    raise TypeError(type(value).__name__)


def _says(value: Any) -> bool:
    """Is there anything in this cell?"""
    return value is not None and value != ""


def _has(present: Iterable[str]) -> str:
    return f"it has {', '.join(map(repr, present)) or 'none'}"
