"""Reads feature shards in place of images: any image's regions by its number, bytes checked.

Shards are safetensors files: `features` (rows, K, D) and `crc32` (rows,), the sum of each row's
bytes. Local ones are mapped into memory, others read by offset.
"""

from __future__ import annotations

import json
import logging
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from distgan.data.damage import DamagedSample, TooManyBadSamples
from distgan.data.dataset import Dataset, Split
from distgan.data.feature_manifest import (
    FOLDER,
    MANIFEST,
    FeatureManifest,
    FeatureShard,
    Recipe,
    parse_feature_manifest,
)
from distgan.data.folder import Folder
from distgan.data.manifest import file_sha256

DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}
_NAMES = {torch.bfloat16: "BF16", torch.float32: "F32"}  # in a safetensors header
_LENGTH = 8  # bytes of a safetensors file that say how long its header is
_READS_TOGETHER = 16  # rows of a remote shard

_log = logging.getLogger(__name__)


class FeatureShards:
    """The feature shards of one dataset. Use `FeatureShards.open`."""

    def __init__(self, dataset: Dataset, place: str, folder: Folder, prefix: str) -> None:
        self.dataset, self.place, self.folder, self.prefix = dataset, place, folder, prefix
        where = f"{place}/{MANIFEST}"
        text = folder.read(f"{prefix}{MANIFEST}").decode("utf-8", "replace")
        self.manifest = parse_feature_manifest(text, where)

    @classmethod
    def open(cls, dataset: Dataset, given: str, *, allow_damage: bool = False) -> FeatureShards:
        """Features by their name in the dataset's folder, or by the path of a folder.

        ValueError naming what is wrong: none there, made from another dataset, shards missing or
        cut. `allow_damage` leaves missing and cut shards to the readers of their rows.
        """
        if "/" in given:
            opened = cls._open_at(dataset, given, Folder(given), "")
        else:
            prefix = f"{FOLDER}/{given}/"
            opened = cls._open_at(dataset, f"{dataset.path}/{prefix[:-1]}", dataset.folder, prefix)
        opened._check_dataset()
        if not allow_damage:
            opened._check_files()
        return opened

    @classmethod
    def _open_at(cls, dataset: Dataset, place: str, folder: Folder, prefix: str) -> FeatureShards:
        if folder.size(f"{prefix}{MANIFEST}") is None:
            raise ValueError(
                f"there are no features at {place} (no {MANIFEST}); make them with "
                f"launch/prepare.py features {dataset.path}"
            )
        return cls(dataset, place, folder, prefix)

    def _check_dataset(self) -> None:
        if self.manifest.recipe.dataset != self.dataset.digest:
            raise ValueError(
                f"{self.place} was made from another dataset than {self.dataset.path}, or from "
                "another state of it"
            )

    def _check_files(self) -> None:
        sizes = {f"{self.prefix}{shard.name}": shard.size for shard in self.manifest.shards}
        wrong = self.folder.wrong_sizes(sizes)
        if wrong:
            raise ValueError(f"{self.place}: {'; '.join(wrong[:5])}; make the features again")

    def differences(self, wanted: Recipe) -> list[str]:
        """In what these features differ from those of another encoder or kind of image."""
        named = ("encoder", "weights", "image_size", "preprocessing")
        have, want = vars(self.manifest.recipe), vars(wanted)
        return [
            f"{name} {_short(have[name])}, not {_short(want[name])}"
            for name in named
            if have[name] != want[name]
        ]

    def of_split(
        self,
        split: Split,
        *,
        device: torch.device,
        dtype: torch.dtype,
        max_bad_samples: int = 0,
    ) -> StoredFeatures:
        """The features of every image of a split. ValueError when they are not all there, or
        too many of their images could not be read, or lie in what is lost of their shards."""
        rows = self.manifest.splits.get(split.name, 0)
        if rows != len(split):
            raise ValueError(
                f"{self.place} has features of {rows} images of split {split.name!r}, which has "
                f"{len(split)}; it has {self.manifest.splits}"
            )
        lost = {} if max_bad_samples == 0 else self._lost(split)  # with 0, `open` has looked
        bad = self.manifest.bad.get(split.name, {}) | lost
        if len(bad) > max_bad_samples:
            raise ValueError(
                f"{self.place}: {len(bad)} bad images of split {split.name!r} are more than "
                f"data.max_bad_samples={max_bad_samples}: {'; '.join(list(bad.values())[:10])}"
            )
        for what in lost.values():
            _log.warning("features: zeros take the place of %s", what)
        return StoredFeatures(
            self, split, device=device, dtype=dtype, bad=bad, max_bad_samples=max_bad_samples
        )

    def _lost(self, split: Split) -> dict[str, str]:
        """Rows that missing and cut shards do not hold, by key: judged by sizes alone, so that
        every rank finds the same before it starts."""
        lost = {}
        row_bytes = bytes_of_row(self.manifest)
        for shard in self.manifest.of_split(split.name):
            there = self.folder.size(f"{self.prefix}{shard.name}")
            rows = min(shard.rows, -(-(shard.size - (there or 0)) // row_bytes))  # they are last
            what = "is missing" if there is None else f"has {there} bytes instead of {shard.size}"
            for i in range(shard.first + shard.rows - max(0, rows), shard.first + shard.rows):
                key = split.key(i)
                lost[key] = str(DamagedSample(shard.name, key, f"the shard {what}"))
        return lost


class StoredFeatures:
    """The regions (K, D) of every image of a split, read when asked for.

    Zeros, as where there is no picture, take the place of those that are damaged, the same on
    every rank; they are counted and named in `bad`. More than `max_bad_samples` raise
    TooManyBadSamples. What is known beforehand is counted by every rank, rows whose bytes
    changed by the rank that reads them.
    """

    def __init__(
        self,
        shards: FeatureShards,
        split: Split,
        *,
        device: torch.device,
        dtype: torch.dtype,
        bad: dict[str, str],
        max_bad_samples: int,
    ) -> None:
        """`bad`: what is known already, by key."""
        self.split, self.device, self.dtype = split, device, dtype
        self.bad, self.max_bad_samples = dict(bad), max_bad_samples
        manifest = shards.manifest
        self._files = [
            ShardFile(shards.folder, shards.prefix, manifest, shard)
            for shard in manifest.of_split(split.name)
        ]
        self._shard_rows = manifest.recipe.shard_rows
        self._threads = ThreadPoolExecutor(_READS_TOGETHER) if shards.folder.remote else None

    def of(self, ids: Tensor) -> Tensor:
        """Regions (B, K, D) of images `ids` (B,) int64, on the device, in the run's precision.

        With a bound of 0, DamagedSample for one whose bytes changed, ValueError for a shard that
        is none.
        """
        read = map if self._threads is None else self._threads.map
        rows = [self._sound(row) for row in read(self._row, ids.tolist())]
        K, D, stored = self._files[0].shape
        regions = torch.from_numpy(np.stack(rows)).view(stored).view(len(rows), K, D)
        return regions.to(self.device).to(self.dtype)

    def _row(self, i: int) -> NDArray[np.uint8] | DamagedSample:
        number, row = divmod(i, self._shard_rows)
        file, key = self._files[number], self.split.key(i)
        try:
            return file.row(row, key)
        except DamagedSample as error:
            return error
        except (ValueError, FileNotFoundError) as error:
            if self.max_bad_samples == 0:
                raise
            return DamagedSample(file.name, key, str(error))

    def _sound(self, row: NDArray[np.uint8] | DamagedSample) -> NDArray[np.uint8]:
        if not isinstance(row, DamagedSample):
            return row
        if self.max_bad_samples == 0:
            raise row
        if row.key not in self.bad:
            self.bad[row.key] = str(row)
            _log.warning("features: zeros take the place of %s", row)
        if len(self.bad) > self.max_bad_samples:
            raise TooManyBadSamples(
                f"split {self.split.name}: {len(self.bad)} bad images are more than "
                f"data.max_bad_samples={self.max_bad_samples}: "
                f"{'; '.join(list(self.bad.values())[:10])}"
            ) from row
        return np.zeros(self._files[0].row_bytes, dtype=np.uint8)


def bytes_of_row(manifest: FeatureManifest) -> int:
    return manifest.regions * manifest.channels * DTYPES[manifest.recipe.dtype].itemsize


class Layout(NamedTuple):
    """Where in a shard things begin, in bytes."""

    sums: int
    features: int


class ShardFile:
    """One shard, opened when first read."""

    def __init__(
        self, folder: Folder, prefix: str, manifest: FeatureManifest, shard: FeatureShard
    ) -> None:
        self.folder, self.name, self.rows = folder, f"{prefix}{shard.name}", shard.rows
        self.shape = (manifest.regions, manifest.channels, DTYPES[manifest.recipe.dtype])
        self.row_bytes = bytes_of_row(manifest)
        self._sound = np.zeros(shard.rows, dtype=bool)  # rows whose sum was found right
        self._layout: Layout | None = None
        self._sums = np.zeros(0, dtype=np.int64)
        self._mapped: NDArray[np.uint8] | None = None

    def row(self, row: int, key: str) -> NDArray[np.uint8]:
        """The bytes of a row. DamagedSample, naming `key`, when they are not those written;
        ValueError when the file is no such shard at all."""
        layout = self._layout or self._open()
        data = self._read(layout.features + row * self.row_bytes)
        if len(data) < self.row_bytes:
            what = f"features cut: {len(data)} of {self.row_bytes} bytes"
            raise DamagedSample(self.name, key, what)
        if not self._sound[row]:
            if zlib.crc32(data) != self._sums[row]:
                raise DamagedSample(self.name, key, "its features changed (checksum differs)")
            self._sound[row] = self._mapped is not None  # what is read anew is checked anew
        return data

    def _read(self, first: int) -> NDArray[np.uint8]:
        if self._mapped is not None:
            return self._mapped[first : first + self.row_bytes]
        return np.frombuffer(self.folder.read_at(self.name, first, self.row_bytes), dtype=np.uint8)

    def _open(self) -> Layout:
        where = f"{self.folder.place}/{self.name}"
        length = int.from_bytes(self.folder.read_at(self.name, 0, _LENGTH), "little")
        header = self.folder.read_at(self.name, _LENGTH, min(length, 1 << 20))
        layout = _layout(header, self.rows, self.shape, where)
        layout = Layout(*(_LENGTH + length + start for start in layout))
        sums = self.folder.read_at(self.name, layout.sums, 8 * self.rows)
        if len(sums) < 8 * self.rows:
            raise ValueError(f"{where}: damaged: its checksums are cut")
        self._sums = np.frombuffer(sums, dtype="<i8")
        if not self.folder.remote:
            assert self.folder.local is not None
            self._mapped = np.memmap(self.folder.local / self.name, dtype=np.uint8, mode="r")
        self._layout = layout
        return layout


def _layout(header: bytes, rows: int, shape: tuple[int, int, torch.dtype], where: str) -> Layout:
    K, D, dtype = shape
    try:
        told = json.loads(header)
        sums, features = told["crc32"], told["features"]
        shapes = [sums["dtype"], sums["shape"], features["dtype"], features["shape"]]
        layout = Layout(int(sums["data_offsets"][0]), int(features["data_offsets"][0]))
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise ValueError(f"{where}: damaged: its header cannot be read") from error
    if shapes != ["I64", [rows], _NAMES[dtype], [rows, K, D]]:
        raise ValueError(f"{where}: damaged: its header is not that of {rows} rows of {K} x {D}")
    return layout


def verify_features(root: Path, dataset_digest: str, keys: dict[str, list[str]]) -> Iterator[str]:
    """Everything wrong with the feature shards in a dataset's folder, one sentence each.

    `keys`: those of every split, in the order of the index; to name damaged rows by.
    """
    for path in sorted((root / FOLDER).glob(f"*/{MANIFEST}")):
        where = str(path.relative_to(root))
        try:
            text = path.read_bytes().decode("utf-8", "replace")
            manifest = parse_feature_manifest(text, where)
        except ValueError as error:
            yield str(error)
            continue
        if manifest.recipe.dataset != dataset_digest:
            yield f"{where}: made from another dataset, or from another state of this one"
        for shard in manifest.shards:
            yield from _check_shard(root, path.parent, manifest, shard, keys.get(shard.split, []))
        listed = {shard.name for shard in manifest.shards}
        for stray in sorted(path.parent.glob("*.safetensors")):
            if stray.name not in listed:
                yield f"{stray.relative_to(root)}: a shard that {MANIFEST} does not list"


def _check_shard(
    root: Path, place: Path, manifest: FeatureManifest, shard: FeatureShard, keys: list[str]
) -> Iterator[str]:
    path = place / shard.name
    where = str(path.relative_to(root))
    if not path.is_file():
        yield f"{where}: missing ({shard.rows} images)"
        return
    if file_sha256(path) == shard.sha256:
        return
    if path.stat().st_size != shard.size:
        yield f"{where}: {path.stat().st_size} bytes instead of {shard.size}"
    named = list(_damaged_rows(place, manifest, shard, keys))
    yield from named
    if not named and path.stat().st_size == shard.size:
        yield f"{where}: changed outside every row"


def _damaged_rows(
    place: Path, manifest: FeatureManifest, shard: FeatureShard, keys: list[str]
) -> Iterator[str]:
    file = ShardFile(Folder(str(place)), "", manifest, shard)
    for row in range(shard.rows):
        number = shard.first + row
        try:
            file.row(row, keys[number] if number < len(keys) else str(number))
        except DamagedSample as error:
            yield f"{FOLDER}/{place.name}/{error}"
        except ValueError as error:
            yield str(error)
            return


def _short(value: object) -> str:
    return value[:12] if isinstance(value, str) and len(value) == 64 else repr(value)
