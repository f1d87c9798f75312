"""`prepare.py features`: a frozen encoder's regions of every image, in place of the images."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch

from distgan.data.damage import TooManyBadSamples
from distgan.data.dataset import Dataset
from distgan.data.feature_manifest import FOLDER, MANIFEST, parse_feature_manifest
from distgan.data.feature_shards import DTYPES
from distgan.data.feature_writing import WriteFeatures, write_features
from distgan.data.progress import Bar
from distgan.methods.feature_making import EncoderFile, find_place, in_processes, recipe_of
from distgan.models.encoders import ENCODERS

MANUAL = """\
The encoder is run once over every image, on all GPUs (or CPUs), and its regions are kept beside
the shards. Training reads them with one setting:

  prepare.py features data/coco --encoder resnet152 --weights resnet152.pth
  train.py configs/attend_gan/senticap.yaml data.path=data/coco \\
      method.encoder.weights=resnet152.pth data.features=resnet152-224-bfloat16

An image takes 49 x 2048 numbers of 2 bytes (bf16) at 224 pixels: 196 KiB. float32 gives the
very numbers of encoding on the fly with the same library on the same kind of processor (with
engine.threads=1 on CPUs), bf16 rounds each to 8 bits: at most 1 part in 256.
"""
_DTYPES = {"bf16": "bfloat16", "bfloat16": "bfloat16", "float32": "float32"}


def add_to(parser: argparse.ArgumentParser) -> None:
    """The options of the subcommand."""
    parser.epilog = MANUAL
    parser.add_argument("data", help="a dataset made by prepare.py")
    parser.add_argument("--encoder", default="resnet152", choices=ENCODERS)
    parser.add_argument(
        "--weights", required=True, help="a state dict's path, or imagenet (downloaded)"
    )
    parser.add_argument("--image-size", type=int, default=224, help="pixels, square")
    parser.add_argument("--dtype", default="bf16", choices=_DTYPES, help="as stored")
    parser.add_argument("--splits", nargs="+", metavar="SPLIT", help="these (default: all)")
    parser.add_argument("--name", help="of the features (default: ENCODER-SIZE-DTYPE)")
    parser.add_argument(
        "--out", type=Path, help="their folder (default: DATA/features/NAME; needed for a URI)"
    )
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    parser.add_argument("--jobs", type=int, help="processes (default: one a GPU, or a CPU)")
    parser.add_argument(
        "--ray",
        nargs="?",
        const="auto",
        metavar="ADDRESS",
        help="run on all GPUs or CPUs of a Ray cluster (that of RAY_ADDRESS, or on this machine); "
        "the dataset, the weights and --out must lie where every node sees them",
    )
    parser.add_argument("--shard-rows", type=int, default=1024, help="images of a shard")
    parser.add_argument(
        "--max-bad-samples",
        type=int,
        default=0,
        help="images that may be unreadable; black takes their place",
    )


def run(arguments: argparse.Namespace) -> int:
    """Returns the exit status."""
    if arguments.jobs is not None and arguments.jobs < 1:
        raise ValueError(f"jobs must be at least 1, got {arguments.jobs}")
    dataset = Dataset.open(arguments.data, allow_damage=arguments.max_bad_samples > 0)
    dtype = _DTYPES[arguments.dtype]
    assert dtype in DTYPES
    weights = arguments.weights
    if weights not in ("imagenet", "random"):
        weights = str(Path(weights).expanduser().resolve())
    file = EncoderFile(arguments.encoder, weights)
    recipe = recipe_of(
        file.build(torch.device("cpu")),
        arguments.encoder,
        dataset,
        image_size=arguments.image_size,
        dtype=dtype,
        shard_rows=arguments.shard_rows,
    )
    name = arguments.name or f"{arguments.encoder}-{arguments.image_size}-{dtype}"
    out = _out(arguments, dataset, name)
    try:
        with Bar("images") as bar:
            written = write_features(
                dataset,
                out,
                recipe,
                arguments.splits or dataset.splits,
                _writer(arguments, file, dataset),
                max_bad_samples=arguments.max_bad_samples,
                progress=bar.show,
            )
    except TooManyBadSamples as error:
        raise ValueError(str(error)) from error
    manifest = parse_feature_manifest((out / MANIFEST).read_text("utf-8"), str(out / MANIFEST))
    images = ", ".join(f"{split}: {rows:,}" for split, rows in manifest.splits.items())
    size = sum(shard.size for shard in manifest.shards)
    print(f"{'made' if written else 'already made'}: {out}")
    print(f"  {manifest.regions} x {manifest.channels} numbers ({dtype}) of images {images}")
    print(f"  {len(manifest.shards)} shards, {size / 2**20:,.1f} MiB")
    print(f"train with data.features={name if arguments.out is None else out}")
    return 0


def _out(arguments: argparse.Namespace, dataset: Dataset, name: str) -> Path:
    if arguments.out is not None:
        return Path(arguments.out).resolve()
    if "://" in arguments.data:
        raise ValueError(f"{arguments.data}: give --out, a local folder for the features")
    if "/" in name or name.strip(". ") != name:
        raise ValueError(f"name must be a folder's name, got {name!r}")
    return Path(dataset.path).resolve() / FOLDER / name


def _writer(arguments: argparse.Namespace, file: EncoderFile, dataset: Dataset) -> WriteFeatures:
    path = dataset.path if "://" in dataset.path else str(Path(dataset.path).resolve())
    if arguments.ray is None:
        return in_processes(file, path, find_place(arguments.device, arguments.jobs))
    from distgan.cluster.features import on_cluster  # Ray is needed for nothing else here

    return on_cluster(file, path, arguments.device, arguments.ray)


def register(command: Any) -> None:
    """Add the subcommand; `command(name, run, help)` makes its parser."""
    add_to(command("features", run, "a frozen encoder's regions of a dataset's images"))
