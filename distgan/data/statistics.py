"""What a dataset holds, in numbers: images, captions, words, styles, sizes."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from distgan.data.damage import DamagedSample
from distgan.data.dataset import Dataset, Split
from distgan.data.images import FORMATS, orientation
from distgan.data.progress import Progress, silent
from distgan.data.shard_index import FACTUAL, is_unseen
from distgan.data.texts import words_of

_HEADER = 1 << 16  # bytes of an image file that nearly always tell its size
_TURNED = (5, 6, 7, 8)  # orientations that exchange width and height
_READERS = 8  # threads
_STEPS = (100, 1000, 2000, 5000, 10_000, 20_000, 50_000)  # words, for coverage

Numbers = NDArray[np.int64]


class Size(NamedTuple):
    """An image's, upright, in pixels; `kind` is JPEG, PNG or WEBP."""

    width: int
    height: int
    kind: str


@dataclass(frozen=True)
class SplitNumbers:
    """Of one split."""

    name: str
    images: int
    captions_per_image: Numbers  # (images,)
    lengths: dict[str, Numbers]  # by style: words of each caption
    tokens: int
    unknown: Counter[str]  # words outside the vocabulary

    @property
    def all_lengths(self) -> Numbers:
        return np.concatenate([np.zeros(0, np.int64), *self.lengths.values()])


@dataclass(frozen=True)
class Statistics:
    """Of a dataset. `sizes` are those of a sample of its images; damaged ones are only counted."""

    path: str
    splits: tuple[SplitNumbers, ...]
    texts: dict[str, Numbers]  # by style: words of each line without an image
    vocabulary: int  # its words
    frequencies: Numbers  # of the distinct words of all training text, most frequent first
    sizes: tuple[Size, ...]
    unreadable: int
    file_sizes: Numbers  # bytes of every image

    @property
    def coverage(self) -> NDArray[np.float64]:
        """Of the most frequent 1, 2, ... words: their share of all training text."""
        return np.cumsum(self.frequencies) / max(1, self.frequencies.sum())

    @property
    def styles(self) -> list[str]:
        """Those that occur, factual first."""
        named = {style for split in self.splits for style in split.lengths} | set(self.texts)
        return sorted(named, key=lambda style: (style != FACTUAL, style))


def measure(dataset: Dataset, *, images: int = 2000, progress: Progress = silent) -> Statistics:
    """Count everything in the index, and look at up to `images` images' headers."""
    known = set(dataset.manifest.words)
    training: Counter[str] = Counter()
    splits = []
    for name in dataset.splits:
        numbers, words = _of_split(dataset.split(name), known)
        splits.append(numbers)
        if not is_unseen(name):
            training += words
    texts = {}
    for text in dataset.manifest.texts:
        words_by_line = [words_of(line) for line in dataset.texts(text.style)]
        texts[text.style] = np.array([len(words) for words in words_by_line], np.int64)
        training.update(word for words in words_by_line for word in words)
    sizes, unreadable = _image_sizes(dataset, images, progress)
    return Statistics(
        path=dataset.path,
        splits=tuple(splits),
        texts=texts,
        vocabulary=len(known),
        frequencies=np.array(sorted(training.values(), reverse=True), np.int64),
        sizes=sizes,
        unreadable=unreadable,
        file_sizes=np.concatenate([_file_sizes(dataset.split(name)) for name in dataset.splits]),
    )


def _of_split(split: Split, known: set[str]) -> tuple[SplitNumbers, Counter[str]]:
    rows = split.caption_rows()
    names = [*split.dataset.styles, FACTUAL]
    styles = [names[number] for number in split.caption_styles()]
    lengths: dict[str, list[int]] = {}
    words: Counter[str] = Counter()
    for number, style in enumerate(styles):
        said = words_of(split.caption(number).text)
        lengths.setdefault(style, []).append(len(said))
        words.update(said)
    numbers = SplitNumbers(
        name=split.name,
        images=len(split),
        captions_per_image=np.bincount(rows, minlength=len(split)).astype(np.int64),
        lengths={style: np.array(lengths[style], np.int64) for style in sorted(lengths)},
        tokens=words.total(),
        unknown=Counter({word: n for word, n in words.items() if word not in known}),
    )
    return numbers, words


def _file_sizes(split: Split) -> Numbers:
    return np.array([split.extent(i).size for i in range(len(split))], np.int64)


def _image_sizes(dataset: Dataset, most: int, progress: Progress) -> tuple[tuple[Size, ...], int]:
    """Sizes of images spread evenly over the splits, and how many could not be told."""
    places = [
        (split, i)
        for s in dataset.splits
        for split in [dataset.split(s)]
        for i in range(len(split))
    ]
    chosen = [
        places[n] for n in np.linspace(0, len(places) - 1, min(most, len(places))).astype(int)
    ]
    found: list[Size] = []
    with ThreadPoolExecutor(_READERS) as threads:
        for done, size in enumerate(threads.map(lambda place: _size(*place), chosen), 1):
            found += [size] if size else []
            progress(done, len(chosen))
    return tuple(found), len(chosen) - len(found)


