"""Four ways from a dataset's photographs to batches of square images, for `bench.py loader`."""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from functools import partial
from importlib.metadata import version
from itertools import cycle, islice
from multiprocessing import get_context
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import torch
import webdataset as wds
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from distgan.data import dataset as datasets
from distgan.data.images import decode
from distgan.data.sources import CaptionedImages, encode_words
from distgan.data.stream import Stream
from distgan.data.vocabulary import Tokens

WORDS = 16  # of a caption, at most
LIBRARIES = ("torch", "torchvision", "pillow", "simplejpeg", "webdataset", "numpy")


class Pipelines:
    """Each form is an endless iterator over batches, giving how many images each has."""

    def __init__(self, path: str, split: str, *, size: int, batch: int, loaders: int) -> None:
        self.split = datasets.Dataset.open(path).split(split)
        self.vocabulary = self.split.dataset.vocabulary
        self.size, self.batch, self.loaders = size, batch, loaders
        self.context = get_context("forkserver")
        self._stack = ExitStack()

    def __enter__(self) -> Pipelines:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def ours(self) -> Iterator[int]:
        """The stream that trains, over images and their captions."""
        stream = self._stream(None)
        return (len(batch["image"]) for batch in stream)

    def _stream(self, limit: int | None) -> Stream:
        source = CaptionedImages(
            self.split, self.vocabulary, WORDS, image_size=self.size, limit=limit
        )
        return Stream(source, name="bench", rows=self.batch, seed=0, loaders=self.loaders)

    def epochs(self, count: int) -> Iterator[None]:
        """Our stream, stopping after each epoch."""
        stream = self._stream(None)
        for epoch in range(1, count + 1):
            while stream.epoch < epoch:
                next(stream)
            yield
        stream.close()

    def bare(self) -> Iterator[int]:
        """Nothing but decoding and resizing files that are in memory, in as many processes."""
        files = [self.split.image_bytes(i) for i in range(min(len(self.split), 512))]
        if self.loaders == 0:
            yield from (decode_all(share, self.size) for share in self._shares(files))
        pool = self._stack.enter_context(
            ProcessPoolExecutor(self.loaders, self.context, remember, (files, self.size))
        )
        running = [pool.submit(decode_share, self.batch) for _ in range(2 * self.loaders)]
        while True:
            yield running.pop(0).result()
            running.append(pool.submit(decode_share, self.batch))

    def _shares(self, files: list[bytes]) -> Iterator[list[bytes]]:
        endless = cycle(files)
        while True:
            yield list(islice(endless, self.batch))

    def webdataset(self) -> Iterator[int]:
        """The same shards as webdataset's users read them."""
        root, shards = Path(self.split.dataset.path), self.split.dataset.manifest.shards
        urls = [str(root / shard.name) for shard in shards if shard.split == self.split.name]
        dataset = (
            wds.WebDataset(urls * max(1, self.loaders), shardshuffle=False, empty_check=False)
            .shuffle(1000)
            .decode("pil")
            .to_tuple("jpg;png;webp", "json")
            .map_tuple(as_users_do(self.size), partial(first_caption, self.vocabulary))
            .batched(self.batch)
            .repeat()
        )
        return self._counted(dataset, batch_size=None)

    def pil(self) -> Iterator[int]:
        """A DataLoader over loose files, with Pillow and torchvision's transforms."""
        folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory()))
        files = LooseFiles(folder, self.split, self.size)
        sampler = torch.utils.data.RandomSampler(files, replacement=True, num_samples=2**31)
        return self._counted(files, batch_size=self.batch, sampler=sampler)

    def _counted(self, dataset: Any, **how: Any) -> Iterator[int]:
        context = self.context if self.loaders else None
        loader = DataLoader(
            dataset, num_workers=self.loaders, multiprocessing_context=context, **how
        )
        return (len(images) for images, _ in loader)

    def facts(self) -> dict[str, object]:
        """What was measured: the sizes of the data and the versions of the libraries."""
        sizes = [self.split.image_bytes(i) for i in range(min(len(self.split), 512))]
        pixels = [np.prod(Image.open(io.BytesIO(data)).size) for data in sizes]
        return {
            "images_in_split": len(self.split),
            "mean_kilobytes": float(np.mean([len(data) for data in sizes])) / 1000,
            "mean_megapixels": float(np.mean(pixels)) / 1e6,
            "versions": {name: version(name) for name in LIBRARIES},
        }


class LooseFiles(Dataset[tuple[Tensor, Tensor]]):
    """Photographs in a folder and their first captions, as users write it."""

    def __init__(self, folder: Path, split: datasets.Split, size: int) -> None:
        self.paths, self.captions = [], []
        for i in range(len(split)):
            path = folder / split.key(i)
            path.write_bytes(split.image_bytes(i))
            self.paths.append(path)
            self.captions.append(split.captions(i)[0].text)
        self.vocabulary, self.transform = split.dataset.vocabulary, as_users_do(size)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        with Image.open(self.paths[i]) as image:
            pixels = self.transform(image.convert("RGB"))
        return pixels, encode_words(self.vocabulary, self.captions[i], WORDS)


def as_users_do(size: int) -> transforms.Compose:
    return transforms.Compose(
        [transforms.Resize(size), transforms.CenterCrop(size), transforms.ToTensor()]
    )


def first_caption(vocabulary: Tokens, facts: Any) -> Tensor:
    """The first caption's ids; `facts` is a shard's JSON, decoded or not."""
    known = facts if isinstance(facts, dict) else json.loads(facts)
    return encode_words(vocabulary, known["captions"][0]["text"], WORDS)


def decode_all(files: list[bytes], size: int) -> int:
    for data in files:
        decode(data, size)
    return len(files)


_files: list[bytes] = []  # of a process of `bare`, sent once
_size = [0]


def remember(files: list[bytes], size: int) -> None:
    torch.set_num_threads(1)
    _files[:], _size[:] = files, [size]


def decode_share(count: int) -> int:
    return decode_all(list(islice(cycle(_files), count)), _size[0])
