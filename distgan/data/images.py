"""From an image file's bytes to a square uint8 tensor; encoders normalise on the device."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable

import numpy as np
import simplejpeg
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional

from distgan.data.damage import UnreadableImage

MAX_PIXELS = 80_000_000  # more are refused: a small file can unfold into gigabytes
FORMATS = ("JPEG", "PNG", "WEBP")
PREPROCESSING = "middle square; JPEG at 1/2, 1/4, 1/8 above twice the size; bilinear, antialiased"
"""Names what `decode` does to an image; features of images treated otherwise are others."""
_EXTENSIONS = {"JPEG": "jpg", "MPO": "jpg", "PNG": "png", "WEBP": "webp"}  # MPO: cameras' JPEG

_ORIENTATION = 0x0112  # EXIF's tag, and what to do about each value, to pixels (3, H, W)
_UPRIGHT: dict[int, Callable[[Tensor], Tensor]] = {
    2: lambda x: x.flip(2),
    3: lambda x: x.flip(1, 2),
    4: lambda x: x.flip(1),
    5: lambda x: x.transpose(1, 2),
    6: lambda x: x.transpose(1, 2).flip(2),
    7: lambda x: x.transpose(1, 2).flip(1, 2),
    8: lambda x: x.transpose(1, 2).flip(1),
}


def decode(data: bytes, size: int) -> Tensor:
    """(3, size, size) uint8 RGB: the middle square, resized to `size` pixels with antialiasing.

    Grey, CMYK, palette and 16-bit images become RGB, transparent ones lie on white, EXIF
    rotation is applied. A JPEG is decoded at 1/2, 1/4 or 1/8 where that leaves twice `size`
    pixels: grey levels then differ from a full decode's about as two resize filters differ.
    UnreadableImage for anything that cannot be decoded whole.
    """
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise UnreadableImage(f"{width} x {height} pixels are more than {MAX_PIXELS:,}")
            turn = _UPRIGHT.get(orientation(image))
            pixels = _decode_jpeg(data, image, size)
            if pixels is None:
                pixels = np.array(rgb(image))
    except Image.DecompressionBombError as error:
        raise UnreadableImage(str(error)) from error
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, TypeError) as error:
        if isinstance(error, UnreadableImage):
            raise
        raise UnreadableImage(f"undecodable image of {len(data)} bytes: {error}") from error
    fitted = middle(torch.from_numpy(pixels).permute(2, 0, 1), size)
    return (fitted if turn is None else turn(fitted)).contiguous()


def middle(pixels: Tensor, size: int) -> Tensor:
    """(3, size, size) of pixels uint8 (3, H, W): the middle square, resized with antialiasing."""
    square = central(pixels)
    if square.shape[-1] == size:
        return square
    shape = (size, size)
    return functional.interpolate(square[None], shape, mode="bilinear", antialias=True)[0]


def central(pixels: Tensor) -> Tensor:
    """The middle square (3, S, S) of pixels (3, H, W), a view."""
    height, width = pixels.shape[1:]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return pixels[:, top : top + side, left : left + side]


def _decode_jpeg(data: bytes, image: Image.Image, size: int) -> NDArray[np.uint8] | None:
    """(H, W, 3), at the smallest fast scale that leaves 2 `size` pixels; None for other files.

    Also None where the fast decoder finds fault: Pillow then decides what is whole.
    """
    if image.format not in ("JPEG", "MPO") or image.mode not in ("RGB", "L"):
        return None
    width, height = image.size
    # with fewer than twice the pixels the final resize cannot hide the decoder's own filter;
    # scales between these, 5/8 say, take longer than the whole picture
    scale = next((s for s in (8, 4, 2) if min(width, height) >= 2 * size * s), 1)
    least = {"min_width": -(-width // scale), "min_height": -(-height // scale)}
    try:
        return simplejpeg.decode_jpeg(data, "RGB", **least)
    except ValueError:
        return None


def orientation(image: Image.Image) -> int:
    """EXIF's number for how the camera was held; 1: upright, or not said."""
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except (SyntaxError, ValueError, TypeError, OSError, struct.error):
        return 1  # garbled EXIF says nothing about the picture itself


def rgb(image: Image.Image) -> Image.Image:
    """Eight bits for each of three colours; what is transparent lies on white."""
    if image.mode.startswith("I") or image.mode == "F":  # 16 bits a pixel
        values = np.asarray(image).astype(np.float64)
        return Image.fromarray((values.clip(0, 65535) // 257).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        above = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", above.size, "white"), above)
    return image.convert("RGB")


def kind_of(data: bytes) -> str:
    """The extension an image file should have: jpg, png or webp. UnreadableImage for others."""
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            return _EXTENSIONS[str(image.format)]
    except (OSError, SyntaxError) as error:
        raise UnreadableImage(f"no image of the kinds {', '.join(FORMATS)}: {error}") from error
