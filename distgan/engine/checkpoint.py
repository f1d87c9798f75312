"""The checkpoint store: whole, hashed, atomic, readable with torch alone.

`FOLDER/step-00000500-a001/` holds `state.pt` and `manifest.json` (SHA-256 and size of each
file). It is written under another name and renamed, so a half-written one is never mistaken for
a checkpoint; a damaged one is found by its hash and the one before it is used. Every start of a
run claims the next attempt number, and a writer that finds a higher one stops: after a machine
is lost, its workers may go on for seconds beside their successors.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

_NAME = re.compile(r"step-(\d{8})-a(\d{3,})")

_PLAIN = (bool, int, float, str, bytes, type(None))


class Superseded(RuntimeError):  # noqa: N818 (a message to stop, not an error of this run)
    """A later attempt of the same run has begun; this one must write nothing more."""


class DamagedCheckpoint(ValueError):  # noqa: N818
    """A checkpoint's files are not what its manifest says."""


@dataclass(frozen=True)
class Store:
    """The checkpoints of one run; one process (rank 0) writes."""

    folder: Path
    attempt: int = 0  # 0: reads only
    keep: int = 2

    def claim(self) -> Store:
        """The same store with the next attempt number, which no other process has."""
        attempts = self.folder / "attempts"
        attempts.mkdir(parents=True, exist_ok=True)
        number = self._newest_attempt() + 1
        while True:
            try:
                (attempts / f"{number:03d}").mkdir()
                return Store(self.folder, number, self.keep)
            except FileExistsError:
                number += 1

    def save(self, step: int, state: dict[str, Any], *, milestone: bool = False) -> Path:
        """Write a checkpoint and make it the latest. `milestone`s are never pruned.

        Raises Superseded when a later attempt has begun.
        """
        final = self.folder / f"step-{step:08d}-a{self.attempt:03d}"
        partial = self.folder / f".{final.name}.partial"
        self._stop_if_superseded()
        _require_plain(state, "state")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        torch.save(state, partial / "state.pt")
        manifest = {
            "step": step,
            "attempt": self.attempt,
            "milestone": milestone,
            "files": {"state.pt": _describe(partial / "state.pt")},
        }
        _write_durably(partial / "manifest.json", json.dumps(manifest, indent=1))
        self._commit(partial, final)
        self._prune()
        return final

    def latest(self) -> Path | None:
        """The newest whole checkpoint, or None. Damaged ones are reported and passed over."""
        for path in self._newest_first():
            try:
                validate(path)
                return path
            except DamagedCheckpoint as error:
                print(f"passing over a damaged checkpoint: {error}", flush=True)
        return None

    def _commit(self, partial: Path, final: Path) -> None:
        _sync(partial)
        self._stop_if_superseded()
        shutil.rmtree(final, ignore_errors=True)
        os.rename(partial, final)
        _sync(self.folder)

    def _stop_if_superseded(self) -> None:
        newest = self._newest_attempt()
        if newest > self.attempt:
            raise Superseded(
                f"attempt {newest} of this run has begun; attempt {self.attempt} stops"
            )

    def _prune(self) -> None:
        for leftover in self.folder.glob(".step-*.partial"):  # of writers that were killed
            shutil.rmtree(leftover, ignore_errors=True)
        whole = [path for path in self._newest_first() if not _is_milestone(path)]
        for path in whole[self.keep :]:
            shutil.rmtree(path, ignore_errors=True)

    def _newest_attempt(self) -> int:
        attempts = self.folder / "attempts"
        names = os.listdir(attempts) if attempts.is_dir() else []
        return max((int(name) for name in names if name.isdigit()), default=0)

    def _newest_first(self) -> list[Path]:
        names = os.listdir(self.folder) if self.folder.is_dir() else []
        found = [(m, n) for n in names if (m := _NAME.fullmatch(n))]
        found.sort(
            key=lambda pair: (int(pair[0][2]), int(pair[0][1])), reverse=True
        )  # attempt, step
        return [self.folder / name for _, name in found]


def validate(path: Path) -> None:
    """Check every file of a checkpoint against its manifest; DamagedCheckpoint names the file."""
    try:
        files = json.loads((path / "manifest.json").read_text())["files"]
    except (OSError, ValueError, KeyError) as error:
        raise DamagedCheckpoint(f"{path}/manifest.json: {error}") from error
    for name, said in files.items():
        if not (path / name).is_file() or _describe(path / name) != said:
            raise DamagedCheckpoint(f"{path}/{name} is not what its manifest says")


def load(path: str | Path) -> dict[str, Any]:
    """A checkpoint's state on the CPU: tensors and plain values only, nothing is unpickled."""
    path = Path(path)
    validate(path)
    state: dict[str, Any] = torch.load(path / "state.pt", map_location="cpu", weights_only=True)
    return state


def graft(path: Path, run: Path) -> Path:
    """Make a checkpoint of another run the one that `run` goes on from; its place in `run`.

    Files are linked where the disk can, else copied. It counts as older than all that the run
    writes itself; grafting it again changes nothing.
    """
    validate(path)
    found = _NAME.fullmatch(path.name)
    if found is None:
        raise ValueError(f"{path} is no checkpoint of a run")
    place = run / "checkpoints" / f"step-{found[1]}-a000"
    if place.is_dir():
        return place
    partial = place.with_name(f".{place.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for file in path.iterdir():
        try:
            os.link(file, partial / file.name)
        except OSError:
            shutil.copy2(file, partial / file.name)
    _sync(partial)
    os.rename(partial, place)
    _sync(place.parent)
    return place


def find(run_or_checkpoint: str | Path) -> Path:
    """The checkpoint at this path, or the newest whole one of the run at this path."""
    path = Path(run_or_checkpoint)
    if (path / "manifest.json").is_file():
        return path
    found = Store(path / "checkpoints").latest()
    if found is None:
        raise ValueError(f"{path} is neither a checkpoint nor a run with checkpoints")
    return found


def _describe(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return {
            "sha256": hashlib.file_digest(file, "sha256").hexdigest(),
            "bytes": path.stat().st_size,
        }


def _is_milestone(path: Path) -> bool:
    try:
        return bool(json.loads((path / "manifest.json").read_text())["milestone"])
    except (OSError, ValueError, KeyError):
        return False


def _require_plain(value: Any, where: str) -> None:
    """Raise a TypeError for what `load` would refuse, while there is still a run to mend."""
    if type(value) in (dict, OrderedDict):
        for key, inner in value.items():
            _require_plain(inner, f"{where}[{key!r}]")
    elif type(value) in (list, tuple):
        for number, inner in enumerate(value):
            _require_plain(inner, f"{where}[{number}]")
    elif type(value) not in _PLAIN and not isinstance(value, Tensor):
        raise TypeError(f"a checkpoint holds plain values: {where} is a {type(value).__name__}")


def _write_durably(path: Path, text: str) -> None:
    with path.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _sync(path: Path) -> None:
    """Make a folder's entries (or a file's bytes) survive a power cut."""
    for target in [*path.glob("*"), path] if path.is_dir() else [path]:
        if target.is_dir() and target != path:
            continue
        descriptor = os.open(target, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
