"""Makes datasets: shards, index and manifest, from what users have. Start with `prepare.py -h`."""

from __future__ import annotations

import argparse
import inspect
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from distgan.cluster import feature_command
from distgan.data import foreign
from distgan.data.dataset import Dataset
from distgan.data.foreign import index_dataset
from distgan.data.importers.options import add_options, options_from
from distgan.data.importers.registry import IMPORTERS, Registered
from distgan.data.layout import VocabularyOptions, WriteOptions
from distgan.data.pieces import WritePieces
from distgan.data.progress import Bar
from distgan.data.shards import write_dataset
from distgan.data.statistics import measure, table
from distgan.data.verify import summary, verify

_CPUS = os.cpu_count() or 1

EXAMPLES = """\
examples:
  prepare.py shapes --out data/shapes
  prepare.py flickr --images Flickr8k/Images --captions Flickr8k/captions.txt \\
      --style humorous funny_train.txt train_fu.p --out data/flickr8k
  prepare.py folder my_images --out data/mine
  prepare.py index downloaded_shards
  prepare.py stats data/shapes --out shapes.png
  prepare.py verify data/shapes
"""


def main(words: list[str] | None = None) -> int:
    """Returns the exit status: 0 done, 1 damage found, 2 a mistake in what was asked for."""
    arguments = _parser().parse_args(words)
    try:
        return arguments.command(arguments)
    except (ValueError, OSError) as error:
        for line in vars(error).get("__notes__", ()):
            print(line, file=sys.stderr)
        print(f"prepare.py: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nprepare.py: stopped; the same command goes on from here", file=sys.stderr)
        return 130


def _write(registered: Registered, arguments: argparse.Namespace) -> int:
    options = options_from(arguments, WriteOptions)
    write_pieces = None if arguments.ray is None else _on_cluster(arguments.ray)
    importer = registered.importer(options_from(arguments, registered.options))
    out: Path = arguments.out
    out.parent.mkdir(parents=True, exist_ok=True)
    for line in importer.report.text():
        print(line)
    with Bar("samples") as bar:
        written = write_dataset(
            importer, importer.source, out.resolve(), options, bar.show, write_pieces
        )
    if not written:
        print(f"already prepared: {out}")
        return 0
    print(f"prepared {out}")
    print(summary(Dataset.open(out).manifest))
    return 0


def _on_cluster(address: str) -> WritePieces:
    from distgan.cluster.prepare import on_cluster  # Ray is needed for nothing else here

    return on_cluster(address)


def _index(arguments: argparse.Namespace) -> int:
    root: Path = arguments.folder
    if not root.is_dir():
        raise ValueError(f"folder {root} does not exist")
    options = options_from(arguments, VocabularyOptions)
    with Bar("shards") as bar:
        manifest = index_dataset(
            root, options, split=arguments.split, jobs=arguments.jobs, progress=bar.show
        )
    print(f"indexed {root}")
    print(summary(manifest))
    return 0


def _stats(arguments: argparse.Namespace) -> int:
    dataset = Dataset.open(arguments.dataset, allow_damage=True)
    with Bar("images") as bar:
        statistics = measure(dataset, images=arguments.images, progress=bar.show)
    print(table(statistics))
    if arguments.out is not None:
        from distgan.data.statistics_picture import draw  # matplotlib takes its time

        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_bytes(draw(statistics))
        print(f"\npicture: {arguments.out}")
    return 0


def _verify(arguments: argparse.Namespace) -> int:
    root: str = arguments.folder
    with Bar("shards") as bar:
        problems = verify(root, contents=arguments.contents, jobs=arguments.jobs, progress=bar.show)
    for problem in problems[: arguments.show]:
        print(problem)
    if len(problems) > arguments.show:
        print(f"... and {len(problems) - arguments.show} more (--show says how many to print)")
    if problems:
        print(f"{root}: {len(problems)} problems")
        return 1
    print(f"{root}: every byte is as it was written")
    print(summary(Dataset.open(root).manifest))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="prepare.py",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="SOURCE")
    for name, registered in IMPORTERS.items():
        source = _command(commands, name, partial(_write, registered), registered.help)
        source.epilog = registered.manual
        add_options(source, registered.options)
        source.add_argument("--out", type=Path, required=True, help="the dataset's folder")
        add_options(source, WriteOptions)
        source.set_defaults(jobs=_CPUS)
        source.add_argument(
            "--ray",
            nargs="?",
            const="auto",
            metavar="ADDRESS",
            help="write the shards as tasks of a Ray cluster (that of RAY_ADDRESS, or on this "
            "machine); --out and the source's files must lie where every node sees them",
        )
    index = _command(commands, "index", _index, "foreign WebDataset shards, indexed in place")
    index.add_argument("folder", type=Path, help="holds SPLIT-*.tar of KEY.jpg and KEY.json|txt")
    index.add_argument(
        "--split", help="the split of all shards (default: what each one's name or folder says)"
    )
    add_options(index, VocabularyOptions)
    _add_jobs(index)
    index.epilog = inspect.getdoc(foreign)
    feature_command.register(partial(_command, commands))
    stats = _command(commands, "stats", _stats, "what a dataset holds, as a table and a picture")
    stats.add_argument("dataset", help="a prepared dataset: a folder or a URI")
    stats.add_argument("--out", type=Path, metavar="PNG", help="also draw it")
    stats.add_argument("--images", type=int, default=2000, help="look at so many at most")
    check = _command(commands, "verify", _verify, "check every byte of a dataset")
    check.add_argument("folder", help="a dataset, or foreign shards once indexed; may be a URI")
    check.add_argument(
        "--contents", action="store_true", help="also decode every image, look at every caption"
    )
    check.add_argument("--show", type=int, default=20, help="problems to print (default: 20)")
    _add_jobs(check)
    return parser


def _add_jobs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--jobs", type=int, default=_CPUS, help="shards read at the same time")


class _Formatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Tells the defaults that say something, and leaves the manual's lines as they are."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        if action.default in (None, False, (), []):
            return action.help
        if isinstance(action.default, tuple):
            return f"{action.help} (default: {' '.join(map(str, action.default))})"
        return super()._get_help_string(action)


def _command(
    commands: Any, name: str, run: Callable[[argparse.Namespace], int], what: str
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=what,
        description=what,
        formatter_class=_Formatter,
    )
    parser.set_defaults(command=run)
    return parser


if __name__ == "__main__":
    sys.exit(main())
