"""Flickr8k and Flickr30k as people have them, joined with FlickrStyle10K if it is given.

A styled line whose image is present becomes one of its captions; every other styled line is
kept as text without an image, which trains a style all the same.

  prepare.py flickr --images Flickr8k/Images --captions Flickr8k/captions.txt --out data/flickr8k
  prepare.py flickr --images flickr30k_images --captions results.csv --out data/flickr30k
  prepare.py flickr --images Flicker8k_Dataset --captions Flickr8k.token.txt \\
      --style humorous FlickrStyle_v0.9/humor/funny_train.txt FlickrStyle_v0.9/humor/train.p \\
      --style romantic FlickrStyle_v0.9/romantic/romantic_train.txt \\
      FlickrStyle_v0.9/romantic/train.p --out data/flickrstyle
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from distgan.data.importers.found import (
    Found,
    fingerprint,
    image_files,
    keys_of,
    readable,
    split_by_name,
    with_words,
)
from distgan.data.importers.joining import ImageFiles, check_joined
from distgan.data.importers.options import SplitOptions, fractions_of, option
from distgan.data.importers.pickles import load_plain
from distgan.data.samples import Caption
from distgan.data.texts import words_of


@dataclass(frozen=True)
class StyleFiles:
    """Lines of one style, and the image each belongs to: line i to name i."""

    style: str
    lines: Path  # a caption a line
    names: Path  # a pickled list of file names, or a text file of them


@dataclass(frozen=True, kw_only=True)
class FlickrOptions(SplitOptions):
    """Where the files are and what becomes of them."""

    images: Path = option("the folder of photographs")
    captions: Path = option("captions.txt, results.csv or .token")
    styles: tuple[StyleFiles, ...] = option(
        "a style, its captions (one a line) and the pickled list of their images",
        default=(),
        flag="--style",
        metavar=("NAME", "LINES", "NAMES"),
    )
    pairs: int | None = option(
        "keep so many styled pairs a style in train, the rest as text (default: all)", default=None
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.pairs is not None and self.pairs < 0:
            raise ValueError(f"pairs must be at least 0, got {self.pairs}")


class Flickr(ImageFiles):
    """The photographs that have captions, split by a hash of their names."""

    name = "flickr"

    def __init__(self, options: FlickrOptions) -> None:
        images = image_files(options.images)
        given = [options.captions, *(p for s in options.styles for p in (s.lines, s.names))]
        for path in given:
            if not path.is_file():
                raise ValueError(f"file {path} does not exist")
        super().__init__(options, inputs=fingerprint(images, given))
        self.source["styles"] = [files.style for files in options.styles]
        captions, texts = self._captions(options, images)
        self.place(self._join(options, images, captions, texts), texts)

    def _captions(
        self, options: FlickrOptions, images: dict[str, Path]
    ) -> tuple[dict[str, list[Caption]], dict[str, list[str]]]:
        """Captions by image, factual then styled, and the styled lines without an image."""
        by_image: dict[str, list[Caption]] = {name: [] for name in images}
        factual = list(read_captions(options.captions))
        named = dict.fromkeys(name for name, _ in factual)
        check_joined(options.captions.name, named, images, options.min_joined)
        for name, text in factual:
            if name in by_image:
                by_image[name].append(Caption(text))
            else:
                self.report.drop("captions whose image is not there", name)
        joined = sum(len(c) for c in by_image.values())
        self.report.say(
            f"found {len(images):,} images and {len(factual):,} captions; {joined:,} captions join"
        )
        texts: dict[str, list[str]] = {}
        for files in options.styles:
            texts[files.style] = self._join_style(files, by_image)
        return by_image, texts

    def _join_style(self, files: StyleFiles, by_image: dict[str, list[Caption]]) -> list[str]:
        lines, names = self._read_style(files)
        unpaired, joined = [], 0
        for name, line in zip(names, lines, strict=True):
            if not words_of(line):
                self.report.drop(f"{files.style} lines without words", f"{name} {line!r}")
            elif name in by_image:
                by_image[name].append(Caption(line, files.style))
                joined += 1
            else:
                unpaired.append(" ".join(line.split()))
        self.report.say(
            f"{files.style}: {len(lines):,} lines; {joined:,} join an image, "
            f"{len(unpaired):,} become text without images"
        )
        return unpaired

    def _read_style(self, files: StyleFiles) -> tuple[list[str], list[str]]:
        content = files.lines.read_bytes()
        try:
            text = content.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            text = content.decode("latin-1")
            self.report.say(
                f"{files.lines.name} is not UTF-8 (byte {error.start}); read as Latin-1"
            )
        lines = text.replace("\r\n", "\n").removesuffix("\n").split("\n")
        names = read_names(files.names)
        if len(lines) != len(names):
            raise ValueError(
                f"{files.lines} has {len(lines)} lines, but {files.names} {len(names)} names"
            )
        return lines, names

    def _join(
        self,
        options: FlickrOptions,
        images: dict[str, Path],
        captions: dict[str, list[Caption]],
        texts: dict[str, list[str]],
    ) -> dict[str, list[Found]]:
        """The samples of each split; styled pairs of `train` beyond the limit go to `texts`."""
        fractions = fractions_of(*options.fractions)
        kinds = readable(
            {name: path for name, path in images.items() if captions[name]}, self.report
        )
        keys = keys_of(kinds)
        found: dict[str, list[Found]] = {split: [] for split, _ in fractions}
        for name in images:
            if not captions[name]:
                self.report.drop("images without captions", name)
        for name in sorted(kinds, key=_scattered):
            split = split_by_name(keys[name], fractions)
            kept = with_words(captions[name], name, self.report)
            if split == "train" and options.pairs is not None:
                kept = _scarce(kept, options.pairs, found[split], texts)
            if kept:
                found[split].append(Found(keys[name], images[name], kinds[name], kept))
        return found


def read_captions(path: Path) -> Iterator[tuple[str, str]]:
    """(file name, caption) of a captions file in one of its three forms.

    Flickr8k's `image,caption`, Flickr30k's `image_name| comment_number| comment`, and the
    original `NAME.jpg#0<TAB>caption`. ValueError naming file and line for anything else.
    """
    text = path.read_text("utf-8-sig")
    head = text.partition("\n")[0].strip()
    if head.replace(" ", "") == "image,caption":
        for number, row in enumerate(csv.reader(io.StringIO(text)), 1):
            if number > 1 and row:
                if len(row) < 2:
                    raise ValueError(f"{path}: line {number} is not `image,caption`: {row}")
                yield row[0].strip(), ",".join(row[1:])
        return
    lines = text.splitlines()
    if head.replace(" ", "") == "image_name|comment_number|comment":
        separator, place, lines, first = "|", 2, lines[1:], 2
    elif "\t" in head:
        separator, place, first = "\t", 1, 1
    else:
        raise ValueError(
            f"{path}: unknown captions file; its first line should be `image,caption`, "
            f"`image_name| comment_number| comment` or `NAME.jpg#0<TAB>caption`, not {head!r}"
        )
    for number, line in enumerate(lines, first):
        parts = line.split(separator, place)
        if len(parts) <= place and line.strip():
            raise ValueError(f"{path}: line {number} lacks {separator!r}: {line!r}")
        if line.strip():
            yield parts[0].partition("#")[0].strip(), parts[place]


def read_names(path: Path) -> list[str]:
    """File names from a pickled list, or from the lines of a .txt file."""
    if path.suffix == ".txt":
        return path.read_text("utf-8-sig").splitlines()
    names = load_plain(path)
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{path}: not a list of file names")
    return [name.strip() for name in names]


def _scarce(
    captions: tuple[Caption, ...], pairs: int, before: list[Found], texts: dict[str, list[str]]
) -> tuple[Caption, ...]:
    """Keeps a styled caption while its style has fewer than `pairs` in `before`."""
    kept: list[Caption] = []
    for caption in captions:
        style = caption.style
        if style is None:
            kept.append(caption)
            continue
        so_far = sum(c.style == style for f in before for c in f.captions)
        if so_far + sum(c.style == style for c in kept) < pairs:
            kept.append(caption)
        else:
            texts[style].append(caption.text)
    return tuple(kept)


def _scattered(name: str) -> str:
    """Sorts photographs by no property of theirs, the same way each time."""
    return hashlib.sha256(f"order {name}".encode()).hexdigest()