def _size(split: Split, i: int) -> Size | None:
    """From the first bytes, or from all when these do not tell."""
    extent = split.extent(i)
    for length in (_HEADER, extent.size):
        try:
            part = extent._replace(size=min(length, extent.size))
            data = part.folder.read_at(part.name, part.offset, part.size)
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                width, height = image.size
                if orientation(image) in _TURNED:
                    width, height = height, width
                return Size(width, height, "JPEG" if image.format == "MPO" else str(image.format))
        except (OSError, SyntaxError, ValueError, DamagedSample, Image.DecompressionBombError):
            continue
    return None


def table(statistics: Statistics) -> str:
    """All of it as lines of text."""
    return "\n".join(
        [
            statistics.path,
            "",
            *_captions(statistics),
            "",
            *_words(statistics),
            "",
            *_images(statistics),
        ]
    )


def _captions(s: Statistics) -> Iterator[str]:
    yield _row(
        "split",
        "images",
        "an image",
        "style",
        "captions",
        "words min",
        "median",
        "mean",
        "95%",
        "max",
    )
    for split in s.splits:
        per = split.captions_per_image
        span = f"{per.min()}-{per.max()}" if per.min() < per.max() else f"{per.min()}"
        first = (split.name, f"{split.images:,}", span)
        for style, lengths in split.lengths.items() or [("-", np.zeros(0, np.int64))]:
            yield _row(*first, style, f"{len(lengths):,}", *_spread(lengths))
            first = ("", "", "")
    for style, lengths in s.texts.items():
        yield _row("text", "", "", style, f"{len(lengths):,}", *_spread(lengths))


def _spread(values: Numbers) -> tuple[str, ...]:
    if not len(values):
        return ("", "", "", "", "")
    median, high = np.median(values), np.quantile(values, 0.95)
    numbers = (values.min(), median, values.mean(), high, values.max())
    return tuple(f"{number:.1f}".removesuffix(".0") for number in numbers)


def _row(*cells: str) -> str:
    widths = (12, 9, 9, 12, 10, 10, 7, 7, 7, 7)
    left = (0, 3)
    return "  ".join(
        cell.ljust(width) if n in left else cell.rjust(width)
        for n, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ).rstrip()


def _words(s: Statistics) -> Iterator[str]:
    total = int(s.frequencies.sum())
    yield (
        f"vocabulary: {s.vocabulary:,} words; training text: {total:,} words, "
        f"{len(s.frequencies):,} different, {int((s.frequencies == 1).sum()):,} of them once"
    )
    if total:
        steps = [k for k in _STEPS if k < len(s.frequencies)]
        shares = ", ".join(f"{k:,}: {s.coverage[k - 1]:.2%}" for k in steps)
        yield f"share of it that the most frequent words cover: {shares or 'all'}"
    for split in s.splits:
        if split.tokens:
            share = split.unknown.total() / split.tokens
            often = [word for word, _ in split.unknown.most_common(6)]
            which = ", ".join(often[:5]) + (", ..." if len(often) > 5 else "")
            said = f" ({len(split.unknown):,} different: {which})" if often else ""
            yield f"unknown in {split.name}: {share:.2%} of {split.tokens:,} words{said}"


def _images(s: Statistics) -> Iterator[str]:
    if s.sizes:
        shorter = np.array([min(size.width, size.height) for size in s.sizes])
        ratio = np.array([size.width / size.height for size in s.sizes])
        kinds = Counter(size.kind for size in s.sizes)
        of = "" if len(s.sizes) + s.unreadable == len(s.file_sizes) else " looked at"
        yield f"images{of}: " + ", ".join(f"{n:,} {kind}" for kind, n in kinds.most_common())
        yield f"shorter side: {_five(shorter)} pixels; width/height: {_five(ratio, '.2f')}"
    if s.unreadable:
        yield f"images without a readable header: {s.unreadable:,}; `verify --contents` names them"
    yield (
        f"files: {_five(s.file_sizes / 1024, ',.1f')} KiB, "
        f"{s.file_sizes.sum() / 2**20:,.1f} MiB in all"
    )


def _five(values: NDArray[Any], form: str = ",.0f") -> str:
    low, middle, high = np.quantile(values, (0.05, 0.5, 0.95))
    return (
        f"{np.min(values):{form}} min, {low:{form}} 5%, {middle:{form}} median, "
        f"{high:{form}} 95%, {np.max(values):{form}} max"
    )
