"""Images on their way into shards: which are written anew, and that they look the same after."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from made_up_samples import picture
from PIL import Image

from distgan.data.damage import UnreadableImage
from distgan.data.images import decode, kind_of
from distgan.data.reencode import Encoding

PHOTOGRAPHS = Path(__file__).resolve().parents[2].parent / "shared/data/coco_tiny/val2017"


def size_of(data: bytes) -> tuple[int, int]:
    with Image.open(io.BytesIO(data)) as image:
        return image.size


def gradient(size: tuple[int, int], mode: str = "RGB") -> Image.Image:
    """Different in every corner, so that a turned one shows."""
    wide, high = size
    x, y = np.meshgrid(np.linspace(0, 255, wide), np.linspace(0, 255, high))
    pixels = np.stack([x, y, 255 - x], -1).astype(np.uint8)
    return Image.fromarray(pixels).convert(mode)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_small_enough_images_keep_their_bytes(kind: str) -> None:
    data = picture(1, (40, 30), kind)
    extension = kind_of(data)
    for encoding in (Encoding(), Encoding(30), Encoding(31), Encoding(None, "keep", 5)):
        assert encoding.apply(data, extension) == (data, extension)
    if extension != "png":
        assert Encoding(30, extension).apply(data, extension) == (data, extension)


@pytest.mark.parametrize(
    ("given", "shorter", "expected"),
    [
        ((400, 300), 100, (133, 100)),
        ((300, 400), 100, (100, 133)),
        ((400, 300), 299, (399, 299)),
        ((1000, 4), 3, (750, 3)),
        ((50, 50), 20, (20, 20)),
    ],
)
def test_the_shorter_side_becomes_what_was_asked_for(
    given: tuple[int, int], shorter: int, expected: tuple[int, int]
) -> None:
    for kind in ("JPEG", "PNG"):
        data, extension = Encoding(shorter).apply(picture(2, given, kind), "x")
        assert size_of(data) == expected and extension == kind_of(data) == "jpg"
        data, extension = Encoding(shorter, "webp").apply(picture(2, given, kind), "x")
        assert size_of(data) == expected and extension == kind_of(data) == "webp"


def test_other_kinds_are_written_anew_when_asked_for() -> None:
    data, extension = Encoding(None, "jpg", 90).apply(picture(3, (64, 64), "PNG"), "png")
    assert extension == kind_of(data) == "jpg" and size_of(data) == (64, 64)
    worse, _ = Encoding(None, "jpg", 10).apply(picture(3, (64, 64), "PNG"), "png")
    assert len(worse) < len(data)


def apart(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a.float() - b.float()).abs().mean())


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK", "P", "RGBA", "I;16"])
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_what_is_seen_stays_the_same(mode: str, orientation: int) -> None:
    """The decoder sees in the new file what it saw in the old one, turned and all."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = gradient((96, 64), "L" if mode == "I;16" else mode)
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image).astype(np.uint16) * 257)
    if mode == "RGBA":
        image.putalpha(gradient((96, 64), "L"))
    file = io.BytesIO()
    image.save(file, "JPEG" if mode == "CMYK" else "PNG", exif=exif)
    before = decode(file.getvalue(), 32)
    for encoding in (Encoding(None, "jpg"), Encoding(48), Encoding(32, "webp")):
        data, extension = encoding.apply(file.getvalue(), kind_of(file.getvalue()))
        assert extension == kind_of(data)
        after = decode(data, 32)
        assert apart(after, before) < 4, encoding
        assert apart(after, before) < apart(before.flip(2), before) / 4
        if data == file.getvalue():
            continue
        with Image.open(io.BytesIO(data)) as written:
            assert written.mode == "RGB" and not dict(written.getexif())


def test_the_same_bytes_come_out_each_time() -> None:
    data = picture(4, (300, 200))
    for encoding in (Encoding(100), Encoding(150, "webp", 80)):
        assert encoding.apply(data, "jpg") == encoding.apply(data, "jpg")


def test_what_cannot_be_decoded_whole_is_refused() -> None:
    whole = picture(5, (300, 200))
    for bad in (whole[: len(whole) // 2], b"nothing", b""):
        with pytest.raises(UnreadableImage):
            Encoding(100).apply(bad, "jpg")
    with pytest.raises(ValueError, match="shorter must be at least 1, got 0"):
        Encoding(0)
    with pytest.raises(ValueError, match=r"quality must be in \[1, 100\], got 101"):
        Encoding(quality=101)


@pytest.mark.skipif(not PHOTOGRAPHS.is_dir(), reason="no photographs beside the repository")
def test_photographs_lose_little() -> None:
    """Training at 224 pixels on images stored at 256 sees nearly what it saw in the originals."""
    differences = []
    for path in sorted(PHOTOGRAPHS.glob("*.jpg"))[:12]:
        data = path.read_bytes()
        small, _ = Encoding(256).apply(data, "jpg")
        if min(size_of(data)) > 256:
            assert min(size_of(small)) == 256 and len(small) < len(data)
            differences.append(apart(decode(small, 224), decode(data, 224)))
    assert np.mean(differences) < 3.5, differences
