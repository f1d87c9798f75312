"""Image files made smaller or of another kind, before they go into shards."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Literal

from PIL import Image
from PIL.Image import Resampling, Transpose

from distgan.data.damage import UnreadableImage
from distgan.data.images import FORMATS, MAX_PIXELS, kind_of, orientation, rgb

# what to do about each value of EXIF's orientation
_UPRIGHT = {
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}
_FULL_COLOUR = 90  # JPEG quality from which colours are kept at full resolution

Encode = Literal["keep", "jpg", "webp"]


@dataclass(frozen=True)
class Encoding:
    """What image files are to become.

    An image whose shorter side is above `shorter` pixels is resized to it. `keep` writes only
    such images anew, as JPEG; `jpg` and `webp` also those of another kind. All other files keep
    their bytes.
    """

    shorter: int | None = None
    encode: Encode = "keep"
    quality: int = 95

    def __post_init__(self) -> None:
        if self.shorter is not None and self.shorter < 1:
            raise ValueError(f"shorter must be at least 1, got {self.shorter}")
        if not 1 <= self.quality <= 100:
            raise ValueError(f"quality must be in [1, 100], got {self.quality}")

    def apply(self, data: bytes, extension: str) -> tuple[bytes, str]:
        """An image file as asked for, with its extension; the same bytes each time.

        A file written anew is upright RGB without metadata: `images.decode` sees in it what it
        saw in the original. UnreadableImage when the original cannot be decoded whole.
        """
        if self.shorter is None and self.encode in ("keep", extension):
            return data, extension
        try:
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                shape = self._shape(*image.size)
                if shape == image.size and self.encode in ("keep", kind_of(data)):
                    return data, extension
                return self._encoded(_upright(image, shape))
        except UnreadableImage:
            raise
        except (OSError, SyntaxError, ValueError, EOFError, IndexError, TypeError) as error:
            raise UnreadableImage(f"undecodable image of {len(data)} bytes: {error}") from error
        except Image.DecompressionBombError as error:
            raise UnreadableImage(str(error)) from error

    def _shape(self, width: int, height: int) -> tuple[int, int]:
        if width * height > MAX_PIXELS:
            raise UnreadableImage(f"{width} x {height} pixels are more than {MAX_PIXELS:,}")
        least = min(width, height)
        if self.shorter is None or least <= self.shorter:
            return width, height
        scale = self.shorter / least
        return max(self.shorter, round(width * scale)), max(self.shorter, round(height * scale))

    def _encoded(self, image: Image.Image) -> tuple[bytes, str]:
        data = io.BytesIO()
        if self.encode == "webp":
            image.save(data, "WEBP", quality=self.quality, method=4)
            return data.getvalue(), "webp"
        subsampling = "4:4:4" if self.quality >= _FULL_COLOUR else "4:2:0"
        image.save(data, "JPEG", quality=self.quality, subsampling=subsampling)
        return data.getvalue(), "jpg"


def _upright(image: Image.Image, shape: tuple[int, int]) -> Image.Image:
    """Resized to `shape`, which is the stored one, then turned as EXIF says."""
    turn = _UPRIGHT.get(orientation(image))
    # a JPEG is decoded at a fraction that leaves the antialiasing twice what it needs
    image.draft(None, (2 * shape[0], 2 * shape[1]))
    picture = rgb(image)
    if picture.size != shape:
        picture = picture.resize(shape, Resampling.LANCZOS)
    if turn is not None:
        picture = picture.transpose(turn)
    bare = Image.new("RGB", picture.size)  # no profile, no comment, no EXIF comes along
    bare.paste(picture)
    return bare
