"""The files that AttnGAN's data folders hold beside the images: lists, classes and captions.

`train/` and `test/` have filenames.pickle, a list of image names without `.jpg`, and
class_info.pickle, a class number for each. `text/NAME.txt` has an image's captions, one a line.
captions.pickle has the captions of train and of test as lists of word numbers, then the words
by number and the numbers by word; captions of one image stand together, as many for each.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distgan.data.importers.found import Report
from distgan.data.importers.pickles import as_list, read_plain
from distgan.data.samples import Caption
from distgan.data.texts import lines_of

SPLITS = ("train", "test")
NAMES, CLASSES = "filenames.pickle", "class_info.pickle"


@dataclass(frozen=True)
class Listed:
    """The images of a split in AttnGAN's order, and their classes where they are given."""

    names: list[str]  # without .jpg
    classes: list[int] | None


@dataclass(frozen=True)
class WordNumbers:
    """captions.pickle: captions by split as numbers, and the words they stand for."""

    captions: dict[str, list[list[int]]]
    words: dict[int, str]

    def text(self, numbers: list[int]) -> str:
        return " ".join(self.words[number] for number in numbers)


def list_files(root: Path) -> list[Path]:
    """Those of the lists' files under `root` that are there."""
    paths = [root / split / name for split in SPLITS for name in (NAMES, CLASSES)]
    return [path for path in paths if path.is_file()]


def read_lists(root: Path, report: Report) -> dict[str, Listed]:
    """The images of `train` and `test`. ValueError when a file, or a count, is not right."""
    lists = {}
    for split in SPLITS:
        names = as_list(_read(root / split / NAMES, report), str, root / split / NAMES)
        classes, path = None, root / split / CLASSES
        if path.is_file():
            classes = as_list(_read(path, report), int, path)
            if len(classes) != len(names):
                raise ValueError(
                    f"{path}: {len(classes):,} classes, but {NAMES} beside it has {len(names):,} "
                    "names"
                )
        lists[split] = Listed(names, classes)
    both = set(lists["train"].names) & set(lists["test"].names)
    if both:
        raise ValueError(f"{root}: {len(both)} images are in train and test: {min(both)}")
    return lists


def read_word_numbers(path: Path, report: Report) -> WordNumbers:
    """captions.pickle. ValueError when its parts do not fit together."""
    parts = as_list(_read(path, report), object, path)
    if len(parts) != 4:
        raise ValueError(f"{path}: {len(parts)} parts, not train, test, words and numbers")
    words, numbers = parts[2], parts[3]
    if not isinstance(words, dict) or not isinstance(numbers, dict):
        raise ValueError(f"{path}: its parts 2 and 3 are no dictionaries")
    if {number: word for word, number in numbers.items()} != words:
        raise ValueError(f"{path}: its two dictionaries do not say the same of every word")
    captions = {}
    for split, part in zip(SPLITS, parts, strict=False):
        captions[split] = [as_list(c, int, f"{path}: {split}") for c in as_list(part, list, path)]
        unknown = {number for caption in captions[split] for number in caption} - words.keys()
        if unknown:
            raise ValueError(f"{path}: {split} has {len(unknown)} numbers that are no word")
    return WordNumbers(captions, words)


def read_text(folder: Path, name: str, report: Report) -> list[Caption]:
    """The lines of FOLDER/NAME.txt; where there is none, nothing but a line in the report.

    A file that is not UTF-8 is read as Latin-1.
    """
    path = folder / f"{name}.txt"
    if not path.is_file():
        report.drop(f"images without a file in {folder.name}", name)
        return []
    content = path.read_bytes()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        report.drop("text files that are not UTF-8, read as Latin-1 instead of", path.name)
        text = content.decode("latin-1")
    # two U+FFFD stand for a space in AttnGAN's text
    lines = [line.replace("\ufffd\ufffd", " ").strip() for line in lines_of(text)]
    return [Caption(line) for line in lines if line]


def check_text(folder: Path, stems: Collection[str], min_joined: float) -> None:
    """ValueError unless FOLDER has a file for `min_joined` of the images that are there."""
    found = sum((folder / f"{stem}.txt").is_file() for stem in stems)
    if found < min_joined * len(stems):
        raise ValueError(
            f"{folder} has captions of {found:,} of the {len(stems):,} images that are there "
            f"(min_joined={min_joined}); is it the right folder?"
        )


def _read(path: Path, report: Report) -> Any:
    found = read_plain(path)
    if found.repaired:
        report.say(f"{path.parent.name}/{path.name}: line ends were CR LF, turned back to LF")
    return found.value
