"""FashionGen: pictures of clothes with their stylists' descriptions, from its HDF5 files.

fashion-gen.com gives the files to those who register. Reading them needs h5py
(`pip install 'distgan[fashiongen]'`).

    prepare.py fashiongen --train fashiongen_256_256_train.h5 \\
        --val fashiongen_256_256_validation.h5 --out data/fashiongen

The FashionGen2 of the AttnGAN notebooks is eight categories, and first sentences:

    prepare.py fashiongen --train fashiongen_256_256_train.h5 \\
        --val fashiongen_256_256_validation.h5 --first-sentence \\
        --categories TOPS SWEATERS PANTS JEANS SHIRTS DRESSES SHORTS SKIRTS --out data/fashiongen2

Each row is a sample: its picture as lossless PNG (`--encode jpg`: as JPEG, which is smaller),
its description as the caption. Rows of one product show it from several sides and share the
description, so the product's id is their `class`; the facts also hold `row`, `category` and what
else the file says of it.
"""

from __future__ import annotations

import hashlib
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from distgan.data.importers.found import Found, with_words
from distgan.data.importers.joining import ImageFiles
from distgan.data.importers.options import JoinOptions, option
from distgan.data.samples import Caption

_IMAGES, _TEXT, _PRODUCT, _CATEGORY = (
    f"input_{name}" for name in ("image", "description", "productID", "category")
)
_FACTS = ("category", "subcategory", "gender", "season", "brand", "name", "pose")
_CACHE = 64 << 20  # bytes of decompressed chunks: several pictures lie in one


@dataclass(frozen=True, kw_only=True)
class FashionGenOptions(JoinOptions):
    """Where the files are and what becomes of them."""

    train: Path = option("fashiongen_256_256_train.h5")
    val: Path | None = option("fashiongen_256_256_validation.h5, the split `val`", default=None)
    categories: tuple[str, ...] = option(
        "keep rows of these categories only (default: all)", default=(), metavar="CATEGORY"
    )
    first_sentence: bool = option("cut descriptions at the first full stop", default=False)


class FashionGen(ImageFiles):
    """The rows of FashionGen's files with a description, in their order."""

    name = "fashiongen"

    def __init__(self, options: FashionGenOptions) -> None:
        self._options = options
        self._open: dict[Path, Any] = {}
        paths = {"train": options.train} | ({"val": options.val} if options.val else {})
        prints = [self._fingerprint(path) for path in paths.values()]
        super().__init__(options, inputs=hashlib.sha256("".join(prints).encode()).hexdigest())
        self.place({split: self._rows(split, path) for split, path in paths.items()})

    def image(self, found: Found) -> tuple[bytes, str]:
        picture = Image.fromarray(self._file(found.path)[_IMAGES][found.facts["row"]])
        file = io.BytesIO()
        picture.save(file, "PNG")
        return file.getvalue(), found.extension

    def __getstate__(self) -> dict[str, Any]:
        """Other processes open the files themselves: a handle cannot be shared."""
        return {**self.__dict__, "_open": {}}

    def _rows(self, split: str, path: Path) -> list[Found]:
        texts, products = self._strings(path, _TEXT), self._numbers(path)
        kept = self._chosen(path)
        facts = self._facts(path)
        found = []
        for row in kept:
            text = texts[row].partition(".")[0] if self._options.first_sentence else texts[row]
            captions = with_words([Caption(text)], f"{split} row {row}", self.report)
            said: dict[str, Any] = {"row": row, "class": products[row]}
            said |= {name: values[row] for name, values in facts.items() if values[row]}
            if captions:
                found.append(Found(f"{split}_{row:06d}", path, "png", captions, said))
        self.report.say(
            f"{path.name}: {len(texts):,} rows, {len(kept):,} of the categories asked for, "
            f"{len({products[row] for row in kept}):,} products"
        )
        if len(found) < self.options.min_joined * len(kept):
            raise ValueError(
                f"{path}: {len(found):,} of {len(kept):,} rows have a description "
                f"(min_joined={self.options.min_joined})"
            )
        return found

    def _chosen(self, path: Path) -> Sequence[int]:
        """The rows of the categories asked for. ValueError for a category that no row has."""
        wanted = self._options.categories
        if not wanted:
            return range(len(self._file(path)[_IMAGES]))
        categories = self._strings(path, _CATEGORY)
        counts = Counter(categories)
        for category in wanted:
            if not counts[category]:
                raise ValueError(
                    f"categories: {path} has no rows of {category!r}; it has "
                    f"{', '.join(name for name, _ in counts.most_common())}"
                )
        return [row for row, category in enumerate(categories) if category in wanted]

    def _facts(self, path: Path) -> dict[str, list[str]]:
        names = [name for name in _FACTS if f"input_{name}" in self._file(path)]
        return {name: self._strings(path, f"input_{name}") for name in names}

    def _strings(self, path: Path, name: str) -> list[str]:
        """A column of text. FashionGen writes bytes in Latin-1."""
        values = self._column(path, name).tolist()
        return [v.decode("latin-1") if isinstance(v, bytes) else str(v) for v in values]

    def _numbers(self, path: Path) -> list[int]:
        values = self._column(path, _PRODUCT)
        try:
            return [int(value) for value in values.tolist()]
        except ValueError as error:
            raise ValueError(f"{path}: {_PRODUCT} are not whole numbers: {error}") from error

    def _column(self, path: Path, name: str) -> np.ndarray:
        """(N,) of a dataset (N,) or (N, 1)."""
        file = self._file(path)
        if name not in file:
            raise ValueError(f"{path}: no {name} in it; it has {', '.join(file)}")
        rows = len(file[_IMAGES])
        values = np.asarray(file[name][()])
        if values.size != rows:
            raise ValueError(f"{path}: {values.size:,} {name} for {rows:,} {_IMAGES}")
        return values.reshape(rows)

    def _file(self, path: Path) -> Any:
        """The open file. ValueError when it is missing or not laid out as FashionGen's."""
        if path not in self._open:
            self._open[path] = _opened(path)
        return self._open[path]

    def _fingerprint(self, path: Path) -> str:
        """A hash of all but the pictures, and of the first and the last of them: a file has
        tens of gigabytes."""
        total, file = hashlib.sha256(), self._file(path)
        total.update(repr(file[_IMAGES].shape).encode())
        for name in sorted(file):
            if name.startswith("input_") and name != _IMAGES:
                total.update(repr((name, self._column(path, name).tolist())).encode())
        for row in (0, -1):
            total.update(np.ascontiguousarray(file[_IMAGES][row]).tobytes())
        return total.hexdigest()


def _opened(path: Path) -> Any:
    try:
        import h5py
    except ImportError as error:
        raise ValueError(
            "FashionGen's files are read by h5py, which is not installed: "
            "pip install 'distgan[fashiongen]'"
        ) from error
    if not path.is_file():
        raise ValueError(f"file {path} does not exist")
    try:
        file = h5py.File(path, "r", rdcc_nbytes=_CACHE)
    except OSError as error:
        raise ValueError(f"{path} is no HDF5 file, or is cut: {error}") from error
    if _IMAGES not in file:
        raise ValueError(f"{path}: no {_IMAGES} in it; it has {', '.join(file) or 'nothing'}")
    pictures = file[_IMAGES]
    if pictures.dtype != np.uint8 or pictures.ndim != 4 or pictures.shape[3] != 3:
        raise ValueError(
            f"{path}: {_IMAGES} is {pictures.dtype} {pictures.shape}, not uint8 (N, H, W, 3)"
        )
    if not len(pictures):
        raise ValueError(f"{path}: no rows")
    return file
