"""How far a long piece of work has come, for whoever waits at a terminal or reads a log."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from tqdm import tqdm

Progress = Callable[[int, int], None]
"""Told what is done so far, and how much there will be."""


def silent(done: int, total: int) -> None:
    """For nobody who waits."""


class Bar:
    """A progress bar on a terminal, a line for each tenth of the work elsewhere.

    Nothing is shown of work that is less than `least` in all.
    """

    def __init__(self, unit: str, least: int = 0) -> None:
        self.unit, self.least = unit, least
        self._bar: tqdm[Any] | None = None
        self._tenth = 0

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def show(self, done: int, total: int) -> None:
        if total < self.least:
            return
        if sys.stderr.isatty():
            if self._bar is None:
                self._bar = tqdm(total=total, unit=f" {self.unit}", leave=False)
            self._bar.update(done - self._bar.n)
        elif total and done * 10 // total > self._tenth:
            self._tenth = done * 10 // total
            print(f"  {done:,} of {total:,} {self.unit}", flush=True)
