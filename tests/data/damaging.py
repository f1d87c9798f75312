"""Streams over damaged datasets, and what they must survive."""

from __future__ import annotations

from pathlib import Path

from distgan.data.dataset import Dataset
from distgan.data.sources import CaptionedImages
from distgan.data.stream import Stream


def flipped(data: bytes, byte: int) -> bytes:
    return data[:byte] + bytes([data[byte] ^ 8]) + data[byte + 1 :]


def stream(root: Path, bound: int) -> Stream:
    dataset = Dataset.open(root, allow_damage=bound > 0)
    source = CaptionedImages(dataset.split("train"), dataset.vocabulary, 8, image_size=16)
    return Stream(source, name="s", rows=len(source), seed=0, max_bad_samples=bound)


def survived(root: Path, keys: set[str], bound: int) -> None:
    """An epoch goes by; other samples stand in for these keys, which are named and counted."""
    tolerant = stream(root, bound)
    batch = next(tolerant)
    assert not keys & set(batch["key"]) and len(batch["key"]) == tolerant.rows
    assert {what.split(": ")[1] for what in tolerant.bad} == keys
    assert sum(n for _, _, n in tolerant.state_dict()["bad"]) == bound
