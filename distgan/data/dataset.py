"""Reads a prepared dataset: any sample by its number, its bytes checked, from any file system."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from torch import Tensor

from distgan.data.damage import DamagedSample, UnreadableImage
from distgan.data.folder import Extent, Folder, Read, read_now
from distgan.data.images import decode
from distgan.data.manifest import INDEX, MANIFEST, Manifest, parse_manifest
from distgan.data.samples import Caption
from distgan.data.shard_index import is_unseen, read_index
from distgan.data.vocabulary import Vocabulary


class Dataset:
    """A folder made by `launch/prepare.py`, local or on an object store. Picklable: a copy in
    another process opens the folder again and insists on the same contents."""

    def __init__(self, path: str, manifest: Manifest, folder: Folder, index: pa.Table) -> None:
        """Use `Dataset.open`."""
        self.path = path
        self.manifest = manifest
        self.folder = folder
        self._index = index
        self._splits: dict[str, Split] = {}

    @classmethod
    def open(cls, path: str | Path, *, allow_damage: bool = False) -> Dataset:
        """Open a local path or a URI (s3://, gs://, http://...).

        ValueError naming what is wrong: no such folder, no manifest, an index that is not the
        manifest's, shards missing or of another size than recorded. `allow_damage` leaves
        missing and cut shards to the readers of their samples.
        """
        folder = Folder(str(path))
        where = f"{path}/{MANIFEST}"
        manifest = parse_manifest(_read_manifest(folder).decode("utf-8", "replace"), where)
        content = folder.read(INDEX)
        if hashlib.sha256(content).hexdigest() != manifest.index_sha256:
            raise ValueError(
                f"{path}/{INDEX} is not the index {MANIFEST} was written with (its hash differs)"
            )
        sizes = {} if allow_damage else {shard.name: shard.size for shard in manifest.shards}
        wrong = folder.wrong_sizes(sizes)
        if wrong:
            raise ValueError(
                f"{path}: {'; '.join(wrong[:5])}; `prepare.py verify` says more "
                "(data.max_bad_samples above 0 trains on the rest)"
            )
        return cls(str(path), manifest, folder, _read_index(content, f"{path}/{INDEX}"))

    @property
    def digest(self) -> str:
        """Names the contents: equal for equal indexes."""
        return self.manifest.index_sha256

    @property
    def styles(self) -> tuple[str, ...]:
        return self.manifest.styles

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(self.manifest.splits)

    @property
    def vocabulary(self) -> Vocabulary:
        return Vocabulary(self.manifest.words)

    def split(self, name: str) -> Split:
        """The samples of one split; ValueError when there is none or it is empty."""
        if name not in self._splits:
            if name not in self.manifest.splits:
                raise ValueError(f"{self.path} has no split {name!r}; it has {self.splits}")
            rows = self._index.filter(pc.equal(self._index["split"], name))
            if len(rows) == 0:
                raise ValueError(f"{self.path}: split {name!r} is empty")
            self._splits[name] = Split(self, name, rows.combine_chunks())
        return self._splits[name]

    def texts(self, style: str) -> list[str]:
        """The lines of a style that belong to no image; ValueError when there are none."""
        files = {file.style: file for file in self.manifest.texts}
        if style not in files:
            raise ValueError(f"{self.path} has no text of style {style!r}; it has {sorted(files)}")
        content = self.folder.read(files[style].name)
        if hashlib.sha256(content).hexdigest() != files[style].sha256:
            raise ValueError(f"{self.path}/{files[style].name}: damaged or changed")
        return [line for line in content.decode("utf-8").splitlines() if line.strip()]

    def training_texts(self) -> Iterator[str]:
        """All captions and lines, as often as they occur, but for those of splits held out."""
        seen = [split for split in self.splits if not is_unseen(split)]
        rows = self._index.filter(pc.is_in(self._index["split"], pa.array(seen, pa.string())))
        for captions in rows["captions"].chunks:
            yield from (text or "" for text in captions.flatten().field("text").to_pylist())
        for file in self.manifest.texts:
            yield from self.texts(file.style)

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (self.path, self.digest)


class Split:
    """The samples of one split, numbered by their place in the index."""

    def __init__(self, dataset: Dataset, name: str, rows: pa.Table) -> None:
        self.dataset = dataset
        self.name = name
        self._keys = rows["key"].combine_chunks()
        self._shards = rows["shard"].combine_chunks()
        self._facts = rows["facts"].combine_chunks()
        self._offsets = _numbers(rows["image_offset"])
        self._sizes = _numbers(rows["image_size"])
        self._sums = _numbers(rows["image_crc32"])
        captions = rows["captions"].combine_chunks()
        self._captions_end = np.cumsum(np.asarray(captions.value_lengths().fill_null(0)))
        self._texts = captions.flatten().field("text")
        self._styles = captions.flatten().field("style")

    def __len__(self) -> int:
        return len(self._keys)

    def key(self, i: int) -> str:
        return self._keys[i].as_py()

    def shard(self, i: int) -> str:
        """The name of the shard that holds the sample."""
        return self._shards[i].as_py()

    def captions(self, i: int) -> list[Caption]:
        end = int(self._captions_end[i])
        first = int(self._captions_end[i - 1]) if i else 0
        return [self.caption(number) for number in range(first, end)]

    def caption(self, number: int) -> Caption:
        """A caption by its number among all captions of the split."""
        return Caption(self._texts[number].as_py() or "", self._styles[number].as_py())

    def caption_rows(self) -> NDArray[np.int64]:
        """(captions of the split,): the sample each belongs to."""
        numbers = np.arange(len(self._texts))
        return np.searchsorted(self._captions_end, numbers, side="right").astype(np.int64)

    def caption_styles(self) -> NDArray[np.int64]:
        """(captions of the split,): each one's place in `dataset.styles`; factual: their number."""
        styles = self.dataset.styles
        found = pc.index_in(self._styles, pa.array(styles, pa.string()))
        return np.asarray(found.fill_null(len(styles)), dtype=np.int64)

    def facts(self, i: int) -> dict[str, Any]:
        return json.loads(self._facts[i].as_py())

    def extent(self, i: int) -> Extent:
        """Where the image's bytes lie."""
        folder, shard = self.dataset.folder, self.shard(i)
        return Extent(folder, shard, int(self._offsets[i]), int(self._sizes[i]))

    def image_bytes(self, i: int, read: Read = read_now) -> bytes:
        """The image file as it was given. DamagedSample when it is not what the index says.

        OSError when reading failed several times for reasons that may pass.
        """
        extent, shard = self.extent(i), self.shard(i)
        if extent.offset < 0 or extent.size < 0:
            reason = f"the index is wrong: {extent.size} bytes from byte {extent.offset}"
            raise DamagedSample(shard, self.key(i), reason)
        try:
            data = read(extent)
        except FileNotFoundError as error:
            raise DamagedSample(shard, self.key(i), "the shard is missing") from error
        if len(data) < extent.size:
            reason = f"shard cut: {len(data)} of {extent.size} bytes"
            raise DamagedSample(shard, self.key(i), reason)
        if zlib.crc32(data) != int(self._sums[i]):
            raise DamagedSample(shard, self.key(i), "its bytes changed (checksum differs)")
        return data

    def image(self, i: int, size: int, read: Read = read_now) -> Tensor:
        """(3, size, size) uint8. DamagedSample when it cannot be read or decoded."""
        try:
            return decode(self.image_bytes(i, read), size)
        except UnreadableImage as error:
            raise DamagedSample(self.shard(i), self.key(i), str(error)) from error

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen_split, (self.dataset, self.name)


def _read_manifest(folder: Folder) -> bytes:
    try:
        return folder.read(MANIFEST)
    except ValueError as error:
        if not folder.exists():
            raise ValueError(f"dataset {folder.place} does not exist") from error
        raise ValueError(
            f"{folder.place} is no prepared dataset: it has no {MANIFEST} "
            f"(for foreign shards: launch/prepare.py index {folder.place})"
        ) from error


def _read_index(content: bytes, where: str) -> pa.Table:
    try:
        return read_index(content)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{where}: not a Parquet file: {error}") from error


def _reopen(path: str, digest: str) -> Dataset:
    dataset = Dataset.open(path, allow_damage=True)
    if dataset.digest != digest:
        raise ValueError(f"{path} was replaced by another dataset while in use")
    return dataset


def _reopen_split(dataset: Dataset, name: str) -> Split:
    return dataset.split(name)


def _numbers(column: pa.ChunkedArray) -> NDArray[np.int64]:
    return column.to_numpy().astype(np.int64)
