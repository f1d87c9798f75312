from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from distgan.data.damage import TooManyBadSamples
from distgan.data.dataset import Dataset, Split
from distgan.data.features import Features


@pytest.fixture
def split(written: Callable[..., Path]) -> Split:
    return Dataset.open(written()).split("train")


def batch_statistics(images: torch.Tensor) -> torch.Tensor:
    """An encoder whose answer depends on everything encoded with it, as rounding does."""
    values = images.double().flatten(1)[:, :6].reshape(-1, 3, 2)
    return values - values.mean(0)


def test_features_do_not_depend_on_who_asks(split: Split) -> None:
    def make() -> Features:
        return Features(split, 16, batch_statistics, device=torch.device("cpu"), block=4)

    whole = make().of(torch.arange(23))
    assert whole.shape == (23, 3, 2)
    for ids in ([5], [22, 0, 22], [7, 3, 21, 11]):
        assert torch.equal(make().of(torch.tensor(ids)), whole[ids])
    expected = batch_statistics(torch.stack([split.image(i, 16) for i in range(4, 8)]))
    assert torch.equal(whole[4:8], expected)


def test_images_are_encoded_once(split: Split) -> None:
    seen: list[int] = []

    def encode(images: torch.Tensor) -> torch.Tensor:
        seen.append(len(images))
        return images.float().flatten(1)[:, None]

    features = Features(split, 16, encode, device=torch.device("cpu"), block=10)
    for ids in ([1, 2], [0, 9, 12], [22], [3]):
        features.of(torch.tensor(ids))
    assert seen == [10, 10, 3]


def test_damaged_images_are_named_and_bounded(split: Split) -> None:
    path = Path(split.dataset.path) / split.shard(3)
    data = bytearray(path.read_bytes())
    data[int(split._offsets[3]) + 50] ^= 1
    path.write_bytes(data)
    device = torch.device("cpu")
    with pytest.raises(TooManyBadSamples, match=r"train-000000\.tar: train003: its bytes changed"):
        Features(split, 16, batch_statistics, device=device).of(torch.tensor([0]))
    bounded = Features(split, 16, batch_statistics, device=device, max_bad_samples=1)
    bounded.of(torch.arange(23))
    assert list(bounded.bad) == [3]
