"""Pictures of a sweep: where in the space it is good, how it got there, what it trades."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from distgan.sweeps.plan import Objective
from distgan.sweeps.progress import number, short
from distgan.sweeps.results import Row

MAX_LEVELS = 12  # values of a setting that a heat map has room for
MAX_PANELS = 12
GREY, ACCENT, CURVE = "#9aa0a6", "#c2410c", "#374151"
COLOURS = {"max": colormaps["viridis"], "min": colormaps["viridis_r"]}  # yellow is good
Series = Mapping[int, Sequence[tuple[int, float]]]
"""A metric by trial number: values over rounds."""


def heat_map(rows: Sequence[Row], keys: Sequence[str], objective: Objective) -> Figure | None:
    """A metric over two settings, a panel for each combination of the others.

    Settings with the most values make the axes. A cell is the mean over its trials; the best one
    is framed. None where fewer than two settings have few enough values.
    """
    known = [row for row in rows if objective.metric in row.values]
    levels = {key: _levels(known, key) for key in keys}
    able = [key for key in keys if 2 <= len(levels[key]) <= MAX_LEVELS]
    if len(able) < 2:
        return None
    order = sorted(able, key=lambda key: -len(levels[key]))
    x, y = order[0], order[1]
    others = [key for key in able if key not in (x, y)]
    panels = _combinations(known, others)[:MAX_PANELS]
    values = [row.values[objective.metric] for row in known]
    norm = Normalize(min(values), max(values) + 1e-12)
    wide = min(len(panels), 4)
    tall = -(-len(panels) // wide)
    cell = (0.9 * len(levels[x]) + 1.1, 0.6 * len(levels[y]) + 1.2)
    figure = Figure(figsize=(max(wide * cell[0] + 1, 5), max(tall * cell[1], 2.2)))
    figure.set_layout_engine("constrained")
    axes = figure.subplots(tall, wide, squeeze=False)
    best = max(known, key=lambda row: objective.better(row.values[objective.metric]))
    for ax, panel in zip(axes.flat, panels, strict=False):
        inside = [row for row in known if _matches(row, panel)]
        _draw_cells(ax, inside, (x, levels[x]), (y, levels[y]), objective, norm, best)
        title = ", ".join(f"{short(k, list(keys))}={number(v)}" for k, v in panel.items())
        ax.set_title(title, fontsize=10)
        ax.set_xlabel(short(x, list(keys)))
        ax.set_ylabel(short(y, list(keys)))
    for ax in list(axes.flat)[len(panels) :]:
        ax.set_visible(False)
    mappable = ScalarMappable(norm, COLOURS[objective.mode])
    figure.colorbar(mappable, ax=axes.ravel().tolist(), label=objective.metric, fraction=0.03)
    return figure


def all_fit(rows: Sequence[Row], keys: Sequence[str]) -> bool:
    """Whether a heat map shows every setting."""
    return all(2 <= len(_levels(rows, key)) <= MAX_LEVELS for key in keys)


def _draw_cells(
    ax: Axes,
    rows: Sequence[Row],
    x: tuple[str, list[Any]],
    y: tuple[str, list[Any]],
    objective: Objective,
    norm: Normalize,
    best: Row,
) -> None:
    ax.set_xticks(range(len(x[1])), [number(v) for v in x[1]])
    ax.set_yticks(range(len(y[1])), [number(v) for v in y[1]])
    ax.set_xlim(-0.5, len(x[1]) - 0.5)
    ax.set_ylim(-0.5, len(y[1]) - 0.5)
    ax.set_facecolor("#eceff1")
    for column, across in enumerate(x[1]):
        for line, up in enumerate(y[1]):
            cell = [r for r in rows if r.settings[x[0]] == across and r.settings[y[0]] == up]
            if not cell:
                continue
            mean = sum(r.values[objective.metric] for r in cell) / len(cell)
            colour = COLOURS[objective.mode](norm(mean))
            frame = ACCENT if best in cell else "white"
            ax.add_patch(_square(column, line, colour, frame, 3.0 if best in cell else 1.0))
            stars = "" if all(r.status == "finished" for r in cell) else "*"
            light = 0.3 * colour[0] + 0.6 * colour[1] + 0.1 * colour[2] > 0.5
            ax.text(
                column,
                line,
                f"{mean:.3g}{stars}",
                ha="center",
                va="center",
                fontsize=9,
                color="black" if light else "white",
            )


def _square(column: int, line: int, colour: Any, frame: str, width: float) -> Any:
    from matplotlib.patches import Rectangle

    inset = 0.03
    return Rectangle(
        (column - 0.5 + inset, line - 0.5 + inset),
        1 - 2 * inset,
        1 - 2 * inset,
        facecolor=colour,
        edgecolor=frame,
        linewidth=width,
        zorder=3 if width > 1 else 2,
    )


def slices(rows: Sequence[Row], keys: Sequence[str], objective: Objective) -> Figure | None:
    """A metric over each setting alone, a point a trial."""
    known = [row for row in rows if objective.metric in row.values]
    if not known:
        return None
    figure = Figure(figsize=(min(3.2 * len(keys), 14), 3.2))
    figure.set_layout_engine("constrained")
    axes = figure.subplots(1, len(keys), squeeze=False, sharey=True)[0]
    for ax, key in zip(axes, keys, strict=True):
        scale = _Scale.of(known, key)
        for row in known:
            filled = row.status == "finished"
            ax.scatter(
                scale.place(row.settings[key]),
                row.values[objective.metric],
                s=34,
                facecolor=CURVE if filled else "none",
                edgecolor=CURVE,
                alpha=0.8,
            )
        ax.set_xlabel(short(key, list(keys)))
        ax.set_xticks(scale.ticks, scale.labels)
        ax.grid(alpha=0.25)
    axes[0].set_ylabel(objective.metric)
    return figure


def parallel(
    rows: Sequence[Row], keys: Sequence[str], objectives: Sequence[Objective]
) -> Figure | None:
    """Each trial a line over its settings and objectives, coloured by the first objective."""
    first = objectives[0]
    known = [row for row in rows if all(o.metric in row.values for o in objectives)]
    if len(known) < 2:
        return None
    names = [*keys, *(o.metric for o in objectives)]
    scales = [_Scale.of(known, name) for name in names]
    values = [row.values[first.metric] for row in known]
    norm = Normalize(min(values), max(values) + 1e-12)
    figure = Figure(figsize=(max(1.9 * len(names), 6), 3.8))
    figure.set_layout_engine("constrained")
    ax = figure.subplots()
    for row in sorted(known, key=lambda row: first.better(row.values[first.metric])):
        places = [
            scale.share(row.settings.get(name, row.values.get(name)))
            for name, scale in zip(names, scales, strict=True)
        ]
        best = row.values[first.metric] == max(values, key=first.better)
        ax.plot(
            range(len(names)),
            places,
            color=ACCENT if best else COLOURS[first.mode](norm(row.values[first.metric])),
            linewidth=3 if best else 1.6,
            alpha=1 if best else 0.75,
            linestyle="-" if row.status == "finished" else ":",
        )
    for place, scale in enumerate(scales):
        ax.axvline(place, color=GREY, linewidth=0.8, zorder=0)
        for tick, label in zip(scale.ticks, scale.labels, strict=True):
            ax.annotate(
                label,
                (place, scale.share_of_place(tick)),
                xytext=(4, 0),
                textcoords="offset points",
                fontsize=8,
                va="center",
                bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.7, "pad": 0.8},
            )
    ax.set_xticks(range(len(names)), [short(name, names) for name in names])
    ax.set_yticks([])
    ax.set_ylim(-0.08, 1.08)
    ax.set_xlim(-0.15, len(names) - 0.65)
    for side in ("top", "left", "right", "bottom"):
        ax.spines[side].set_visible(False)
    figure.colorbar(
        ScalarMappable(norm, COLOURS[first.mode]), ax=ax, label=first.metric, fraction=0.04
    )
    return figure


def curves(
    rows: Sequence[Row], objectives: Sequence[Objective], series: Mapping[str, Series]
) -> Figure | None:
    """Objectives over rounds; a cross where a trial was given up."""
    shown = [o for o in objectives if any(series[o.metric].values())]
    if not shown:
        return None
    figure = Figure(figsize=(min(5.2 * len(shown), 14), 3.6))
    figure.set_layout_engine("constrained")
    axes = figure.subplots(1, len(shown), squeeze=False)[0]
    first = objectives[0]
    last = [row.values[first.metric] for row in rows if first.metric in row.values]
    norm = Normalize(min(last, default=0), max(last, default=1) + 1e-12)
    top = max(last, key=first.better, default=math.nan)
    for ax, objective in zip(axes, shown, strict=True):
        for row in rows:
            points = series[objective.metric].get(row.number, [])
            if not points or first.metric not in row.values:
                continue
            best = row.values[first.metric] == top
            colour = ACCENT if best else COLOURS[first.mode](norm(row.values[first.metric]))
            x, y = zip(*points, strict=True)
            ax.plot(x, y, color=colour, linewidth=2.6 if best else 1.3, alpha=0.9, zorder=2 + best)
            if row.status in ("stopped", "failed"):
                ax.plot(x[-1], y[-1], "x", color=colour, markersize=8, markeredgewidth=2)
        ax.set_xlabel("round")
        ax.set_ylabel(objective.metric)
        ax.grid(alpha=0.25)
    return figure


def pareto(
    rows: Sequence[Row],
    objectives: Sequence[Objective],
    temperatures: Sequence[Mapping[str, float]],
) -> Figure | None:
    """The first objective against the second, the front, and the shared model's curve."""
    if len(objectives) < 2:
        return None
    up, across = objectives[0].metric, objectives[1].metric
    known = [row for row in rows if up in row.values and across in row.values]
    if not known:
        return None
    figure = Figure(figsize=(6.4, 4.6))
    figure.set_layout_engine("constrained")
    ax = figure.subplots()
    points = [
        (t[across], t[up], t["temperature"]) for t in temperatures if {across, up} <= t.keys()
    ]
    if points:
        x, y, _ = zip(*points, strict=True)
        ax.plot(x, y, "s--", color=GREY, markersize=5, label="shared model, by temperature")
        for px, py, label in points:
            _label(ax, px, py, f"T={label:g}", GREY)
    ahead = sorted((r for r in known if r.on_front), key=lambda r: r.values[across])
    behind = [row for row in known if not row.on_front]
    for group, colour, name in ((behind, CURVE, "trials"), (ahead, ACCENT, "nobody is better")):
        if group:
            ax.scatter(
                [r.values[across] for r in group],
                [r.values[up] for r in group],
                color=colour,
                s=42,
                label=name,
                zorder=3,
            )
    ax.plot([r.values[across] for r in ahead], [r.values[up] for r in ahead], "-", color=ACCENT)
    for row in known:
        _label(ax, row.values[across], row.values[up], str(row.number), CURVE)
    ax.set_xlabel(f"{across} ({objectives[1].mode})")
    ax.set_ylabel(f"{up} ({objectives[0].mode})")
    ax.grid(alpha=0.25)
    ax.legend(fontsize=8)
    return figure


