"""Lines of text in a style, as files of any age and system hold them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from distgan.data.importers.found import Report
from distgan.data.importers.options import StyleText
from distgan.data.texts import words_of


def read_styled_lines(path: Path, report: Report) -> list[str]:
    """The captions of a style, a line each, blank ones too: their places are their images'.

    Line ends are LF or CR LF; what is not UTF-8 is read as Latin-1, and reported.
    """
    if not path.is_file():
        raise ValueError(f"file {path} does not exist")
    content = path.read_bytes()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        text = content.decode("latin-1")
        report.say(f"{path.name} is not UTF-8 (byte {error.start}); read as Latin-1")
    return text.replace("\r\n", "\n").removesuffix("\n").split("\n")


def lines_by_style(given: Iterable[StyleText], report: Report) -> dict[str, list[str]]:
    """The lines that have words, by style. ValueError naming a file without any."""
    by_style: dict[str, list[str]] = {}
    for each in given:
        lines = [" ".join(line.split()) for line in read_styled_lines(each.file, report)]
        kept = [line for line in lines if words_of(line)]
        if not kept:
            raise ValueError(f"{each.file}: no line of words for style {each.style}")
        for _ in range(len(lines) - len(kept)):
            report.drop(f"{each.style} lines without words", each.file.name)
        report.say(f"{each.file.name}: {len(kept):,} lines {each.style}")
        by_style.setdefault(each.style, []).extend(kept)
    return by_style
