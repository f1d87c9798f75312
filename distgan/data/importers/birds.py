"""What CUB-200-2011 says of its photographs, and the square that AttnGAN cuts out of each.

Tables are lines of `ID VALUES`, or, as smaller copies have them, images.csv and classes.csv.
Line ends are LF or CR LF.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from PIL import Image

from distgan.data.importers.found import Found
from distgan.data.importers.joining import ImageFiles
from distgan.data.importers.tables import Numbered, rows_of
from distgan.data.texts import read_utf8

Box = tuple[float, float, float, float]
"""x, y, width and height in pixels of the whole photograph."""

BOXES = "bounding_boxes.txt"
_TABLES = ("images.txt", "image_class_labels.txt", "classes.txt", "train_test_split.txt", BOXES)
_CSV_TABLES = ("images.csv", "classes.csv", BOXES)
_QUALITY = 95  # of the JPEG files that squares are written as


@dataclass(frozen=True)
class Bird:
    """One photograph; `name` is its path below `images/`."""

    name: str
    image_id: int
    class_id: int
    class_name: str
    train: bool  # in the split published with the photographs
    box: Box | None = None

    @property
    def stem(self) -> str:
        """The name without `.jpg`, as the lists and the text files have it."""
        return self.name.removesuffix(".jpg")

    def facts(self, *, cropped: bool) -> dict[str, Any]:
        """What goes into the sample's JSON. The box is that of the whole photograph."""
        facts: dict[str, Any] = {"image_id": self.image_id, "class": self.class_id}
        facts["class_name"] = self.class_name
        if self.box is not None:
            facts |= {"box": list(self.box), "cropped": cropped}
        return facts


def read_birds(root: Path) -> list[Bird]:
    """The photographs that CUB_200_2011's tables in `root` name, with boxes where it has them.

    ValueError naming file and line for what is missing or does not fit together.
    """
    if (root / "images.csv").is_file():
        birds = _from_csv(root)
    elif (root / "images.txt").is_file():
        birds = _from_tables(root)
    else:
        raise ValueError(f"{root} has neither images.txt (CUB_200_2011's) nor images.csv")
    if not (root / BOXES).is_file():
        return birds
    boxes = read_boxes(root)
    for bird in birds:
        if bird.image_id not in boxes:
            raise ValueError(f"{root / BOXES}: no box of image {bird.image_id} ({bird.name})")
    return [replace(bird, box=boxes[bird.image_id]) for bird in birds]


def tables_in(root: Path) -> list[Path]:
    """The files that `read_birds` reads."""
    names = _CSV_TABLES if (root / "images.csv").is_file() else _TABLES
    return [root / name for name in names if (root / name).is_file()]


def read_boxes(root: Path) -> dict[int, Box]:
    """Bounding boxes by image id."""
    boxes: dict[int, Box] = {}
    for number, (key, *values) in _lines(root / BOXES, 5):
        try:
            x, y, width, height = map(float, values)
        except ValueError as error:
            raise ValueError(f"{root / BOXES}: line {number}: {error}") from error
        if min(width, height) < 1:
            raise ValueError(f"{root / BOXES}: line {number}: a box of {width:g} x {height:g}")
        boxes[_whole(root / BOXES, number, key)] = (x, y, width, height)
    return boxes


def square(box: Box, width: int, height: int) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of AttnGAN's square in an image of width x height pixels.

    Its middle is the box's, its half side three quarters of the box's longer side; what
    reaches beyond the image is cut off. All in whole pixels, rounded down.
    """
    x, y, wide, high = map(int, box)
    reach = int(max(wide, high) * 0.75)
    middle_x, middle_y = (2 * x + wide) // 2, (2 * y + high) // 2
    left, top = max(0, middle_x - reach), max(0, middle_y - reach)
    return left, top, min(width, middle_x + reach), min(height, middle_y + reach)


def cut_out(data: bytes, box: Box, name: str) -> bytes:
    """The square around the box as a JPEG file. ValueError when the box is not in the image."""
    with Image.open(io.BytesIO(data)) as image:
        left, top, right, bottom = square(box, *image.size)
        if left >= right or top >= bottom:
            raise ValueError(f"{name}: its box {box} is not within its {image.size} pixels")
        part = image.crop((left, top, right, bottom))
    part = part if part.mode in ("L", "RGB") else part.convert("RGB")
    file = io.BytesIO()
    part.save(file, "JPEG", quality=_QUALITY, subsampling=0)
    return file.getvalue()


class Squares(ImageFiles):
    """Base of importers that cut a square out of each photograph, or do not."""

    _crop: bool

    def image(self, found: Found) -> tuple[bytes, str]:
        data = found.path.read_bytes()
        if not self._crop:
            return data, found.extension
        return cut_out(data, found.facts["box"], found.path.name), "jpg"


def _from_tables(root: Path) -> list[Bird]:
    names = _by_id(root / "images.txt")
    classes = _numbers(root / "image_class_labels.txt")
    class_names = _by_id(root / "classes.txt")
    train = _numbers(root / "train_test_split.txt")
    birds = []
    for image_id, name in names.items():
        for table, file in ((classes, "image_class_labels.txt"), (train, "train_test_split.txt")):
            if image_id not in table:
                raise ValueError(f"{root / file}: nothing of image {image_id} ({name})")
        label = classes[image_id]
        if label not in class_names:
            raise ValueError(f"{root / 'classes.txt'}: no class {label} (of {name})")
        birds.append(Bird(name, image_id, label, class_names[label], train[image_id] == 1))
    return birds


def _from_csv(root: Path) -> list[Bird]:
    class_names = {
        _whole(root / "classes.csv", n, row["class_id"]): row["class_name"].strip()
        for n, row in _rows(root / "classes.csv", "class_id", "class_name")
    }
    path, birds = root / "images.csv", []
    for number, row in _rows(path, "image_id", "path", "class_id", "is_train"):
        image_id, label, train = (
            _whole(path, number, row[column]) for column in ("image_id", "class_id", "is_train")
        )
        if label not in class_names:
            raise ValueError(f"{path}: line {number}: class {label} is not in classes.csv")
        name = row["path"].strip().removesuffix(".jpg") + ".jpg"
        birds.append(Bird(name, image_id, label, class_names[label], train == 1))
    return birds


def _rows(path: Path, *columns: str) -> Iterator[Numbered]:
    for number, row in rows_of(path):
        missing = [name for name in columns if name not in row]
        if missing:
            raise ValueError(f"{path}: no column {missing[0]!r} among {list(row)}")
        yield number, row


def _lines(path: Path, count: int) -> Iterator[tuple[int, list[str]]]:
    """Line number and `count` fields of each line; the last field may hold spaces if it is 2."""
    if not path.is_file():
        raise ValueError(f"{path} does not exist")
    for number, line in enumerate(read_utf8(path).splitlines(), 1):
        fields = line.split(None, 1) if count == 2 else line.split()
        if fields and len(fields) != count:
            raise ValueError(f"{path}: line {number} has {len(fields)} fields, not {count}: {line}")
        if fields:
            yield number, [field.strip() for field in fields]


def _by_id(path: Path) -> dict[int, str]:
    return {_whole(path, number, key): value for number, (key, value) in _lines(path, 2)}


def _numbers(path: Path) -> dict[int, int]:
    lines = _lines(path, 2)
    return {_whole(path, n, key): _whole(path, n, value) for n, (key, value) in lines}


def _whole(path: Path, number: int, value: str) -> int:
    try:
        return int(value)
    except ValueError as error:
        raise ValueError(f"{path}: line {number}: {value!r} is no whole number") from error
