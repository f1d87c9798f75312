from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

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


def photograph(seed: int, size: tuple[int, int]) -> Image.Image:
    """Noise with as much of each frequency as photographs have: 1/f."""
    wide, high = size
    noise = np.random.default_rng(seed).standard_normal((high, wide, 3))
    f = np.hypot(np.fft.fftfreq(high)[:, None], np.fft.fftfreq(wide)[None])[..., None]
    pixels = np.fft.ifft2(np.fft.fft2(noise, axes=(0, 1)) / np.maximum(f, 1 / wide), axes=(0, 1))
    return Image.fromarray((128 + 50 * pixels.real / pixels.real.std()).clip(0, 255).astype("u1"))


def reference(data: bytes, size: int, how: Image.Resampling) -> torch.Tensor:
    """The slow obvious way: everything decoded, the middle cut out, resized."""
    image = Image.open(io.BytesIO(data)).convert("RGB")
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    square = image.crop((left, top, left + side, top + side)).resize((size, size), how)
    return torch.from_numpy(np.array(square)).permute(2, 0, 1)


def apart(a: torch.Tensor, b: torch.Tensor) -> float:
    """The mean absolute difference in grey levels of 255."""
    return float((a.float() - b.float()).abs().mean())


@pytest.mark.parametrize("size", [19, 30, 64, 100, 224, 479])
@pytest.mark.parametrize("shape", [(640, 479), (427, 640), (500, 333)])
def test_reduced_decoding_agrees_with_full_decoding(shape: tuple[int, int], size: int) -> None:
    picture = photograph(size, shape)
    for data in (saved(picture, "JPEG", quality=92), saved(picture, "JPEG", subsampling=0)):
        how = Image.Resampling
        expected = reference(data, size, how.BILINEAR)
        other = reference(data, size, how.BICUBIC)
        assert apart(decode(data, size), expected) <= 1.5 * apart(other, expected)


def test_photographs_decoded_at_reduced_scale_stay_near_full_decoding() -> None:
    folder = Path(__file__).resolve().parents[2].parent / "shared/data/coco_tiny"
    paths = sorted(folder.rglob("*.jpg"))[:40]
    if not paths:
        pytest.skip(f"no photographs in {folder}")
    for size, mean in ((32, 2), (64, 1.5), (224, 0.5)):
        off = [
            apart(decode(data, size), reference(data, size, Image.Resampling.BILINEAR))
            for data in (path.read_bytes() for path in paths)
        ]
        assert np.mean(off) <= mean and max(off) <= 6, (size, np.mean(off), max(off))


@pytest.mark.parametrize("shape", [(700, 500), (300, 200), (20, 31), (1, 9), (48, 48)])
def test_resizing_is_antialiased(shape: tuple[int, int]) -> None:
    data = saved(photograph(0, shape))
    expected = reference(data, 48, Image.Resampling.BILINEAR)
    assert (decode(data, 48).int() - expected.int()).abs().max() <= 1


def test_exif_rotation_is_applied() -> None:
    picture = photograph(1, (40, 40))
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        for kind in ("JPEG", "PNG"):
            data = saved(picture, kind, exif=exif)
            expected = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
            pixels = decode(data, 40).permute(1, 2, 0).numpy()
            assert np.array_equal(pixels, np.array(expected)), (orientation, kind)


def test_files_that_only_pillow_accepts_are_decoded() -> None:
    picture = photograph(2, (64, 48))
    whole = saved(picture, "JPEG", quality=95)
    expected = decode(whole, 48)
    assert torch.equal(decode(whole + b"and more", 48), expected)
    scan = whole.index(b"\xff\xda")
    assert torch.equal(decode(whole[:scan] + b"stray" + whole[scan:], 48), expected)
    second = saved(picture, "MPO", save_all=True, append_images=[picture], quality=95)
    assert kind_of(second) == "jpg" and torch.equal(decode(second, 48), expected)


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
