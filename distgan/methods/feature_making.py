"""Runs a frozen encoder over a dataset's images, in processes of this machine."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import torch

from distgan.data.dataset import Dataset
from distgan.data.feature_manifest import Dtype, Recipe
from distgan.data.feature_writing import FeaturePiece, WriteFeatures, write_piece
from distgan.data.features import BLOCK
from distgan.data.images import PREPROCESSING
from distgan.data.pieces import follow_parent
from distgan.models.encoders import Encoder, build_encoder, weights_digest


@dataclass(frozen=True)
class EncoderFile:
    """A frozen encoder by what makes it: a name of `ENCODERS`, and weights."""

    name: str
    weights: str

    def build(self, device: torch.device) -> Encoder:
        """The encoder, ready to look at images. ValueError for one that cannot be frozen."""
        if self.weights == "random":
            raise ValueError("weights=random: features come from an encoder that has learned")
        encoder = build_encoder(self.name, self.weights)
        return encoder.requires_grad_(False).eval().to(device)


def recipe_of(
    encoder: Encoder, name: str, dataset: Dataset, *, image_size: int, dtype: Dtype, shard_rows: int
) -> Recipe:
    """What the features of a dataset will depend on."""
    return Recipe(
        dataset=dataset.digest,
        encoder=name,
        weights=weights_digest(encoder),
        image_size=image_size,
        preprocessing=PREPROCESSING,
        dtype=dtype,
        block=BLOCK,
        shard_rows=shard_rows,
    )


class Maker:
    """An encoder and a dataset in some process, making any shard that is asked for."""

    def __init__(self, file: EncoderFile, path: str, recipe: Recipe, device: torch.device) -> None:
        """ValueError when what this process sees is not what the recipe says."""
        if device.type == "cpu":
            torch.set_num_threads(1)  # how a sum is shared among threads could change its bits
        self.dataset = Dataset.open(path, allow_damage=True)
        if self.dataset.digest != recipe.dataset:
            raise ValueError(f"{path} is another dataset here")
        self.encoder = file.build(device)
        if weights_digest(self.encoder) != recipe.weights:
            raise ValueError(f"{file.weights}: other weights here")
        self.recipe, self.device = recipe, device

    def write(self, folder: Path, piece: FeaturePiece) -> None:
        split = self.dataset.split(piece.split)
        write_piece(split, folder, self.recipe, piece, self.encoder.encode, self.device)


class Place(NamedTuple):
    """Which devices of this machine work: `cuda` takes one process a GPU."""

    kind: Literal["cpu", "cuda"]
    processes: int


def find_place(device: Literal["auto", "cpu", "cuda"], jobs: int | None) -> Place:
    """The processes to start. ValueError when a GPU is asked for and there is none."""
    gpus = torch.cuda.device_count() if device != "cpu" else 0
    if device == "cuda" and not gpus:
        raise ValueError("device=cuda, but this machine has no GPU")
    most = gpus or os.cpu_count() or 1
    return Place("cuda" if gpus else "cpu", most if jobs is None else min(jobs, most))


def in_processes(file: EncoderFile, path: str, place: Place) -> WriteFeatures:
    """Writes pieces in processes of this machine."""

    def write(
        folder: Path, recipe: Recipe, pieces: Sequence[FeaturePiece]
    ) -> Iterator[FeaturePiece]:
        context = multiprocessing.get_context("spawn")
        numbers = context.Queue()
        for number in range(place.processes):
            numbers.put(number)
        given = (file, path, recipe, place.kind, numbers)
        processes = min(place.processes, len(pieces))
        pool = ProcessPoolExecutor(processes, context, _receive, given)
        try:
            futures = {pool.submit(_write_received, folder, piece): piece for piece in pieces}
            for future in as_completed(futures):
                future.result()
                yield futures[future]
        except BrokenProcessPool as error:
            raise ChildProcessError(
                "a process that encodes died, of too little memory perhaps: fewer --jobs need "
                "less; the same command goes on from here"
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)

    return write


class _Given(NamedTuple):
    file: EncoderFile
    path: str
    recipe: Recipe
    device: torch.device


_given: list[_Given] = []  # to this process, once
_makers: list[Maker] = []  # of this process, made when first needed


def _receive(
    file: EncoderFile,
    path: str,
    recipe: Recipe,
    kind: str,
    numbers: multiprocessing.Queue[int],
) -> None:
    follow_parent()
    device = torch.device(kind, numbers.get()) if kind == "cuda" else torch.device("cpu")
    _given[:] = [_Given(file, path, recipe, device)]


def _write_received(folder: Path, piece: FeaturePiece) -> None:
    if not _makers:
        _makers.append(Maker(*_given[0]))
    _makers[0].write(folder, piece)
