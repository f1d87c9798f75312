"""The table that is printed while a sweep runs."""

from __future__ import annotations

from typing import Any

from distgan.sweeps.journal import Journal, Trial
from distgan.sweeps.plan import Sweep

REASON = 60  # characters


def table(journal: Journal, sweep: Sweep, count: int) -> str:
    """A line for each trial that has begun, and how many are left."""
    keys = [short(key, list(sweep.search)) for key in sweep.search]
    head = ["trial", "status", "round", *keys, *(o.metric for o in sweep.objectives), "why"]
    trials = [journal.trials[number] for number in sorted(journal.trials)]
    lines = [head, *(_line(journal, sweep, trial) for trial in trials)]
    widths = [max(len(line[place]) for line in lines) for place in range(len(head))]
    text = "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )
    ended = sum(trial.has_ended for trial in trials)
    return f"\n{text}\n{ended} of {count} trials have ended"


def _line(journal: Journal, sweep: Sweep, trial: Trial) -> list[str]:
    lines = journal.lines(trial.number)
    cells = [trial.name, trial.status, str(lines[-1]["round"]) if lines else "-"]
    cells += [number(trial.settings.get(key, "default")) for key in sweep.search]
    for objective in sweep.objectives:
        known = [x[objective.metric] for x in lines if x.get(objective.metric) is not None]
        cells.append(number(known[-1]) if known else "-")
    return [*cells, trial.reason[:REASON]]


def number(value: Any) -> str:
    """A setting's or a metric's value, short."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def short(key: str, keys: list[str]) -> str:
    """The last part of a dotted key, or more of it where that is not enough."""
    parts = key.split(".")
    for length in range(1, len(parts) + 1):
        end = ".".join(parts[-length:])
        if sum(other == end or other.endswith(f".{end}") for other in keys) == 1:
            return end
    return key
