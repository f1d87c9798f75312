"""The sizes that the benchmarks of the networks share, as options."""

from __future__ import annotations

import argparse
from pathlib import Path

SIZES = {
    "batch": (8, "images"),
    "words": (9703, "vocabulary"),
    "max-length": (16, "words a caption, at most"),
    "mean-length": (12, "words a caption, about, before the cut at max-length"),
    "rollouts": (5, "completions a prefix"),
    "regions": (49, "regions an image"),
    "features": (2048, "numbers a region"),
    "embedding": (300, "numbers a word"),
    "hidden": (512, "of the LSTM"),
    "attention": (512, "of the attention's scores"),
    "repeat": (3, "the best of so many is reported"),
}


def add_sizes(parser: argparse.ArgumentParser) -> None:
    """The sizes, and where and how the benchmark runs."""
    for name, (default, what) in SIZES.items():
        parser.add_argument(f"--{name}", type=int, default=default, help=f"{what} ({default})")
    parser.add_argument("--chunk-rows", type=int, help="rows decoded at once (as memory allows)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (cpu)")
    parser.add_argument("--threads", type=int, help="CPU threads (torch's choice)")
    add_json(parser)


PRINTED = Path("-")


def add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--json",
        type=Path,
        nargs="?",
        const=PRINTED,
        metavar="FILE",
        help="write the numbers to this file too; without FILE print them as one object",
    )
