"""The files that Flickr8k, Flickr30k and FlickrStyle10K come in."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from distgan.data.importers.pickles import load_plain
from distgan.data.importers.tables import QUOTES
from distgan.data.texts import lines_of

_TABLE = re.compile(r"(?P<name>[^|]+)\|\s*\d+\s*(?:\||\s)(?P<text>.*)$")
_TOKENS = re.compile(r"(?P<name>[^#\t]+)(?:#[^\t]*)?\t(?P<text>.*)$")


@dataclass(frozen=True)
class StyleFiles:
    """Lines of one style, and the image each belongs to: line i to name i."""

    style: str
    lines: Path  # a caption a line
    names: Path  # a pickled list of file names, or a text file of them


def read_captions(path: Path) -> Iterator[tuple[str, str]]:
    """(file name, caption) of a captions file in one of its three forms.

    Flickr8k's `image,caption`, Flickr30k's `image_name| comment_number| comment`, and the
    original `NAME.jpg#0<TAB>caption`. One line of the published results.csv lacks its second
    `|`, which is made good. ValueError naming file and line for anything else.
    """
    text = path.read_text("utf-8-sig")
    head = text.partition("\n")[0].strip()
    if head.replace(" ", "") == "image,caption":
        yield from _of_two_columns(path, text)
        return
    lines = lines_of(text)
    if head.replace(" ", "") == "image_name|comment_number|comment":
        form, wanted, lines, first = _TABLE, "'NAME| NUMBER| CAPTION'", lines[1:], 2
    elif "\t" in head:
        form, wanted, first = _TOKENS, "'NAME#NUMBER<TAB>CAPTION'", 1
    else:
        raise ValueError(
            f"{path}: unknown captions file; its first line should be `image,caption`, "
            f"`image_name| comment_number| comment` or `NAME.jpg#0<TAB>caption`, not {head!r}"
        )
    for number, line in enumerate(lines, first):
        found = form.match(line)
        if found:
            yield found["name"].strip(), found["text"]
        elif line.strip():
            raise ValueError(f"{path}: line {number} is not {wanted}: {line!r}")


def _of_two_columns(path: Path, text: str) -> Iterator[tuple[str, str]]:
    rows = csv.reader(io.StringIO(text), strict=True)
    line = 0  # the last of the rows that were read
    try:
        for row in rows:
            if line > 0 and row:
                if len(row) < 2:
                    raise ValueError(f"{path}: line {line + 1} is not `image,caption`: {row}")
                yield row[0].strip(), ",".join(row[1:])
            line = rows.line_num
    except csv.Error as error:
        raise ValueError(f"{path}: the row from line {line + 1} on: {error}; {QUOTES}") from error


def read_names(path: Path) -> list[str]:
    """File names from a pickled list, or from the lines of a .txt file."""
    if path.suffix == ".txt":
        return lines_of(path.read_text("utf-8-sig"))
    names = load_plain(path)
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{path}: not a list of file names")
    return [name.strip() for name in names]


def read_splits(lists: Mapping[str, Path]) -> dict[str, str]:
    """The split of each image that the lists name. ValueError naming an image in two of them."""
    splits: dict[str, str] = {}
    for split, path in lists.items():
        for line in lines_of(path.read_text("utf-8-sig")):
            name = line.strip() if "." in line else f"{line.strip()}.jpg"
            if line.strip() and splits.setdefault(name, split) != split:
                raise ValueError(f"{path}: {name} is in the list of {splits[name]} too")
    return splits
