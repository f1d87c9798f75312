"""Pictures a person looks at: captions beside their images, and the reward of every word.

Functions of plain arrays and strings: no network is needed to draw. Figures are made without
pyplot, so nothing global changes and no display is asked for.
T words of a caption, END included where it was written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from PIL import Image

GREEN, RED, GREY = "#2b7a3d", "#b3372f", "#555555"
BLUE, ORANGE = "#1f4e79", "#d08a1d"
REWARDS = matplotlib.colormaps["RdYlGn"]

# A caption sheet, in inches.
MARGIN, IMAGE, INDENT = 0.15, 1.9, 2.3  # INDENT: where the captions begin
TILE, GAP = 0.78, 0.06  # a word's overlay, and the space between two
LINE = 0.24  # a line of text
FOG, FOG_SHARE = 128, 0.7  # its grey level, and how much of the image it hides


@dataclass(frozen=True)
class SheetCaption:
    """One model's caption of one image.

    `attention` (T, h, w) is non-negative, one map a word; `rewards` (T,) goes below the words.
    """

    model: str
    words: Sequence[str]
    attention: np.ndarray | None = None
    rewards: np.ndarray | None = None
    note: str = ""  # behind the caption: its style, whether it is true

    def __post_init__(self) -> None:
        for name, values in (("attention", self.attention), ("rewards", self.rewards)):
            if values is not None and len(values) < len(self.words):
                raise ValueError(f"{name} of {len(values)} words for {len(self.words)} words")


@dataclass(frozen=True)
class SheetRow:
    """An image (H, W, 3) uint8 and what the models, and people, say of it."""

    image: np.ndarray
    captions: Sequence[SheetCaption]
    title: str = ""
    references: Sequence[str] = ()


def caption_sheet(rows: Sequence[SheetRow]) -> Figure:
    """Images with every model's caption; per word the image, lit where the model looked.

    Below a word stands its reward, on a scale from the least (red) to the greatest (green) of
    the same model's rewards on this sheet.
    """
    if not rows:
        raise ValueError("a sheet of captions needs one image or more")
    longest = max((len(c.words) for row in rows for c in row.captions), default=0)
    width = INDENT + max(longest, 6) * (TILE + GAP) + MARGIN
    page = _Page(width, sum(_height(row) for row in rows) + MARGIN)
    scales = _reward_scales(rows)
    name = max((len(c.model) for row in rows for c in row.captions), default=0)
    y = MARGIN
    for row in rows:
        _draw_row(page, row, y, scales, said_at=INDENT + 0.085 * name + 0.15)
        y += _height(row)
    return page.figure


def word_rewards(
    words: Sequence[str],
    q: np.ndarray,
    baseline: np.ndarray,
    advantage: np.ndarray,
    title: str = "",
) -> Figure:
    """Q_t and its baseline over a sampled caption, and the advantage A_t of every word, (T,) each.

    Give the advantages as they entered the loss: whitened, if they were.
    """
    if not len(words) == len(q) == len(baseline) == len(advantage):
        raise ValueError(
            f"{len(words)} words need as many numbers each, got q {len(q)}, "
            f"baseline {len(baseline)}, advantage {len(advantage)}"
        )
    figure = Figure(figsize=(max(5.0, 1.6 + 0.75 * len(words)), 4.4), dpi=110, layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    at = np.arange(len(words))
    upper.plot(at, q, "o-", color=BLUE, label="Q, mean reward of the completions")
    upper.plot(at, baseline, "s--", color=ORANGE, label="baseline")
    upper.set_ylabel("reward")
    upper.margins(y=0.15)
    figure.legend(loc="outside upper right", ncols=2, fontsize=8, frameon=False)
    figure.suptitle(title or " ".join(words), fontsize=10, x=0.01, ha="left", parse_math=False)
    lower.bar(at, advantage, color=np.where(np.asarray(advantage) >= 0, GREEN, RED), width=0.7)
    lower.axhline(0, color=GREY, linewidth=0.8)
    lower.set_ylabel("advantage")
    turn = 0 if max(map(len, words), default=0) < 9 else 30
    lower.set_xticks(at, words, rotation=turn, parse_math=False)
    for axes in (upper, lower):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="#dddddd", linewidth=0.6)
        axes.set_axisbelow(True)
    return figure


def lit(image: np.ndarray, attention: np.ndarray) -> np.ndarray:
    """The image (H, W, 3) uint8, in grey fog where nobody looks: attention (h, w) of any scale.

    The map is stretched smoothly over the image, from its least value to its greatest; an even
    one leaves the image as it is.
    """
    height, width = image.shape[:2]
    weight = np.asarray(attention, dtype=np.float32)
    spread = float(weight.max() - weight.min())
    weight = (weight - weight.min()) / spread if spread > 0 else np.ones_like(weight)
    smooth = Image.fromarray(weight).resize((width, height), Image.Resampling.BICUBIC)
    clear = np.clip(np.asarray(smooth), 0, 1)[..., None]
    fog = FOG + (1 - FOG_SHARE) * (image.mean(axis=2, keepdims=True) - FOG)
    return (clear * image + (1 - clear) * fog).round().astype(np.uint8)


class _Page:
    """A figure that is drawn on in inches, from its upper left corner."""

    def __init__(self, width: float, height: float) -> None:
        self.figure = Figure(figsize=(width, height), dpi=110)
        self.width, self.height = width, height

    def picture(self, x: float, y: float, side: float, pixels: np.ndarray) -> Axes:
        box = (x / self.width, 1 - (y + side) / self.height, side / self.width, side / self.height)
        axes = self.figure.add_axes(box)
        axes.imshow(pixels)
        axes.set_axis_off()
        return axes

    def text(self, x: float, y: float, text: str, size: float, **style: Any) -> None:
        """Text whose line is LINE high, its top at y."""
        middle = 1 - (y + LINE / 2) / self.height
        style = {"va": "center_baseline", "parse_math": False, **style}
        self.figure.text(x / self.width, middle, text, fontsize=size, **style)


def _height(row: SheetRow) -> float:
    said = sum(_caption_height(caption) for caption in row.captions) + LINE * len(row.references)
    return max(said, IMAGE + (LINE if row.title else 0)) + 2 * MARGIN


def _caption_height(caption: SheetCaption) -> float:
    """The caption's line, its words over their overlays, its rewards, and a little space."""
    has_words = caption.attention is not None or caption.rewards is not None
    overlay = TILE if caption.attention is not None else 0
    rewards = LINE if caption.rewards is not None else 0
    return LINE + (LINE if has_words else 0) + overlay + rewards + MARGIN / 2


