"""CUB-200-2011 and AttnGAN's folders in small, written to the published layout."""

from __future__ import annotations

import io
import pickle
from pathlib import Path

import numpy as np
from PIL import Image

STEMS = [f"{label:03d}.Bird_{label}/Bird_{label}_{i:04d}" for label in (1, 2, 3) for i in range(4)]
"""Twelve photographs of three species."""
BOXES = {stem: (4.0 + i, 6.0, 20.0, 10.0 + i) for i, stem in enumerate(STEMS)}


def class_of(stem: str) -> int:
    return int(stem[:3])


def photograph(i: int, size: tuple[int, int] = (60, 48)) -> bytes:
    """A JPEG whose pixels tell where they are: red grows to the right, green downwards."""
    width, height = size
    pixels = np.empty((height, width, 3), np.uint8)
    pixels[..., 0] = np.linspace(0, 240, width)[None, :]
    pixels[..., 1] = np.linspace(0, 240, height)[:, None]
    pixels[..., 2] = 20 * i
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=95, subsampling=0)
    return file.getvalue()


def write_photographs(folder: Path) -> None:
    for i, stem in enumerate(STEMS):
        path = folder / f"{stem}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(photograph(i))


def write_cub(root: Path, end: str = "\n") -> Path:
    """The tables and photographs; every fourth photograph is for testing."""
    root.mkdir(parents=True)
    ids = {stem: i for i, stem in enumerate(STEMS, 1)}
    tables = {
        "images.txt": [f"{i} {stem}.jpg" for stem, i in ids.items()],
        "image_class_labels.txt": [f"{i} {class_of(stem)}" for stem, i in ids.items()],
        "classes.txt": [f"{label} {label:03d}.Bird_{label}" for label in (1, 2, 3)],
        "train_test_split.txt": [f"{i} {int(i % 4 > 0)}" for i in ids.values()],
        "bounding_boxes.txt": [f"{i} " + " ".join(map(str, BOXES[s])) for s, i in ids.items()],
    }
    for name, lines in tables.items():
        (root / name).write_bytes("".join(line + end for line in lines).encode())
    write_photographs(root / "images")
    return root


def captions_of(stem: str) -> list[str]:
    """Ten captions of a photograph."""
    return [f"bird {stem[-4:]} of kind {class_of(stem)} said {n}." for n in range(10)]


def write_text(folder: Path) -> Path:
    for stem in STEMS:
        path = folder / f"{stem}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(captions_of(stem)) + "\n")
    return folder


def listed(split: str) -> list[str]:
    """Species 1 and 2 to train, 3 to test, in an order of their own."""
    return [stem for stem in STEMS[::-1] if (class_of(stem) == 3) == (split == "test")]


def write_lists(root: Path, end: bytes = b"\n", protocol: int = 0) -> Path:
    """filenames.pickle and class_info.pickle, the latter in numpy's numbers for train."""
    for split, number in (("train", np.int64), ("test", int)):
        (root / split).mkdir(parents=True, exist_ok=True)
        values = {
            "filenames": listed(split),
            "class_info": [number(class_of(stem)) for stem in listed(split)],
        }
        for name, value in values.items():
            data = pickle.dumps(value, protocol).replace(b"\n", end)
            (root / split / f"{name}.pickle").write_bytes(data)
    return root


def write_word_numbers(path: Path, protocol: int = 2) -> Path:
    """captions.pickle: ten captions an image, as numbers."""
    lines = {s: [c for stem in listed(s) for c in captions_of(stem)] for s in ("train", "test")}
    split = {s: [line.strip(".").split() for line in those] for s, those in lines.items()}
    words = sorted({word for those in split.values() for line in those for word in line})
    numbers = {word: i for i, word in enumerate(["<end>", *words])}
    parts = [[[numbers[word] for word in line] for line in split[s]] for s in ("train", "test")]
    content = [*parts, {i: word for word, i in numbers.items()}, numbers]
    path.write_bytes(pickle.dumps(content, protocol))
    return path
