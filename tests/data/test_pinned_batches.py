"""Batches read in the process itself are pinned where there is CUDA, as those of loaders are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from distgan.data.dataset import Dataset
from distgan.data.sources import CaptionedImages
from distgan.data.stream import Stream


@pytest.fixture
def stream(written: Callable[..., Path]) -> Callable[[bool], Stream]:
    dataset = Dataset.open(written())

    def make(pin: bool) -> Stream:
        source = CaptionedImages(dataset.split("val"), dataset.vocabulary, 6, image_size=16)
        return Stream(source, name="s", rows=4, seed=0, pin=pin)

    return make


@pytest.mark.skipif(torch.cuda.is_available(), reason="of machines without CUDA")
def test_without_cuda_pinning_changes_nothing(stream: Callable[[bool], Stream]) -> None:
    plain, pinned = next(stream(False)), next(stream(True))
    assert plain.keys() == pinned.keys() and plain["key"] == pinned["key"]
    for name, value in pinned.items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(value, plain[name]) and not value.is_pinned()


def test_with_cuda_every_tensor_is_pinned(
    stream: Callable[[bool], Stream], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def pin_memory(tensor: torch.Tensor) -> torch.Tensor:
        asked.append(tensor.numel())
        return tensor

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.Tensor, "pin_memory", pin_memory)
    batch = next(stream(True))
    tensors = [value for value in batch.values() if isinstance(value, torch.Tensor)]
    assert sorted(asked) == sorted(tensor.numel() for tensor in tensors)
    asked.clear()
    next(stream(False))
    assert asked == []


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_on_a_gpu_machine_batches_lie_in_pinned_memory(stream: Callable[[bool], Stream]) -> None:
    plain, pinned = next(stream(False)), next(stream(True))
    for name, value in pinned.items():
        if isinstance(value, torch.Tensor):
            assert value.is_pinned() and torch.equal(value, plain[name])
