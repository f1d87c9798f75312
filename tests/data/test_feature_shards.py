"""Feature shards hold what encoding on the fly gives, and say when they are damaged."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from distgan.data.damage import DamagedSample, TooManyBadSamples
from distgan.data.dataset import Dataset
from distgan.data.feature_manifest import Dtype, Recipe
from distgan.data.feature_shards import FeatureShards, StoredFeatures
from distgan.data.feature_writing import FeaturePiece, WriteFeatures, write_features, write_piece
from distgan.data.features import Features
from distgan.data.images import PREPROCESSING
from distgan.data.verify import verify

CPU = torch.device("cpu")
SIZE, BLOCK, ROWS = 16, 4, 8


def batch_statistics(images: torch.Tensor) -> torch.Tensor:
    """An encoder whose answer depends on everything encoded with it, as rounding does."""
    values = images.float().flatten(1)[:, :6].reshape(-1, 3, 2) / 7
    return values - values.mean(0)


def recipe(dataset: Dataset, dtype: Dtype = "float32", **changes: object) -> Recipe:
    made = {
        "dataset": dataset.digest,
        "encoder": "statistics",
        "weights": "0" * 64,
        "image_size": SIZE,
        "preprocessing": PREPROCESSING,
        "dtype": dtype,
        "block": BLOCK,
        "shard_rows": ROWS,
    }
    return Recipe(**{**made, **changes})


def in_order(
    dataset: Dataset, order: Callable[[Sequence[FeaturePiece]], Sequence[FeaturePiece]] = list
) -> WriteFeatures:
    def write(
        folder: Path, recipe: Recipe, pieces: Sequence[FeaturePiece]
    ) -> Iterator[FeaturePiece]:
        for piece in order(pieces):
            split = dataset.split(piece.split)
            write_piece(split, folder, recipe, piece, batch_statistics, CPU)
            yield piece

    return write


def made(dataset: Dataset, dtype: Dtype = "float32", name: str = "all") -> Path:
    out = Path(dataset.path) / "features" / name
    splits = dataset.splits
    assert write_features(dataset, out, recipe(dataset, dtype), splits, in_order(dataset))
    return out


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def stored(dataset: Dataset, given: str = "all", split: str = "train") -> torch.Tensor:
    found = dataset.split(split)
    features = FeatureShards.open(dataset, given).of_split(found, device=CPU, dtype=torch.float32)
    return features.of(torch.arange(len(found)))


@pytest.fixture
def dataset(written: Callable[..., Path]) -> Dataset:
    return Dataset.open(written())


def test_stored_features_are_those_of_encoding_on_the_fly(dataset: Dataset) -> None:
    made(dataset)
    made(dataset, "bfloat16", "half")
    for name in dataset.splits:
        split = dataset.split(name)
        live = Features(split, SIZE, batch_statistics, device=CPU, block=BLOCK)
        expected = live.of(torch.arange(len(split)))
        assert torch.equal(stored(dataset, split=name), expected)
        assert torch.equal(stored(dataset, "half", name), expected.bfloat16().float())
    ids = torch.tensor([22, 0, 22, 7, 8])
    read = FeatureShards.open(dataset, "all").of_split(
        dataset.split("train"), device=CPU, dtype=torch.float64
    )
    assert torch.equal(read.of(ids), stored(dataset).double()[ids])


def test_features_are_read_from_any_storage(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = made(dataset)
    expected = stored(dataset)
    assert torch.equal(stored(dataset, str(out)), expected)
    assert torch.equal(stored(dataset, out.as_uri()), expected)
    assert torch.equal(stored(Dataset.open(Path(dataset.path).as_uri())), expected)
    monkeypatch.setattr(dataset.folder, "remote", True)  # by offset, without a memory map
    assert torch.equal(stored(dataset), expected)
    rows = load_file(out / "train-000001.safetensors")["features"]
    assert torch.equal(rows, expected[ROWS : 2 * ROWS])  # as anybody's program reads them


def test_the_same_bytes_in_any_order_and_after_interruption(dataset: Dataset) -> None:
    expected = contents(made(dataset))
    assert sorted(expected) == [
        "features.json",
        *(f"train-{n:06d}.safetensors" for n in range(3)),
        "val-000000.safetensors",
    ]
    out = Path(dataset.path) / "features" / "other"

    def stops(folder: Path, what: Recipe, pieces: Sequence[FeaturePiece]) -> Iterator[FeaturePiece]:
        write = in_order(dataset, lambda all_: list(reversed(all_))[:2])
        yield from write(folder, what, pieces)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_features(dataset, out, recipe(dataset), dataset.splits, stops)
    assert not out.exists()
    again: list[int] = []

    def rest(folder: Path, what: Recipe, pieces: Sequence[FeaturePiece]) -> Iterator[FeaturePiece]:
        again.append(len(pieces))
        yield from in_order(dataset)(folder, what, pieces)

    assert write_features(dataset, out, recipe(dataset), dataset.splits, rest)
    assert again == [2] and contents(out) == expected
    assert not write_features(dataset, out, recipe(dataset), dataset.splits, rest)
    other = recipe(dataset, image_size=32)
    with pytest.raises(ValueError, match=r"holds other features .differ in image_size"):
        write_features(dataset, out, other, dataset.splits, rest)


def test_what_does_not_fit_is_refused(dataset: Dataset, written: Callable[..., Path]) -> None:
    with pytest.raises(ValueError, match=r"there are no features at .*none .no features\.json"):
        FeatureShards.open(dataset, "none")
    out = made(dataset)
    shards = FeatureShards.open(dataset, "all")
    assert shards.differences(recipe(dataset, "bfloat16", shard_rows=64)) == []
    wanted = recipe(dataset, encoder="resnet18", weights="1" * 64, image_size=32)
    assert shards.differences(wanted) == [
        "encoder 'statistics', not 'resnet18'",
        "weights 000000000000, not 111111111111",
        "image_size 16, not 32",
    ]
    other = Dataset.open(written("other", train=23, val=4))
    with pytest.raises(ValueError, match=r"was made from another dataset than .*other"):
        FeatureShards.open(other, str(out))
    part = Path(dataset.path) / "features/part"
    assert write_features(dataset, part, recipe(dataset), ["val"], in_order(dataset))
    with pytest.raises(ValueError, match="has features of 0 images of split 'train', which has 23"):
        stored(dataset, "part")


def test_damage_is_found_and_named(dataset: Dataset) -> None:
    out = made(dataset)
    root = Path(dataset.path)
    assert verify(root) == []
    path = out / "train-000001.safetensors"
    data = path.read_bytes()
    row = len(data) - 6 * 4 * ROWS + 2 * 6 * 4  # the third of eight
    flipped = data[:row] + bytes([data[row] ^ 4]) + data[row + 1 :]
    path.write_bytes(flipped)
    name = "features/all/train-000001.safetensors"
    with pytest.raises(DamagedSample, match=f"{name}: train010: its features changed"):
        stored(dataset)
    assert verify(root) == [f"{name}: train010: its features changed (checksum differs)"]
    path.write_bytes(data[:-10])
    with pytest.raises(ValueError, match=f"{name} has {len(data) - 10} bytes instead of"):
        FeatureShards.open(dataset, "all")
    assert any("bytes instead of" in problem for problem in verify(root))
    assert f"{name}: train015: features cut: 14 of 24 bytes" in verify(root)
    path.unlink()
    assert verify(root) == [f"{name}: missing (8 images)"]
    path.write_bytes(struct.pack("<Q", 2) + b"{}" + data[10:])
    with pytest.raises(ValueError, match="damaged: its header cannot be read"):
        stored(Dataset.open(root))
    assert any("its header cannot be read" in problem for problem in verify(root))
    path.write_bytes(data)
    (out / "stray-000000.safetensors").write_bytes(data)
    assert verify(root) == [
        "features/all/stray-000000.safetensors: a shard that features.json does not list"
    ]
    manifest = out / "features.json"
    manifest.write_text(manifest.read_text().replace('"regions": 3', '"regions": 2'))
    with pytest.raises(ValueError, match="damaged, or changed since it was written"):
        FeatureShards.open(dataset, "all")
    assert any("features.json: damaged, or changed" in problem for problem in verify(root))


def test_unreadable_images_are_named_and_bounded(written: Callable[..., Path]) -> None:
    root = written()
    split = Dataset.open(root).split("train")
    path = root / split.shard(3)
    data = bytearray(path.read_bytes())
    data[split.extent(3).offset + 50] ^= 1
    path.write_bytes(data)
    dataset = Dataset.open(root)
    out = root / "features/all"
    options = (recipe(dataset), dataset.splits, in_order(dataset))
    with pytest.raises(TooManyBadSamples, match="train003: its bytes changed"):
        write_features(dataset, out, *options)
    assert write_features(dataset, out, *options, max_bad_samples=1)
    assert list(json.loads((out / "features.json").read_text())["bad"]["train"]) == ["train003"]
    shards = FeatureShards.open(dataset, "all")
    train = dataset.split("train")
    with pytest.raises(ValueError, match=r"1 bad images .* data\.max_bad_samples=0.*train003"):
        shards.of_split(train, device=CPU, dtype=torch.float32)
    read = shards.of_split(train, device=CPU, dtype=torch.float32, max_bad_samples=1)
    live = Features(train, SIZE, batch_statistics, device=CPU, block=BLOCK, max_bad_samples=1)
    assert torch.equal(read.of(torch.arange(23)), live.of(torch.arange(23)))


def tolerant(dataset: Dataset, bound: int) -> StoredFeatures:
    shards = FeatureShards.open(dataset, "all", allow_damage=True)
    train = dataset.split("train")
    return shards.of_split(train, device=CPU, dtype=torch.float32, max_bad_samples=bound)


@pytest.mark.parametrize("remote", [False, True])
def test_zeros_stand_for_damaged_rows_as_far_as_the_bound(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch, remote: bool
) -> None:
    made(dataset)
    expected = stored(dataset)
    monkeypatch.setattr(dataset.folder, "remote", remote)
    path = Path(dataset.path) / "features/all/train-000001.safetensors"
    data = bytearray(path.read_bytes())
    for row in (1, 4):
        data[len(data) - (ROWS - row) * 24] ^= 1
    path.write_bytes(data)
    bounded = tolerant(dataset, 2)
    for _ in range(2):
        found = bounded.of(torch.arange(23))
        assert not found[[9, 12]].any()
        sound = [i for i in range(23) if i not in (9, 12)]
        assert torch.equal(found[sound], expected[sound])
    assert list(bounded.bad) == ["train009", "train012"]
    assert "train009: its features changed" in bounded.bad["train009"]
    with pytest.raises(TooManyBadSamples, match=r"2 bad images .*max_bad_samples=1: .*train012"):
        tolerant(dataset, 1).of(torch.arange(23))
    with pytest.raises(DamagedSample, match="train009: its features changed"):
        stored(dataset)


@pytest.mark.parametrize("remote", [False, True])
def test_what_is_lost_of_shards_is_counted_before_anything_is_read(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch, remote: bool
) -> None:
    made(dataset)
    expected = stored(dataset)
    dataset = Dataset.open(dataset.path)  # without open files
    monkeypatch.setattr(dataset.folder, "remote", remote)
    folder = Path(dataset.path) / "features/all"
    cut = folder / "train-000001.safetensors"
    cut.write_bytes(cut.read_bytes()[:-30])
    (folder / "train-000002.safetensors").unlink()
    lost = [14, 15, *range(16, 23)]
    bounded = tolerant(dataset, len(lost))
    assert list(bounded.bad) == [f"train{i:03d}" for i in lost]  # on every rank
    found = bounded.of(torch.arange(23))
    assert not found[lost].any() and torch.equal(found[:14], expected[:14])
    assert list(bounded.bad) == [f"train{i:03d}" for i in lost]
    with pytest.raises(ValueError, match=r"9 bad images .*max_bad_samples=8.*bytes instead of"):
        tolerant(dataset, 8)
    with pytest.raises(ValueError, match=r"train-000002\.safetensors is missing"):
        FeatureShards.open(dataset, "all")


def test_rows_of_a_shard_that_is_none_count_as_damaged(dataset: Dataset) -> None:
    path = made(dataset) / "train-000001.safetensors"
    path.write_bytes(struct.pack("<Q", 2) + b"{}" + path.read_bytes()[10:])
    bounded = tolerant(dataset, ROWS)
    assert not bounded.of(torch.arange(23))[8:16].any() and len(bounded.bad) == ROWS
    assert "train008: " in bounded.bad["train008"] and "header" in bounded.bad["train008"]
    with pytest.raises(TooManyBadSamples, match="8 bad images"):
        tolerant(dataset, ROWS - 1).of(torch.arange(23))