def _draw_row(
    page: _Page, row: SheetRow, y: float, scales: dict[str, Normalize], said_at: float
) -> None:
    page.picture(MARGIN, y, IMAGE, row.image)
    if row.title:
        page.text(MARGIN, y + IMAGE, row.title, 8, color=GREY)
    for caption in row.captions:
        page.text(INDENT, y, caption.model, 9, weight="bold")
        page.text(said_at, y, f"{' '.join(caption.words)}    {caption.note}".rstrip(), 9)
        _draw_words(page, caption, row.image, y + LINE, scales.get(caption.model))
        y += _caption_height(caption)
    for line in row.references:
        page.text(INDENT, y, f"reference  {line}", 8, color=GREY, style="italic")
        y += LINE


def _draw_words(
    page: _Page, caption: SheetCaption, image: np.ndarray, y: float, scale: Normalize | None
) -> None:
    if caption.attention is None and caption.rewards is None:
        return
    for place, word in enumerate(caption.words):
        x, below = INDENT + place * (TILE + GAP), y + LINE
        page.text(x + TILE / 2, y, word, 8, ha="center", color=GREY)
        if caption.attention is not None:
            page.picture(x, below, TILE, lit(image, caption.attention[place]))
            below += TILE
        if caption.rewards is not None and scale is not None:
            reward = float(caption.rewards[place])
            box = {"facecolor": _colour(scale(reward)), "edgecolor": "none", "pad": 1.5}
            page.text(x + TILE / 2, below + 0.03, f"{reward:+.2f}", 7, ha="center", bbox=box)


def _colour(share: float) -> tuple[float, ...]:
    """Pale red to pale green, so that black reads well on it."""
    return tuple(0.3 + 0.7 * channel for channel in REWARDS(float(share))[:3])


def _reward_scales(rows: Sequence[SheetRow]) -> dict[str, Normalize]:
    """For each model, from its least to its greatest reward on the sheet."""
    found: dict[str, list[np.ndarray]] = {}
    for row in rows:
        for caption in row.captions:
            if caption.rewards is not None and len(caption.rewards):
                found.setdefault(caption.model, []).append(np.asarray(caption.rewards).ravel())
    together = {model: np.concatenate(rewards) for model, rewards in found.items()}
    return {model: Normalize(every.min(), every.max()) for model, every in together.items()}
