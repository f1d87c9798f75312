"""Draws scenes: outlines filled at four times the resolution, then averaged."""

from __future__ import annotations

import io
import math

import numpy as np
from PIL import Image, ImageDraw

from distgan.data.shapes.chance import grain
from distgan.data.shapes.scenes import Scene, Thing

_OVERSAMPLING = 4
_GRAINS = 32  # of noise along a side, so that noise looks alike at every size
_QUALITY = 90
_REACH = 1.1  # no outline goes further, share of the radius
_HOLE = 0.55  # of a ring, share of its radius


def picture(scene: Scene, size: int) -> np.ndarray:
    """The scene as uint8 (size, size, 3)."""
    pixels = _background(scene, size)
    for thing in scene.things:
        mask, left, top = _mask(thing, size)
        part = pixels[top : top + mask.shape[0], left : left + mask.shape[1]]
        part += mask[:, :, None] * (np.asarray(thing.rgb, dtype=np.float64) - part)
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8)


def jpeg(scene: Scene, size: int) -> bytes:
    """The scene as a JPEG file of size x size pixels, colours at full resolution."""
    file = io.BytesIO()
    Image.fromarray(picture(scene, size)).save(file, "JPEG", quality=_QUALITY, subsampling=0)
    return file.getvalue()


def _background(scene: Scene, size: int) -> np.ndarray:
    pixels = np.empty((size, size, 3))
    pixels[:] = scene.background
    if scene.noise:
        nearest = np.arange(size) * _GRAINS // size
        pixels += scene.noise * grain(scene.grain, _GRAINS, _GRAINS)[nearest][:, nearest]
    return pixels


def _mask(thing: Thing, size: int) -> tuple[np.ndarray, int, int]:
    """Share of each pixel that the thing covers, (rows, columns), and the first column and row."""
    reach = _REACH * thing.radius * size + 1
    left, top = (max(0, math.floor(centre * size - reach)) for centre in (thing.x, thing.y))
    right, bottom = (min(size, math.ceil(c * size + reach)) for c in (thing.x, thing.y))
    canvas = Image.new("L", ((right - left) * _OVERSAMPLING, (bottom - top) * _OVERSAMPLING))
    middle = np.array([thing.x * size - left, thing.y * size - top]) * _OVERSAMPLING
    _fill(ImageDraw.Draw(canvas), thing, middle, thing.radius * size * _OVERSAMPLING)
    return np.asarray(canvas.reduce(_OVERSAMPLING), dtype=np.float64) / 255, left, top


def _fill(draw: ImageDraw.ImageDraw, thing: Thing, middle: np.ndarray, radius: float) -> None:
    if thing.shape in _OUTLINES:
        turn = math.radians(thing.turn)
        rotation = np.array([[math.cos(turn), math.sin(turn)], [-math.sin(turn), math.cos(turn)]])
        outline = _OUTLINES[thing.shape] @ rotation * radius + middle
        draw.polygon([tuple(point) for point in outline.tolist()], fill=255)
        return
    _disc(draw, middle, _ROUND[thing.shape] * radius, 255)
    if thing.shape == "ring":
        _disc(draw, middle, _HOLE * radius, 0)


def _disc(draw: ImageDraw.ImageDraw, middle: np.ndarray, radius: float, fill: int) -> None:
    x, y = middle.tolist()
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=fill)


def _corners(radii: tuple[float, ...], count: int, start: float) -> np.ndarray:
    """`count` corners (count, 2) at equal angles from `start` degrees, radii taken in turn."""
    angles = np.radians(start + 360 / count * np.arange(count))
    radius = np.resize(np.array(radii), count)
    return np.stack([radius * np.cos(angles), radius * np.sin(angles)], 1)


def _plus(arm: float) -> np.ndarray:
    """The outline of an upright cross (12, 2), arms of half-width `arm`, tips at distance 1."""
    quarter = np.array([[arm, -arm], [1.0, -arm], [1.0, arm]])
    turn = np.array([[0.0, 1.0], [-1.0, 0.0]])
    return np.concatenate([quarter @ np.linalg.matrix_power(turn, k) for k in range(4)])


_OUTLINES = {
    "square": _corners((1.1,), 4, 45),
    "triangle": _corners((1.05,), 3, -90) + np.array([0, 0.15]),
    "star": _corners((1.05, 0.44), 10, -90),
    "cross": _plus(0.3),
}
_ROUND = {"circle": 0.9, "ring": 1.0}
