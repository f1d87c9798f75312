"""Reads pickled lists and dictionaries of plain values from files nobody vouches for."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any


class _Plain(pickle.Unpickler):
    """Builds lists, tuples, dictionaries, strings and numbers; a name to import is refused."""

    def find_class(self, module: str, name: str) -> Any:
        raise ValueError(f"it asks to import {module}.{name}")

    def persistent_load(self, pid: Any) -> Any:
        raise ValueError(f"it asks for the persistent object {pid!r}")


def load_plain(path: Path) -> Any:
    """The pickled plain value. ValueError naming the file for anything else in it."""
    try:
        with path.open("rb") as file:
            return _Plain(file, encoding="utf-8").load()
    except FileNotFoundError as error:
        raise ValueError(f"{path} does not exist") from error
    except Exception as error:  # a garbled pickle raises nearly anything
        raise ValueError(f"{path}: refused: not a pickle of plain values ({error})") from error