def schedules(
    lives: Mapping[int, Sequence[tuple[int, Mapping[str, Any]]]], keys: Sequence[str], end: int
) -> Figure | None:
    """A population's settings over rounds: `lives` are (first round, settings) by trial."""
    if all(len(each) < 2 for each in lives.values()):
        return None
    figure = Figure(figsize=(min(4.2 * len(keys), 14), 3.4))
    figure.set_layout_engine("constrained")
    axes = figure.subplots(1, len(keys), squeeze=False)[0]
    colours = colormaps["tab10"]
    for ax, key in zip(axes, keys, strict=True):
        for trial, each in lives.items():
            starts = [start for start, _ in each] + [end]
            values = [settings[key] for _, settings in each]
            values = [v if isinstance(v, (int, float)) else str(v) for v in values]
            ax.step(starts, [*values, values[-1]], where="post", color=colours(trial % 10))
            ax.plot(starts[1:-1], values[1:], "o", color=colours(trial % 10), markersize=5)
        ax.set_xlabel("round")
        ax.set_title(short(key, list(keys)), fontsize=10)
        ax.grid(alpha=0.25)
    return figure


def _label(ax: Axes, x: float, y: float, text: str, colour: str) -> None:
    ax.annotate(text, (x, y), xytext=(5, 4), textcoords="offset points", fontsize=8, color=colour)


