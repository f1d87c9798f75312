"""What came of a sweep, as tables that other programs read: Parquet, CSV, TensorBoard's HParams,
and the best settings as a file for launch/train.py."""

from __future__ import annotations

import csv
import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from distgan.config import Config, config_text
from distgan.sweeps.journal import Journal
from distgan.sweeps.pareto import front
from distgan.sweeps.plan import Sweep, trial_config

BEST, PARQUET, CSV, HPARAMS = "best.yaml", "results.parquet", "results.csv", "hparams"


@dataclass(frozen=True)
class Row:
    """One trial's result. `values` are the objectives' last logged values, by metric."""

    number: int
    settings: dict[str, Any]
    status: str
    reason: str
    rounds: int  # of the whole run, shared stages included
    seconds: float
    values: dict[str, float]
    peaks: dict[str, float]  # the best values on the way
    on_front: bool = False

    def flat(self) -> dict[str, Any]:
        """One line of a table."""
        return {
            "trial": self.number,
            "status": self.status,
            "reason": self.reason,
            **self.settings,
            **self.values,
            **{f"{name} (best on the way)": value for name, value in self.peaks.items()},
            "rounds": self.rounds,
            "seconds": round(self.seconds, 1),
            "on_front": self.on_front,
        }


def rows(journal: Journal, sweep: Sweep) -> list[Row]:
    """A row for every trial, by number; those on the Pareto front are marked."""
    found = [_row(journal, sweep, number) for number in sorted(journal.trials)]
    able = [row for row in found if len(row.values) == len(sweep.objectives)]
    points = [[row.values[o.metric] for o in sweep.objectives] for row in able]
    chosen = {able[place].number for place in front(points, sweep.objectives)}
    return [replace(row, on_front=row.number in chosen) for row in found]


def best(found: Sequence[Row], sweep: Sweep) -> Row | None:
    """The row that is best in the first objective: of the finished ones, if there are any."""
    first = sweep.objectives[0]
    able = [row for row in found if first.metric in row.values and row.status != "failed"]
    done = [row for row in able if row.status == "finished"]
    return max(done or able, key=lambda row: first.better(row.values[first.metric]), default=None)


def series(journal: Journal, number: int, metric: str) -> list[tuple[int, float]]:
    """A metric of a trial over its rounds, where it is known and finite."""
    lines = journal.lines(number)
    known = [(line["round"], line[metric]) for line in lines if line.get(metric) is not None]
    return [(place, value) for place, value in known if math.isfinite(value)]


def complaints(journal: Journal, sweep: Sweep) -> list[str]:
    """A sentence for each objective that no trial has logged though one has logged something."""
    logged = {name for number in journal.trials for line in journal.lines(number) for name in line}
    found = []
    for metric in (objective.metric for objective in sweep.objectives):
        if logged and metric not in logged:
            near = difflib.get_close_matches(metric, sorted(logged), n=3)
            known = f"did you mean {' or '.join(near)}?" if near else f"logged: {sorted(logged)}"
            found.append(f"objectives: no trial has logged {metric}; {known}")
    return found


def write(journal: Journal, sweep: Sweep, base: Config) -> list[Row]:
    """Write all tables into the sweep's folder; the rows."""
    found = rows(journal, sweep)
    _write_tables([row.flat() for row in found], journal.folder)
    winner = best(found, sweep)
    if winner is not None:
        (journal.folder / BEST).write_text(best_text(winner, sweep, base))
    return found


def best_text(winner: Row, sweep: Sweep, base: Config) -> str:
    """The winner's whole config as YAML, with a word on where it comes from."""
    config = replace(trial_config(base, sweep, winner.settings), name=None)
    objective = sweep.objectives[0]
    lines = [
        f"# Trial {winner.number} of a sweep over {', '.join(sweep.search)}:",
        f"# {objective.metric} {winner.values[objective.metric]:.4g} after {winner.rounds} rounds"
        f" ({winner.status}; {objective.mode} of {sweep.searcher}, {sweep.scheduler}).",
        "#",
        "#   python launch/train.py best.yaml",
    ]
    if sweep.scheduler == "pbt":
        lines.append("# Its settings changed on the way: these are the last; perturbations.jsonl.")
    return "\n".join([*lines, config_text(config)])


def write_hparams(found: Sequence[Row], folder: Path) -> None:
    """TensorBoard's HParams page, where TensorBoard is installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return
    for row in found:
        settings = {key: _plain(value) for key, value in row.settings.items()}
        name = f"{row.number:04d}"
        if (folder / HPARAMS / name).exists() or not row.values:
            continue
        with SummaryWriter(str(folder / HPARAMS)) as writer:
            writer.add_hparams(settings, row.values, run_name=name)


def _row(journal: Journal, sweep: Sweep, number: int) -> Row:
    trial, values, peaks = journal.trials[number], {}, {}
    for objective in sweep.objectives:
        known = [value for _, value in series(journal, number, objective.metric)]
        if known:
            values[objective.metric] = known[-1]
            peaks[objective.metric] = max(known, key=objective.better)
    lines = journal.lines(number)
    rounds = lines[-1]["round"] if lines else 0
    return Row(
        number,
        trial.settings,
        trial.status,
        trial.reason,
        rounds,
        trial.seconds,
        values,
        peaks,
    )


def _write_tables(table: Sequence[Mapping[str, Any]], folder: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    names = list(dict.fromkeys(name for row in table for name in row))
    columns = {name: _column([row.get(name) for row in table]) for name in names}
    pyarrow.parquet.write_table(pyarrow.table(columns), folder / PARQUET)
    with (folder / CSV).open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(names)
        writer.writerows([[row.get(name) for name in names] for row in table])


def _column(values: list[Any]) -> list[Any]:
    """Values of one type: numbers stay numbers, a mixture becomes text."""
    present = [value for value in values if value is not None]
    if all(isinstance(value, bool) for value in present):
        return values
    if all(isinstance(value, int) and not isinstance(value, bool) for value in present):
        return values
    if all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in present):
        return [None if value is None else float(value) for value in values]
    return [None if value is None else str(value) for value in values]


def _plain(value: Any) -> Any:
    return value if isinstance(value, (bool, int, float, str)) else str(value)
