"""What a sweep has tried and how far it has come: plain files, the truth for every resume.

    SWEEP/sweep.yaml, config.yaml       what it was told
    SWEEP/warm/                         the run of the shared stages
    SWEEP/trials/0003/                  a trial: an ordinary run's folder, and trial.json
    SWEEP/trials/0003-2/                its second life: it took another one's place (population)
    SWEEP/perturbations.jsonl           who took whose place, with which settings
    SWEEP/generations.jsonl             scores of a population
    SWEEP/temperatures.json             what the shared run's model is worth at each temperature

One process, the driver, writes the journal; the runs' folders belong to the trials.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from distgan.sweeps.plan import Settings

Status = Literal["running", "finished", "stopped", "failed"]
SWEEP, CURVE = "sweep.yaml", "temperatures.json"
PERTURBATIONS, GENERATIONS = "perturbations.jsonl", "generations.jsonl"


@dataclass(frozen=True)
class Trial:
    """One trial as the journal knows it. `life` counts the places it took; 1 is its own."""

    number: int
    settings: dict[str, Any]
    status: Status = "running"
    reason: str = ""
    life: int = 1
    seconds: float = 0.0
    restarts: int = 0
    starts: tuple[int, ...] = (0,)  # the round after which each life began

    @property
    def has_ended(self) -> bool:
        return self.status != "running"

    @property
    def name(self) -> str:
        return folder_name(self.number, self.life)


def folder_name(number: int, life: int) -> str:
    """`0003`, and `0003-2` for its second life."""
    return f"{number:04d}" if life == 1 else f"{number:04d}-{life}"


class Journal:
    """The trials of the sweep in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.trials: dict[int, Trial] = {}
        (folder / "trials").mkdir(parents=True, exist_ok=True)
        for path in sorted((folder / "trials").glob("*/trial.json")):
            fields = json.loads(path.read_text())
            fields["starts"] = tuple(fields["starts"])
            trial = Trial(**fields)
            self.trials[trial.number] = trial

    def run(self, number: int, life: int | None = None) -> Path:
        """The run's folder of a trial, of its newest life by default."""
        life = self.trials[number].life if life is None else life
        return self.folder / "trials" / folder_name(number, life)

    def begin(self, number: int, settings: Settings) -> Trial:
        """The trial of that number; a new one is written down before it starts."""
        if number not in self.trials:
            self._write(Trial(number, dict(settings)))
        return self.trials[number]

    def end(self, number: int, status: Status, reason: str) -> None:
        """Write down how a trial ended; what has ended once stays as it is."""
        if not self.trials[number].has_ended:
            self._write(replace(self.trials[number], status=status, reason=reason))

    def note(self, number: int, *, seconds: float | None = None, restarts: int = 0) -> None:
        """Write down the seconds trained so far, and restarts to add."""
        trial = self.trials[number]
        kept = trial.seconds if seconds is None else seconds
        self._write(replace(trial, seconds=kept, restarts=trial.restarts + restarts))

    def replace_settings(self, number: int, settings: Settings, start: int) -> Trial:
        """Begin a trial's next life, from round `start`."""
        trial = self.trials[number]
        self._write(
            replace(
                trial,
                settings=dict(settings),
                life=trial.life + 1,
                starts=(*trial.starts, start),
            )
        )
        return self.trials[number]

    def have_ended(self, count: int) -> bool:
        """Whether each of the first `count` trials has begun and ended."""
        return all(n in self.trials and self.trials[n].has_ended for n in range(count))

    def lines(self, number: int) -> list[dict[str, Any]]:
        """All logged lines of a trial over its lives, each round once, in order."""
        trial, kept = self.trials[number], list[dict[str, Any]]()
        for life, start in enumerate(trial.starts, 1):
            kept = [line for line in kept if line["round"] <= start]
            kept += [
                line
                for line in read_lines(self.run(number, life) / "metrics.jsonl")
                if line["round"] > start
            ]
        return kept

    def append(self, name: str, entry: Mapping[str, Any]) -> None:
        """Add a line to one of the sweep's JSON-lines files."""
        with (self.folder / name).open("a") as file:
            file.write(json.dumps(entry) + "\n")

    def entries(self, name: str) -> list[dict[str, Any]]:
        """The lines of one of the sweep's JSON-lines files."""
        return read_lines(self.folder / name)

    def _write(self, trial: Trial) -> None:
        self.trials[trial.number] = trial
        path = self.folder / "trials" / folder_name(trial.number, 1) / "trial.json"
        path.parent.mkdir(exist_ok=True)
        fresh = path.with_suffix(".json.new")
        fresh.write_text(json.dumps(asdict(trial), indent=1))
        fresh.replace(path)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a JSON-lines file; a last one that was cut is left out."""
    return list(_whole(path.read_text())) if path.exists() else []


def _whole(text: str) -> Iterator[dict[str, Any]]:
    for line in text.splitlines(keepends=True):
        if line.endswith("\n"):
            yield json.loads(line)


class Tail:
    """New lines of a metrics.jsonl that is being written, each round once, in order.

    A run that is resumed writes its file anew, without the lines after its checkpoint.
    """

    def __init__(self, path: Path) -> None:
        self.path, self._place, self._file, self._last = path, 0, 0, 0

    def read(self) -> list[dict[str, Any]]:
        """What has been added since the last call."""
        if not self.path.exists():
            return []
        with self.path.open("rb") as file:
            self._follow(os.fstat(file.fileno()).st_ino)  # the path may name another by now
            file.seek(self._place)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        self._place += len(whole)
        lines = [line for line in _whole(whole.decode()) if line["round"] > self._last]
        if lines:
            self._last = lines[-1]["round"]
        return lines

    def _follow(self, inode: int) -> None:
        if inode != self._file:
            self._file, self._place = inode, 0
