"""A dataset's statistics as one picture."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Mapping

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import (
    FuncFormatter,
    LogLocator,
    MaxNLocator,
    NullFormatter,
    PercentFormatter,
)

from distgan.data.statistics import Statistics

INK, QUIET, GRID = "#22252a", "#6b7280", "#e5e7eb"
PALETTE = ("#4b6a9b", "#d1663f", "#4f9d69", "#8e5ea2", "#c9a227", "#3aa0a8", "#b04a6f")
_LONGEST = 0.995  # quantile of lengths where histograms end
_FEWEST_DOTS, _CLEAR = 300, 0.55  # dots beyond which they become more transparent
_ROOM_FOR_LABEL = 0.04  # of a bar
_LIGHT = 1.6  # red, green and blue together, above which ink shows better than white


def draw(statistics: Statistics) -> bytes:
    """A PNG with counts, caption lengths, captions per image, words, image and file sizes."""
    figure = Figure(figsize=(15, 8.6), dpi=110, facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, 3)
    colours = {s: PALETTE[n % len(PALETTE)] for n, s in enumerate(statistics.styles)}
    _counts(axes[0, 0], statistics, colours)
    _lengths(axes[0, 1], statistics, colours)
    _per_image(axes[0, 2], statistics)
    _words(axes[1, 0], statistics)
    _sizes(axes[1, 1], statistics)
    _files(axes[1, 2], statistics)
    images = sum(split.images for split in statistics.splits)
    figure.suptitle(
        f"{statistics.path}: {images:,} images", x=0.012, ha="left", color=INK, fontsize=14
    )
    figure.tight_layout(rect=(0, 0, 1, 0.97), w_pad=2.5, h_pad=2.5)
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()


def _plain(axes: Axes, title: str, x: str, y: str = "") -> None:
    axes.set_title(title, loc="left", color=INK, fontsize=11.5, pad=10)
    axes.set_xlabel(x, color=QUIET)
    axes.set_ylabel(y, color=QUIET)
    axes.tick_params(which="both", colors=QUIET, length=0)
    axes.grid(True, color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    for side in axes.spines.values():
        side.set_visible(False)


def _counts(axes: Axes, s: Statistics, colours: Mapping[str, str]) -> None:
    """Bars of each split: its images, and its captions by style; and the lines of text."""
    names: list[str] = []
    place = 0.0
    ticks = []
    most = 1
    for name, bars in _bars(s):
        start = place
        for what, count in bars:
            axes.barh(place, count, height=0.8, color=colours.get(what, "#9aa3b2"))
            axes.annotate(
                f" {count:,} {what}", (count, place), va="center", fontsize=8.5, color=INK
            )
            most = max(most, count)
            place += 1
        ticks.append((start + place - 1) / 2)
        names.append(name)
        place += 0.7
    _plain(axes, "Images and captions", "")
    axes.set_xscale("log")
    axes.set_xlim(0.8, most**1.45 * 4)
    axes.set_yticks(ticks, names)
    axes.invert_yaxis()
    axes.grid(False, axis="y")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _short(value)))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _bars(s: Statistics) -> list[tuple[str, list[tuple[str, int]]]]:
    bars = []
    for split in s.splits:
        styles = [(style, len(lengths)) for style, lengths in split.lengths.items()]
        bars.append((split.name, [("images", split.images), *styles]))
    lines = [(style, len(lengths)) for style, lengths in s.texts.items()]
    return [*bars, ("text", lines)] if lines else bars


def _lengths(axes: Axes, s: Statistics, colours: Mapping[str, str]) -> None:
    """Shares of caption lengths, a line a style, over all splits and lines of text."""
    by_style: dict[str, list[np.ndarray]] = {}
    for split in s.splits:
        for style, lengths in split.lengths.items():
            by_style.setdefault(style, []).append(lengths)
    for style, lengths in s.texts.items():
        by_style.setdefault(style, []).append(lengths)
    _plain(axes, "Words of a caption", "words", "share of the captions")
    everything = np.concatenate([x for parts in by_style.values() for x in parts] or [np.zeros(1)])
    end = int(np.quantile(everything, _LONGEST)) + 2
    for style in (style for style in s.styles if style in by_style):
        values = np.concatenate(by_style[style])
        counts = np.bincount(np.minimum(values, end), minlength=end + 1)
        label = f"{style}: median {np.median(values):g}, longest {values.max()}"
        axes.stairs(
            counts / counts.sum(),
            np.arange(end + 2) - 0.5,
            color=colours[style],
            lw=1.8,
            label=label,
        )
        axes.stairs(
            counts / counts.sum(),
            np.arange(end + 2) - 0.5,
            color=colours[style],
            fill=True,
            alpha=0.12,
        )
    axes.set_xlim(-0.5, end + 0.5)
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if by_style:
        axes.set_ylim(0, axes.get_ylim()[1] * 1.25)
        axes.legend(frameon=False, fontsize=8.5, labelcolor=INK, loc="upper right")


def _per_image(axes: Axes, s: Statistics) -> None:
    """A bar for each split, cut into the shares of its images with so many captions."""
    _plain(axes, "Captions of an image", "share of the images")
    counts = [Counter(split.captions_per_image.tolist()) for split in s.splits]
    numbers = sorted({number for count in counts for number in count})
    shades = colormaps["YlGnBu"](np.linspace(0.15, 0.85, len(numbers)))
    for place, (split, count) in enumerate(zip(s.splits, counts, strict=True)):
        left = 0.0
        for number, shade in zip(numbers, shades, strict=True):
            share = count[number] / max(1, split.images)
            axes.barh(place, share, 0.62, left, color=shade, edgecolor="white", linewidth=1)
            if share > _ROOM_FOR_LABEL:
                ink = INK if sum(shade[:3]) > _LIGHT else "white"
                axes.annotate(
                    str(number), (left + share / 2, place), ha="center", va="center", color=ink
                )
            left += share
    axes.set_yticks(range(len(s.splits)), [split.name for split in s.splits])
    axes.set_xlim(0, 1)
    axes.invert_yaxis()
    axes.grid(False, axis="y")
    axes.xaxis.set_major_formatter(PercentFormatter(1))


def _words(axes: Axes, s: Statistics) -> None:
    """How often the word of each rank occurs, and what the words up to it cover."""
    _plain(axes, "Words of the training text", "word, by rank", "times it occurs")
    if not len(s.frequencies):
        return
    ranks = np.arange(1, len(s.frequencies) + 1)
    axes.loglog(ranks, s.frequencies, color=PALETTE[0], lw=2)
    axes.tick_params(axis="y", colors=PALETTE[0])
    shares = axes.twinx()
    shares.semilogx(ranks, s.coverage, color=PALETTE[1], lw=2)
    shares.set_ylim(0, 1.02)
    shares.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    shares.set_ylabel("of the text is these words", color=PALETTE[1])
    shares.tick_params(which="both", colors=PALETTE[1], length=0)
    for side in shares.spines.values():
        side.set_visible(False)
    shares.axvline(s.vocabulary, color=QUIET, lw=1, ls=(0, (4, 3)))
    shares.annotate(
        f"vocabulary: {s.vocabulary:,} ",
        (s.vocabulary, 0.04),
        ha="right",
        fontsize=8.5,
        color=INK,
    )
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _short(value)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _short(value)))


def _sizes(axes: Axes, s: Statistics) -> None:
    """Width against height, a dot an image."""
    _plain(axes, f"Sizes of {len(s.sizes):,} images", "width in pixels", "height in pixels")
    if not s.sizes:
        return
    kinds = [kind for kind, _ in Counter(size.kind for size in s.sizes).most_common()]
    alpha = min(_CLEAR, max(0.06, _CLEAR * _FEWEST_DOTS / len(s.sizes)))
    for n, kind in enumerate(kinds):
        of_kind = np.array([size[:2] for size in s.sizes if size.kind == kind])
        colour = PALETTE[n % len(PALETTE)]
        axes.scatter(of_kind[:, 0], of_kind[:, 1], s=22, color=colour, alpha=alpha, linewidths=0)
        axes.scatter([], [], s=22, color=colour, label=f"{kind}: {len(of_kind):,}")
    every = np.array([size[:2] for size in s.sizes])
    low, high = every.min() * 0.7, every.max() * 1.45
    axes.plot([low, high], [low, high], color=QUIET, lw=0.8, ls=(0, (4, 3)), zorder=0)
    axes.set_xlim(low, high)
    axes.set_ylim(low, high)
    axes.set_xscale("log")
    axes.set_yscale("log")
    for axis in (axes.xaxis, axes.yaxis):
        _log_ticks(axis)
    axes.legend(frameon=False, fontsize=8.5, labelcolor=INK, loc="upper left")


def _files(axes: Axes, s: Statistics) -> None:
    """A histogram of the images' file sizes."""
    sizes = s.file_sizes / 1024
    _plain(axes, "Size of an image file", "KiB", "images")
    edges = np.geomspace(max(sizes.min(), 0.01) * 0.95, sizes.max() * 1.05, 41)
    axes.hist(sizes, edges.tolist(), color=PALETTE[0], alpha=0.85)
    axes.set_xscale("log")
    axes.set_ylim(0, axes.get_ylim()[1] * 1.12)
    middle = float(np.median(sizes))
    axes.axvline(middle, color=PALETTE[1], lw=1.5)
    axes.annotate(
        f" median {middle:,.3g} KiB",
        (middle, axes.get_ylim()[1] * 0.985),
        fontsize=8.5,
        color=INK,
        va="top",
    )
    _log_ticks(axes.xaxis)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))


def _log_ticks(axis: Axis) -> None:
    """Ticks at 1, 2 and 5 times the powers of ten."""
    axis.set_major_locator(LogLocator(10, subs=(1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: _short(value)))
    axis.set_minor_formatter(NullFormatter())


def _short(value: float) -> str:
    """1000000 as 1M, 2000 as 2k."""
    for unit, name in ((1e6, "M"), (1e3, "k")):
        if value >= unit:
            return f"{value / unit:g}{name}"
    return f"{value:g}"
