"""From an image file's bytes to a square uint8 tensor; encoders normalise on the device."""

from __future__ import annotations

import io
import struct

import numpy as np
import torch
from PIL import Image, ImageOps
from PIL.Image import Transpose
from torch import Tensor

from distgan.data.damage import UnreadableImage

MAX_PIXELS = 80_000_000  # more are refused: a small file can unfold into gigabytes
FORMATS = ("JPEG", "PNG", "WEBP")

_ORIENTATION = 0x0112  # EXIF's tag, and what to do about each value
_UPRIGHT = {
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}


def decode(data: bytes, size: int) -> Tensor:
    """(3, size, size) uint8 RGB: the shorter side resized to `size` pixels, the middle cut out.

    Grey, CMYK, palette and 16-bit images become RGB, transparent ones lie on white, EXIF
    rotation is applied, JPEGs are decoded at a reduced size where that loses nothing.
    UnreadableImage for anything that cannot be decoded whole.
    """
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise UnreadableImage(f"{width} x {height} pixels are more than {MAX_PIXELS:,}")
            scale = size / min(width, height)
            wide, high = max(size, round(width * scale)), max(size, round(height * scale))
            # twice the target leaves the antialiasing of the final resize its input
            image.draft(None, (2 * wide, 2 * high))
            turn = _UPRIGHT.get(_orientation(image))
            fitted = ImageOps.fit(_rgb(image), (size, size), Image.Resampling.BILINEAR)
            upright = fitted if turn is None else fitted.transpose(turn)
    except Image.DecompressionBombError as error:
        raise UnreadableImage(str(error)) from error
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, TypeError) as error:
        if isinstance(error, UnreadableImage):
            raise
        raise UnreadableImage(f"undecodable image of {len(data)} bytes: {error}") from error
    return torch.from_numpy(np.array(upright)).permute(2, 0, 1).contiguous()


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except (SyntaxError, ValueError, TypeError, OSError, struct.error):
        return 1  # garbled EXIF says nothing about the picture itself


def _rgb(image: Image.Image) -> Image.Image:
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
            return {"JPEG": "jpg", "PNG": "png", "WEBP": "webp"}[str(image.format)]
    except (OSError, SyntaxError) as error:
        raise UnreadableImage(f"no image of the kinds {', '.join(FORMATS)}: {error}") from error
