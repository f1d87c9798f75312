"""Decoding a batch's files on a device: the CPU stands for the GPU here."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from made_up_samples import Numbers, picture
from PIL import Image

from distgan.data.damage import TooManyBadSamples, UnreadableImage
from distgan.data.dataset import Dataset
from distgan.data.device_images import DeviceDecoder, decode_files
from distgan.data.features import Features
from distgan.data.images import decode
from distgan.data.samples import Sample
from distgan.data.shards import WriteOptions, write_dataset
from distgan.data.sources import CaptionedImages, as_file
from distgan.data.stream import Stream

CPU = torch.device("cpu")
SIZE = 12


@pytest.fixture(autouse=True)
def quiet() -> None:
    warnings.filterwarnings("ignore", message=".*TorchCodec.*")


def test_files_become_the_images_of_the_usual_decoder() -> None:
    turned = Image.Exif()
    turned[0x0112] = 6
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 30), np.uint8))
    whole = [picture(i, (24 + i, 18)) for i in range(3)]
    whole += [picture(3, kind="PNG"), picture(4, kind="WEBP")]
    for options in ({"exif": turned}, {}):
        data = io.BytesIO()
        noise.save(data, "JPEG", **options)
        whole.append(data.getvalue())
    for damaged in ([], [b"nothing"], [whole[0][:-40]]):
        images = decode_files([as_file(data) for data in whole + damaged], SIZE, CPU)
        for data, image in zip(whole, images, strict=False):
            assert isinstance(image, torch.Tensor) and image.dtype == torch.uint8
            assert (image.int() - decode(data, SIZE).int()).abs().max() <= 1
        assert all(isinstance(image, UnreadableImage) for image in images[len(whole) :])
        assert len(images) == len(whole) + len(damaged)


def streams(root: Path, loaders: int, bound: int) -> tuple[Stream, Stream]:
    """One that decodes when it reads, and one that leaves it to the device."""
    split = Dataset.open(root).split("train")
    made = []
    for files in (False, True):
        words = split.dataset.vocabulary
        source = CaptionedImages(split, words, 6, image_size=SIZE, files=files)
        made.append(
            Stream(
                source,
                name="s",
                rows=10,
                seed=1,
                loaders=loaders * files,
                max_bad_samples=bound,
                decoder=DeviceDecoder(source, SIZE, CPU) if files else None,
            )
        )
    return made[0], made[1]


@pytest.mark.parametrize("loaders", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_a_stream_of_files_is_the_stream_of_images(
    written: Callable[..., Path], loaders: int
) -> None:
    usual, by_device = streams(written(), loaders, 0)
    for _ in range(8):  # over an epoch's end
        expected, batch = next(usual), next(by_device)
        assert batch.keys() == expected.keys() and batch["key"] == expected["key"]
        for name in ("words", "style", "id", "position"):
            assert torch.equal(batch[name], expected[name])
        assert (batch["image"].int() - expected["image"].int()).abs().max() <= 1
    assert usual.state_dict() == by_device.state_dict()
    by_device.close()


def test_what_the_device_cannot_decode_is_replaced_as_ever(tmp_path: Path) -> None:
    root = tmp_path / "cut"
    assert write_dataset(Cut(), {"name": "cut"}, root, WriteOptions())
    usual, by_device = streams(root, 0, 10)
    for _ in range(8):
        expected, batch = next(usual), next(by_device)
        assert batch["key"] == expected["key"] and torch.equal(batch["words"], expected["words"])
        assert (batch["image"].int() - expected["image"].int()).abs().max() <= 1
    assert usual.state_dict() == by_device.state_dict()
    assert usual.state_dict()["bad"] and len(by_device.bad) == len(usual.bad) > 0
    assert "train005: undecodable image" in by_device.bad[0]
    split = Dataset.open(root).split("train")

    def look(images: torch.Tensor) -> torch.Tensor:
        return images.float()

    here, there = (
        Features(split, SIZE, look, device=CPU, max_bad_samples=1, decode=decode)
        for decode in ("cpu", "gpu")
    )
    assert (here.of(torch.arange(23)) - there.of(torch.arange(23))).abs().max() <= 1
    assert here.bad.keys() == there.bad.keys() == {5}
    _, strict = streams(root, 0, 0)
    with pytest.raises(TooManyBadSamples, match="train005: undecodable image"):
        for _ in range(8):
            next(strict)


class Cut(Numbers):
    """Numbers whose sixth image ends too early."""

    def sample(self, split: str, i: int) -> Sample:
        sample = super().sample(split, i)
        return sample if i != 5 else replace(sample, image=sample.image[:-60])