def _levels(rows: Sequence[Row], key: str) -> list[Any]:
    values = {repr(row.settings[key]): row.settings[key] for row in rows if key in row.settings}
    found = list(values.values())
    return sorted(found) if all(_is_number(v) for v in found) else sorted(found, key=str)


def _combinations(rows: Sequence[Row], keys: Sequence[str]) -> list[dict[str, Any]]:
    """What the rows have for these settings, each once, in order."""
    found = {
        repr([row.settings[key] for key in keys]): {key: row.settings[key] for key in keys}
        for row in sorted(rows, key=lambda row: str([row.settings[key] for key in keys]))
    }
    return list(found.values())


def _matches(row: Row, panel: Mapping[str, Any]) -> bool:
    return all(row.settings[key] == value for key, value in panel.items())


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


class _Scale:
    """Where a value stands on an axis: by size, by its logarithm over decades, or by name."""

    def __init__(self, values: Sequence[Any]) -> None:
        self.values = values
        numbers = all(_is_number(value) for value in values)
        self.named = not numbers or len(set(values)) < 2
        low, high = (min(values), max(values)) if numbers else (0, 0)
        self.log = not self.named and low > 0 and high / low >= 20
        self.names = sorted({str(value) for value in values})
        distinct = sorted(set(values)) if numbers else []
        self.marks: list[Any] = self.names if self.named else distinct
        if not self.named and len(distinct) > 6:
            middle = math.sqrt(low * high) if self.log else (low + high) / 2
            self.marks = [low, middle, high]
        self.ticks = [self.place(mark) for mark in self.marks]
        self.labels = [number(mark) for mark in self.marks]
        places = [self.place(value) for value in values] or [0.0]
        self.low, self.high = min(places), max(places)

    @classmethod
    def of(cls, rows: Sequence[Row], name: str) -> _Scale:
        return cls([row.settings.get(name, row.values.get(name)) for row in rows])

    def place(self, value: Any) -> float:
        if self.named:
            return float(self.names.index(str(value)))
        return math.log10(value) if self.log else float(value)

    def share(self, value: Any) -> float:
        """0 at the lowest of the values, 1 at the highest."""
        return self.share_of_place(self.place(value))

    def share_of_place(self, place: float) -> float:
        return 0.5 if self.high == self.low else (place - self.low) / (self.high - self.low)
