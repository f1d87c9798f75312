"""Lines of text: reading them, and the normal form in which words are compared."""

from __future__ import annotations

import io
import string
import unicodedata
from pathlib import Path

MAX_WORDS = 1000  # of a caption; a longer one is a text that went astray
_SHOWN = 60  # characters of a text in a message

_BETWEEN_WORDS = dict.fromkeys(map(ord, "-/\u2010\u2011\u2012\u2013\u2014\u2015"), " ") | {
    ord("&"): " and "
}
_ASCII = {
    **{c: "" for c in range(128) if chr(c) in string.punctuation},
    **{c: "" for c in range(128) if not (chr(c).isprintable() or chr(c).isspace())},
    ord("-"): " ",
    ord("/"): " ",
    ord("&"): " and ",
}


def words_of(text: str) -> list[str]:
    """Lower-case words without punctuation, as COCO captioners prepare them.

    Dashes and slashes part words, `&` is read as `and`, other punctuation and symbols vanish
    (`don't` becomes `dont`).
    """
    if text.isascii():
        return text.lower().translate(_ASCII).split()
    spaced = unicodedata.normalize("NFKC", text).lower().translate(_BETWEEN_WORDS)
    kept = "".join(c for c in spaced if c.isspace() or unicodedata.category(c)[0] not in "PSC")
    return kept.split()


def fault_of(text: str) -> str | None:
    """What makes a text unfit to be learned from: no words, NUL bytes, or far too many words."""
    if "\0" in text:
        return f"has NUL bytes: {text[:_SHOWN]!r}"
    words = len(words_of(text))
    if words == 0:
        return f"has no words: {text[:_SHOWN]!r}"
    if words > MAX_WORDS:
        return f"has {words:,} words, more than {MAX_WORDS:,}: {text[:_SHOWN]!r}..."
    return None


def is_unicode(text: str) -> bool:
    """Can UTF-8 say it? Not half a surrogate pair, nor a file name in another encoding."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def lines_of(text: str) -> list[str]:
    """The lines that LF, CR LF or CR end; a form feed, NEL or U+2028 is within a line."""
    return [line.removesuffix("\n") for line in io.StringIO(text, newline=None)]


def read_utf8(path: Path) -> str:
    """The text of a file, without a byte order mark. ValueError naming file and line if it is
    not UTF-8."""
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ValueError(f"{path}: line {line} is not UTF-8 (byte {error.start})") from error


def read_lines(path: str | Path) -> list[str]:
    """The lines of a UTF-8 text file that are not blank.

    Errors name the file, and the line: not UTF-8, a line without words, no lines at all.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"text file {path} does not exist")
    given = enumerate(read_utf8(path).splitlines(), 1)
    lines = [(number, line.strip()) for number, line in given if line.strip()]
    for number, line in lines:
        if not words_of(line):
            raise ValueError(f"{path}: line {number} has no words: {line!r}")
    if not lines:
        raise ValueError(f"{path}: no lines")
    return [line for _, line in lines]
