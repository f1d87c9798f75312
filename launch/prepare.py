"""Makes datasets: shards, index and manifest, from what users have. Start with `prepare.py -h`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

from tqdm import tqdm

from distgan.data.importers.flickr import Flickr, FlickrOptions, StyleFiles
from distgan.data.importers.folder import FolderOfImages, FolderOptions
from distgan.data.importers.shapes import Shapes, ShapesOptions
from distgan.data.manifest import MANIFEST, parse_manifest
from distgan.data.shards import Importer, WriteOptions, index_dataset, write_dataset
from distgan.data.verify import summary, verify

EXAMPLES = """\
examples:
  prepare.py shapes --out data/shapes
  prepare.py flickr --images Flickr8k/Images --captions Flickr8k/captions.txt \\
      --style humorous funny_train.txt train_fu.p --out data/flickr8k
  prepare.py folder my_images --out data/mine
  prepare.py index downloaded_shards
  prepare.py verify data/shapes
"""

SHAPES_HELP = {
    "images": "pictures with factual captions to train on",
    "size": "width and height of a picture in pixels, 32 to 256",
    "styled": "pairs of a picture and a styled caption, for each style",
    "lines": "lines of styled text without pictures, for each style",
    "unlabelled": "pictures without captions",
    "val": "pictures of the split `val`",
    "test": "pictures of the split `test`",
    "wrong": "share of the training captions that are false, 0 to 1",
    "noisy": "share of the pictures with a noisy background, 0 to 1",
    "unseen": "share of val, test and unlabelled pictures with a look never trained on",
    "captions": "factual captions of a picture, 1 to 5",
    "seed": "another seed makes another dataset",
}


def main(words: list[str] | None = None) -> int:
    """Returns the exit status: 0 done, 1 damage found, 2 a mistake in what was asked for."""
    arguments = _parser().parse_args(words)
    try:
        return arguments.command(arguments)
    except (ValueError, OSError) as error:
        print(f"prepare.py: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nprepare.py: stopped; the same command goes on from here", file=sys.stderr)
        return 130


def _shapes(arguments: argparse.Namespace) -> int:
    chosen = {field.name: vars(arguments)[field.name] for field in fields(ShapesOptions)}
    importer = Shapes(ShapesOptions(**chosen))
    importer.splits = tuple(split for split in importer.splits if importer.num_samples(split))
    return _write(importer, {"name": "shapes", "options": chosen}, arguments)


def _flickr(arguments: argparse.Namespace) -> int:
    styles = tuple(
        StyleFiles(style, Path(lines), Path(names)) for style, lines, names in arguments.style
    )
    options = FlickrOptions(
        images=arguments.images,
        captions=arguments.captions,
        styles=styles,
        fractions=tuple(arguments.fractions),
        pairs=arguments.pairs,
    )
    importer = Flickr(options)
    return _write(importer, importer.source, arguments, importer.report.text())


def _folder(arguments: argparse.Namespace) -> int:
    options = FolderOptions(
        images=arguments.images,
        captions=arguments.captions,
        fractions=tuple(arguments.fractions),
        unlabelled=arguments.unlabelled,
    )
    importer = FolderOfImages(options)
    return _write(importer, importer.source, arguments, importer.report.text())


def _write(
    importer: Importer,
    source: dict[str, Any],
    arguments: argparse.Namespace,
    report: list[str] | None = None,
) -> int:
    options = WriteOptions(
        shard_samples=arguments.shard_samples,
        min_count=arguments.min_count,
        max_words=arguments.max_words,
        jobs=arguments.jobs,
    )
    out: Path = arguments.out
    out.parent.mkdir(parents=True, exist_ok=True)
    for line in report or []:
        print(line)
    with Bar("samples") as bar:
        written = write_dataset(importer, source, out, options, bar.show)
    if not written:
        print(f"already prepared: {out}")
        return 0
    print(f"prepared {out}")
    print(summary(parse_manifest((out / MANIFEST).read_text("utf-8"), str(out))))
    return 0


def _index(arguments: argparse.Namespace) -> int:
    root: Path = arguments.folder
    if not root.is_dir():
        raise ValueError(f"folder {root} does not exist")
    manifest = index_dataset(root, min_count=arguments.min_count, max_words=arguments.max_words)
    print(f"indexed {root}")
    print(summary(manifest))
    return 0


def _verify(arguments: argparse.Namespace) -> int:
    root: Path = arguments.folder
    with Bar("shards") as bar:
        problems = verify(root, contents=arguments.contents, progress=bar.show)
    for problem in problems[: arguments.show]:
        print(problem)
    if len(problems) > arguments.show:
        print(f"... and {len(problems) - arguments.show} more (--show says how many to print)")
    if problems:
        print(f"{root}: {len(problems)} problems")
        return 1
    print(f"{root}: every byte is as it was written")
    print(summary(parse_manifest((root / MANIFEST).read_text("utf-8"), str(root))))
    return 0


class Bar:
    """A progress bar on a terminal, a line for each tenth of the work elsewhere."""

    def __init__(self, unit: str) -> None:
        self.unit = unit
        self._bar: tqdm[Any] | None = None
        self._tenth = 0

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def show(self, done: int, total: int) -> None:
        if sys.stderr.isatty():
            if self._bar is None:
                self._bar = tqdm(total=total, unit=f" {self.unit}", leave=False)
            self._bar.update(done - self._bar.n)
        elif total and done * 10 // total > self._tenth:
            self._tenth = done * 10 // total
            print(f"  {done:,} of {total:,} {self.unit}", flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="prepare.py",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="SOURCE")
    _add_shapes(_command(commands, "shapes", _shapes, "the made-up world of coloured shapes"))
    _add_flickr(
        _command(commands, "flickr", _flickr, "Flickr8k or Flickr30k, with FlickrStyle10K or not")
    )
    _add_folder(_command(commands, "folder", _folder, "a folder of images with captions"))
    index = _command(commands, "index", _index, "foreign WebDataset shards, indexed in place")
    index.add_argument("folder", type=Path, help="holds SPLIT-*.tar of KEY.jpg and KEY.json|txt")
    _add_vocabulary(index)
    check = _command(commands, "verify", _verify, "check every byte of a dataset")
    check.add_argument("folder", type=Path, help="a dataset, or foreign shards once indexed")
    check.add_argument(
        "--contents", action="store_true", help="also decode every image, look at every caption"
    )
    check.add_argument("--show", type=int, default=20, help="problems to print (default: 20)")
    return parser


def _command(
    commands: Any, name: str, run: Callable[[argparse.Namespace], int], what: str
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=what,
        description=what,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.set_defaults(command=run)
    return parser


def _add_shapes(parser: argparse.ArgumentParser) -> None:
    for field in fields(ShapesOptions):
        kind = type(field.default)
        parser.add_argument(
            f"--{field.name}", type=kind, default=field.default, help=SHAPES_HELP[field.name]
        )
    _add_writing(parser)


def _add_flickr(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--images", type=Path, required=True, help="the folder of photographs")
    parser.add_argument(
        "--captions", type=Path, required=True, help="captions.txt, results.csv or .token"
    )
    parser.add_argument(
        "--style",
        nargs=3,
        action="append",
        default=[],
        metavar=("NAME", "LINES", "NAMES"),
        help="a style, its captions (one a line) and the pickled list of their images",
    )
    parser.add_argument(
        "--pairs",
        type=int,
        help="keep so many styled pairs a style in train, the rest as text (default: all)",
    )
    _add_fractions(parser)
    _add_writing(parser)


def _add_folder(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("images", type=Path, help="the folder of images")
    parser.add_argument(
        "--captions",
        type=Path,
        help="a .csv (image,caption[,style][,split]) or .jsonl; by default captions.csv or "
        "captions.jsonl in the folder, else a .txt beside each image",
    )
    parser.add_argument("--unlabelled", action="store_true", help="keep images without captions")
    _add_fractions(parser)
    _add_writing(parser)


def _add_fractions(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--fractions",
        nargs=3,
        type=float,
        default=[0.8, 0.1, 0.1],
        metavar=("TRAIN", "VAL", "TEST"),
        help="shares of the splits; each image's is fixed by a hash of its name",
    )


def _add_writing(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, required=True, help="the dataset's folder")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--shard-samples", type=int, default=1000, help="samples of a shard")
    _add_vocabulary(parser)


def _add_vocabulary(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--min-count", type=int, default=1, help="occurrences a word needs to join the vocabulary"
    )
    parser.add_argument("--max-words", type=int, help="words of the vocabulary (default: no limit)")


if __name__ == "__main__":
    sys.exit(main())
