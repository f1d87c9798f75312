"""Reads pickled lists and dictionaries of plain values from files nobody vouches for.

Nothing is imported and nothing is called, whatever the file asks for: the names in which numpy
writes a number, and those in which Python 3 writes bytes for Python 2, are read by functions of
this module; every other name is refused.

Pickles passed through a program that turned every line end into CR LF (an archive unpacked, or
a repository checked out, as text) are turned back. That is exact when no line end escaped it:
a file in which some did is refused. Whoever reads the value still has to compare its counts.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

_LATIN = "latin-1"  # every byte is a character


@dataclass(frozen=True)
class Plain:
    """A pickled value made of lists, tuples, dictionaries, text and numbers."""

    value: Any
    repaired: bool  # its line ends had been turned into CR LF


def load_plain(path: Path) -> Any:
    """The pickled plain value. ValueError naming the file for anything else in it."""
    return read_plain(path).value


def read_plain(path: Path) -> Plain:
    """The pickled plain value, its line ends repaired. ValueError naming the file and why not.

    Python 2's strings come as text: UTF-8, or else Latin-1.
    """
    if not path.is_file():
        raise ValueError(f"{path} does not exist")
    data = path.read_bytes()
    try:
        return _parse(data)
    except Exception as error:  # a garbled pickle raises nearly anything
        raise ValueError(f"{path}: refused: not a pickle of plain values ({error})") from error


def as_list(value: Any, kind: type[T], where: Path | str) -> list[T]:
    """The value as a list of `kind`; ValueError naming `where` when it is anything else."""
    if not isinstance(value, (list, tuple)):
        raise ValueError(f"{where}: not a list but {type(value).__name__}")
    for number, each in enumerate(value):
        if not isinstance(each, kind) or isinstance(each, bool):
            raise ValueError(f"{where}: entry {number} is {each!r:.80}, no {kind.__name__}")
    return list(value)


def _parse(data: bytes) -> Plain:
    turned, lines = data.count(b"\r\n"), data.count(b"\n")
    if not turned:
        return Plain(_load(data), False)
    binary = _is_binary(data)
    if turned < lines:
        if not binary:
            raise ValueError(f"{turned:,} of its {lines:,} line ends are CR LF, the others are not")
        return Plain(_load(data), False)
    back = data.replace(b"\r\n", b"\n")
    if not binary:
        return Plain(_load(back), True)
    try:
        return Plain(_load(data), False)  # the byte 13 before every 10 may be chance
    except Exception:
        return Plain(_load(back), True)


def _is_binary(data: bytes) -> bool:
    """Is it of protocol 1 or later? Their bytes 10 are no line ends only."""
    try:
        return any(code.proto > 0 for code, _, _ in pickletools.genops(data))
    except ValueError:
        return False  # a text garbled by its line ends


def _load(data: bytes) -> Any:
    file = io.BytesIO(data)
    value = _Plain(file, encoding="bytes").load()
    if file.tell() != len(data):
        raise ValueError(f"{len(data) - file.tell():,} bytes follow its end")
    return _as_text(value, {})


class _Plain(pickle.Unpickler):
    """Builds lists, tuples, dictionaries, strings and numbers; a name to import is refused."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _READERS:
            raise ValueError(f"it asks to import {module}.{name}")
        return _READERS[module, name]

    def persistent_load(self, pid: Any) -> Any:
        raise ValueError(f"it asks for the persistent object {pid!r}")


class _Kind:
    """In place of numpy's dtype, of numbers only: `b1`, or `i`, `u`, `f` with a size."""

    _SIGNS: dict[str, str] = {  # noqa: RUF012 (a constant)
        **{f"i{2**n}": sign for n, sign in enumerate("bhiq")},
        **{f"u{2**n}": sign for n, sign in enumerate("BHIQ")},
        **{"f4": "f", "f8": "d", "b1": "?"},
    }

    def __init__(self, name: bytes | str, align: int = 0, copy: int = 1) -> None:
        text = name.decode("ascii") if isinstance(name, bytes) else name
        if text not in self._SIGNS:
            raise ValueError(f"it holds numpy values of type {text!r}, not numbers")
        self._sign, self._order = self._SIGNS[text], "<"

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        """numpy's: (version, byte order, ...)."""
        order = state[1].decode("ascii") if isinstance(state[1], bytes) else state[1]
        if order not in ("<", ">", "|", "="):
            raise ValueError(f"unknown byte order {order!r}")
        self._order = ">" if order == ">" else "<"

    def number(self, data: bytes) -> int | float:
        return struct.unpack(self._order + self._sign, data)[0]


def _scalar(kind: _Kind, data: bytes) -> int | float:
    """In place of numpy's scalar: a number of Python's own. struct.error for a wrong size."""
    return kind.number(data)


def _encode(text: str, encoding: str) -> bytes:
    """In place of `_codecs.encode`, in the one use that pickles make of it."""
    if encoding not in ("latin1", _LATIN):
        raise ValueError(f"it asks to encode as {encoding!r}")
    return text.encode(_LATIN)


_READERS: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy", "dtype"): _Kind,
    ("numpy.core.multiarray", "scalar"): _scalar,
    ("numpy._core.multiarray", "scalar"): _scalar,
    ("_codecs", "encode"): _encode,
}


def _as_text(value: Any, done: dict[int, Any]) -> Any:
    """The value with text for byte strings; `done` holds what was met, by its id."""
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            return value.decode(_LATIN)
    if isinstance(value, (list, tuple, dict)):
        if id(value) not in done:
            done[id(value)] = _container(value, done)
        return done[id(value)]
    if value is not None and not isinstance(value, (bool, int, float, str)):
        raise ValueError(f"it holds {type(value).__name__.strip('_').lower()} values")
    return value


def _container(value: Any, done: dict[int, Any]) -> Any:
    if isinstance(value, dict):
        return {_as_text(k, done): _as_text(v, done) for k, v in value.items()}
    made = (_as_text(each, done) for each in value)
    return list(made) if isinstance(value, list) else tuple(made)
