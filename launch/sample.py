"""Caption images with a trained run.

examples:
  python launch/sample.py runs/first photo.jpg other.png --style positive
  python launch/sample.py runs/first photo.jpg --temperature 1 --seed 3
  python launch/sample.py runs/first photos/*.jpg --beam 3 --out captions.png
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

import distgan
from distgan.data.damage import UnreadableImage
from distgan.data.images import decode
from distgan.metrics.evaluation import Decoding
from distgan.metrics.pictures import SheetCaption, SheetRow, caption_sheet

DRAWN = 224  # pixels of an image on the sheet


def main(words: Sequence[str]) -> int:
    """Caption as the command line says; the exit code."""
    arguments = parse(words)
    try:
        sample(arguments)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def parse(words: Sequence[str]) -> argparse.Namespace:
    summary, _, rest = str(__doc__).partition("\n\n")
    parser = argparse.ArgumentParser(
        usage="python launch/sample.py RUN IMAGE ... [options]",
        description=summary,
        epilog=rest,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("run", type=Path, help="a run's folder, or a checkpoint")
    add("images", nargs="+", type=Path, metavar="IMAGE", help="image files")
    add("--style", help="a style of the run")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--greedy", action="store_true", help="the likeliest word each time (default)")
    how.add_argument("--temperature", type=float, metavar="T", help="sample at this temperature")
    how.add_argument("--beam", type=int, metavar="K", help="beam search that keeps K captions")
    add("--seed", type=int, default=0, help="of sampling (default: 0)")
    add("--out", type=Path, metavar="PICTURE", help="draw images and captions, too")
    return parser.parse_intermixed_args(words)


def sample(arguments: argparse.Namespace) -> None:
    """Print one caption an image, and draw them if asked to."""
    decoding = Decoding.chosen(arguments.temperature, arguments.beam, arguments.seed)
    captioner = distgan.load(arguments.run)
    size = captioner.config.data.image_size
    captions = captioner.caption(
        torch.stack([read(path, size) for path in arguments.images]),
        style=arguments.style,
        decode=decoding.decode,
        temperature=decoding.temperature,
        beam=decoding.beam,
        seed=decoding.seed,
    )
    for path, caption in zip(arguments.images, captions, strict=True):
        print(f"{path}\t{caption}")
    if arguments.out is not None:
        draw(arguments, captions)
        print(arguments.out)


def read(path: Path, size: int) -> Tensor:
    """The image, (3, size, size) uint8; a ValueError that names the file if it is none."""
    if not path.is_file():
        raise ValueError(f"image {path} does not exist")
    try:
        return decode(path.read_bytes(), size)
    except UnreadableImage as error:
        raise ValueError(f"image {path}: {error}") from error


def draw(arguments: argparse.Namespace, captions: Sequence[str]) -> None:
    rows = []
    for path, caption in zip(arguments.images, captions, strict=True):
        pixels = read(path, DRAWN).permute(1, 2, 0).numpy()
        said = SheetCaption(arguments.style or "caption", caption.split())
        rows.append(SheetRow(pixels, [said], path.name))
    caption_sheet(rows).savefig(arguments.out)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
