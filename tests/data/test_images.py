from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from distgan.data.damage import UnreadableImage
from distgan.data.images import decode, kind_of


def saved(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    data = io.BytesIO()
    image.save(data, kind, **options)
    return data.getvalue()


def plain(mode: str, colour: object, size: tuple[int, int] = (40, 30)) -> Image.Image:
    return Image.new(mode, size, colour)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (saved(plain("RGB", (200, 100, 50))), (200, 100, 50)),
        (saved(plain("RGB", (200, 100, 50)), "JPEG", quality=95), (200, 100, 50)),
        (saved(plain("RGB", (200, 100, 50)), "WEBP", lossless=True), (200, 100, 50)),
        (saved(plain("L", 77)), (77, 77, 77)),
        (saved(plain("L", 77), "JPEG", quality=95), (77, 77, 77)),
        (saved(plain("CMYK", (0, 255, 255, 0)), "JPEG", quality=95), (255, 0, 0)),
        (saved(plain("RGBA", (255, 0, 0, 0))), (255, 255, 255)),
        (saved(plain("RGBA", (0, 0, 0, 128))), (127, 127, 127)),
        (saved(plain("LA", (0, 255))), (0, 0, 0)),
        (saved(plain("P", 0)), (0, 0, 0)),
        (saved(plain("1", 1)), (255, 255, 255)),
        (saved(Image.fromarray(np.full((30, 40), 200 * 257, np.uint16))), (200, 200, 200)),
    ],
)
def test_every_kind_of_image_becomes_rgb(data: bytes, expected: tuple[int, ...]) -> None:
    pixels = decode(data, 16)
    assert pixels.shape == (3, 16, 16) and pixels.dtype == torch.uint8
    assert (pixels.float() - torch.tensor(expected)[:, None, None]).abs().max() <= 2


def test_the_middle_is_cut_out_of_the_resized_image() -> None:
    image = plain("RGB", "red", (90, 30))
    image.paste("blue", (30, 0, 60, 30))
    inside = decode(saved(image), 10)[:, 1:-1, 1:-1]  # the resize blends across the cut
    assert inside.float().mean((1, 2)).tolist() == [0, 0, 255]
    upright = decode(saved(image.rotate(90, expand=True)), 60)[:, 3:-3, 3:-3]
    assert upright.float().mean((1, 2)).tolist() == [0, 0, 255]


def test_reduced_decoding_agrees_with_full_decoding() -> None:
    """A large JPEG decoded at a fraction of its size looks like its resized full self."""
    smooth = np.linspace(0, 255, 640)[None, :, None] * np.ones((480, 1, 3))
    image = Image.fromarray(smooth.astype(np.uint8))
    small, full = decode(saved(image, "JPEG"), 32), decode(saved(image), 32)
    assert (small.float() - full.float()).abs().max() <= 4


def test_exif_rotation_is_applied() -> None:
    image = plain("RGB", "red", (40, 40))
    image.paste("blue", (0, 0, 40, 20))  # blue above red
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show it turned by a quarter to the right
    turned = decode(saved(image, "JPEG", exif=exif, quality=95), 8)
    assert turned[2, :, -2:].min() > 200 and turned[0, :, :2].min() > 200


def test_what_is_no_whole_image_is_refused() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    jpeg = saved(Image.fromarray(noise), "JPEG")
    for data in (b"", b"no image", jpeg[: len(jpeg) // 2], jpeg[:30], saved(plain("L", 1), "GIF")):
        with pytest.raises(UnreadableImage):
            decode(data, 16)
    with pytest.raises(UnreadableImage):
        kind_of(b"no image")
    assert kind_of(jpeg) == "jpg"


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("side", [9_500, 60_000])
def test_a_bomb_is_refused_before_it_unfolds(side: int) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
    with pytest.raises(UnreadableImage, match="pixels"):
        decode(bomb, 16)
