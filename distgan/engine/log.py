"""What a run says: TensorBoard, `metrics.jsonl`, a progress bar on a terminal, plain lines else.

Only the writer (rank 0) says anything; on other ranks every method does nothing. Numbers arrive
reduced, as Python floats: nothing here talks to a device or to another rank.
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from distgan.config import LogConfig

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHOWN = 3  # values of each group on a line of progress: the first ones
TIMES = "seconds"  # the group that is not shown: the line tells the time that is left


class Log:
    """The voice of one run. Rounds are counted over the whole run, from 1.

    `resume_round` is the last round that counts: whatever an interrupted run wrote of later
    rounds is dropped, so that nothing is logged twice.
    """

    def __init__(
        self,
        folder: str | Path,
        config: LogConfig,
        total_rounds: int,
        is_writer: bool,
        resume_round: int = 0,
    ) -> None:
        self.folder = Path(folder)
        self.total_rounds = total_rounds
        self.is_writer = is_writer
        self._started, self._start_round = time.monotonic(), resume_round
        self._lines: Any = None
        self._events: Any = None
        self._bar: Any = None
        if not is_writer:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        self._bar = _progress_bar(total_rounds, resume_round)
        self._lines = _open_cut(self.folder / "metrics.jsonl", resume_round)
        if config.tensorboard:
            self._events = self._open_events(resume_round)

    def round(self, stage: str, round: int, update: int, values: Mapping[str, float]) -> None:
        """Record the numbers of one round, named GROUP/NAME; the first of each group are shown."""
        if not self.is_writer:
            return
        line = {"stage": stage, "round": round, "update": update}
        line |= {name: value if math.isfinite(value) else None for name, value in values.items()}
        self._lines.write(json.dumps(line) + "\n")
        self._lines.flush()
        if self._events is not None:
            for name, value in values.items():
                self._events.add_scalar(name, value, round)
        self._show(stage, round, values)

    def figure(self, name: str, picture: Figure | np.ndarray, step: int) -> Path | None:
        """Keep a picture in TensorBoard and as `pictures/NAME-STEP.png`; where it was written.

        An array is (H, W, 3 or 4), uint8 or floats in [0, 1].
        """
        if not self.is_writer:
            return None
        from PIL import Image

        pixels = _pixels(picture)
        path = self.folder / "pictures" / f"{name.replace('/', '-')}-{step:07d}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(pixels).save(path)
        if self._events is not None:
            self._events.add_image(name, pixels[..., :3], step, dataformats="HWC")
        return path

    def text(self, name: str, text: str, step: int) -> None:
        """Keep a text (Markdown) in TensorBoard."""
        if self._events is not None:
            self._events.add_text(name, text, step)

    def say(self, line: str) -> None:
        """Print a line, above the progress bar where there is one."""
        if not self.is_writer:
            return
        if self._bar is not None:
            self._bar.write(line)
        else:
            print(line, flush=True)

    def close(self) -> None:
        """Write what is pending and let go of the files. Calling it twice is harmless."""
        for resource in (self._bar, self._lines, self._events):
            if resource is not None:
                resource.close()
        self._bar = self._events = None

    def _open_events(self, resume_round: int) -> Any:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:  # a bare GPU machine has torch and little else
            self.say("tensorboard is not installed: metrics.jsonl is all that is written")
            return None
        return SummaryWriter(str(self.folder), purge_step=resume_round + 1)

    def _show(self, stage: str, round: int, values: Mapping[str, float]) -> None:
        shown = _summary(values)
        if self._bar is not None:
            self._bar.set_description_str(stage, refresh=False)
            self._bar.set_postfix_str(shown, refresh=False)
            self._bar.update(round - self._bar.n)
            return
        done = max(round - self._start_round, 1)
        left = (time.monotonic() - self._started) / done * (self.total_rounds - round)
        line = f"{stage} {round}/{self.total_rounds}  {shown}  {_clock(left)} left"
        print(line, flush=True)


def _summary(values: Mapping[str, float]) -> str:
    """`generator loss 1.2 mle 1.1  discriminator loss 0.6`"""
    groups: dict[str, list[str]] = {}
    for name, value in values.items():
        group, _, last = name.rpartition("/")
        groups.setdefault(group, []).append(f"{last} {value:.4g}")
    return "  ".join(
        " ".join([group, *parts[:SHOWN]]).strip()
        for group, parts in groups.items()
        if group != TIMES
    )


def _progress_bar(total: int, initial: int) -> Any:
    """A tqdm bar if a person is watching, else None."""
    if not sys.stderr.isatty():
        return None
    try:
        from tqdm import tqdm
    except ImportError:
        return None
    return tqdm(total=total, initial=initial, unit="round", dynamic_ncols=True)


def _open_cut(path: Path, last_round: int) -> Any:
    """Open a file of JSON lines for appending, without the lines after `last_round`.

    The file is always written anew: a superseded writer that still holds the old one goes on
    writing to a file that has no name any more.
    """
    kept = []
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
            # A line without its end was being written when the run was killed.
            if line.endswith("\n") and json.loads(line)["round"] <= last_round:
                kept.append(line)
    fresh = path.with_suffix(".jsonl.new")
    fresh.write_text("".join(kept), encoding="utf-8")
    os.replace(fresh, path)
    return path.open("a", encoding="utf-8")


def _pixels(picture: Figure | np.ndarray) -> np.ndarray:
    """A picture as (H, W, 3 or 4) uint8."""
    if not isinstance(picture, np.ndarray):
        from matplotlib.backends.backend_agg import FigureCanvasAgg

        canvas = FigureCanvasAgg(picture)
        canvas.draw()
        return np.array(canvas.buffer_rgba())
    if picture.dtype != np.uint8:
        picture = (picture.clip(0, 1) * 255).round().astype(np.uint8)
    return picture


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}"
