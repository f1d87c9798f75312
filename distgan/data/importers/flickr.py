"""Flickr8k and Flickr30k as people have them, joined with FlickrStyle10K if it is given.

A styled line whose image is present becomes one of its captions; every other styled line is
kept as text without an image, which trains a style all the same.

  prepare.py flickr --images Flickr8k/Images --captions Flickr8k/captions.txt --out data/flickr8k
  prepare.py flickr --images Flicker8k_Dataset --captions Flickr8k.token.txt \\
      --train-names Flickr_8k.trainImages.txt --val-names Flickr_8k.devImages.txt \\
      --test-names Flickr_8k.testImages.txt --out data/flickr8k
  prepare.py flickr --images flickr30k_images --captions results.csv --out data/flickr30k
  prepare.py flickr --images Flicker8k_Dataset --captions Flickr8k.token.txt \\
      --style humorous FlickrStyle_v0.9/humor/funny_train.txt FlickrStyle_v0.9/humor/train.p \\
      --style romantic FlickrStyle_v0.9/romantic/romantic_train.txt \\
      FlickrStyle_v0.9/romantic/train.p --out data/flickrstyle
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from distgan.data.importers.flickr_files import (
    StyleFiles,
    read_captions,
    read_names,
    read_splits,
)
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
from distgan.data.importers.styled_lines import read_styled_lines
from distgan.data.samples import Caption
from distgan.data.texts import words_of


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
    train_names: Path | None = option(
        "published list of the images of train (Flickr_8k.trainImages.txt); the splits are then "
        "these lists and no fractions",
        default=None,
    )
    val_names: Path | None = option("the same for val (Flickr_8k.devImages.txt)", default=None)
    test_names: Path | None = option("the same for test", default=None)
    pairs: int | None = option(
        "keep so many styled pairs a style in train, the rest as text (default: all)", default=None
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.pairs is not None and self.pairs < 0:
            raise ValueError(f"pairs must be at least 0, got {self.pairs}")
        if self.lists and self.train_names is None:
            raise ValueError("val_names and test_names need train_names: images in no list are out")
        if self.lists and self.fractions != SplitOptions.fractions:
            raise ValueError(f"fractions={self.fractions} have no use beside train_names")

    @property
    def lists(self) -> dict[str, Path]:
        """The published lists of names by split; none where images are split by a hash."""
        given = {"train": self.train_names, "val": self.val_names, "test": self.test_names}
        return {split: path for split, path in given.items() if path is not None}


class Flickr(ImageFiles):
    """The photographs that have captions, in published splits or split by a hash of their names."""

    name = "flickr"

    def __init__(self, options: FlickrOptions) -> None:
        images = image_files(options.images)
        styles = [path for files in options.styles for path in (files.lines, files.names)]
        given = [options.captions, *styles, *options.lists.values()]
        for path in given:
            if not path.is_file():
                raise ValueError(f"file {path} does not exist")
        super().__init__(options, inputs=fingerprint(images, given))
        self.source["styles"] = [files.style for files in options.styles]
        self._published = self._read_lists(options, images)
        captions, texts = self._captions(options, images)
        self.place(self._join(options, images, captions, texts), texts)

    def _read_lists(self, options: FlickrOptions, images: dict[str, Path]) -> dict[str, str]:
        """The split of each image that the published lists name; empty without lists."""
        published = read_splits(options.lists)
        for split, path in options.lists.items():
            named = [name for name, its in published.items() if its == split]
            check_joined(path.name, named, images, options.min_joined)
            self.report.say(f"{path.name}: {len(named):,} images of {split}")
        return published

    def _split_of(self, name: str, key: str) -> str | None:
        """None for an image in no list where there are lists."""
        if self.options.lists:
            return self._published.get(name)
        return split_by_name(key, fractions_of(*self.options.fractions))

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
        lines = read_styled_lines(files.lines, self.report)
        names = read_names(files.names)
        if len(lines) != len(names):
            raise ValueError(
                f"{files.lines} has {len(lines)} lines, but {files.names} {len(names)} names"
            )
        unpaired, joined = [], 0
        for name, line in zip(names, lines, strict=True):
            number = f"{name.partition('_')[0]}.jpg"  # what Flickr30k calls the same photograph
            image = name if name in by_image else number
            if not words_of(line):
                self.report.drop(f"{files.style} lines without words", f"{name} {line!r}")
            elif image in by_image:
                by_image[image].append(Caption(line, files.style))
                joined += 1
            elif self._published.get(name, self._published.get(number, "train")) != "train":
                self.report.drop(f"{files.style} lines of val and test without image", name)
            else:
                unpaired.append(" ".join(line.split()))
        self.report.say(
            f"{files.style}: {len(lines):,} lines; {joined:,} join an image, "
            f"{len(unpaired):,} become text without images"
        )
        return unpaired

    def _join(
        self,
        options: FlickrOptions,
        images: dict[str, Path],
        captions: dict[str, list[Caption]],
        texts: dict[str, list[str]],
    ) -> dict[str, list[Found]]:
        """The samples of each split; styled pairs of `train` beyond the limit go to `texts`."""
        splits = options.lists or dict(fractions_of(*options.fractions))
        kinds = readable(
            {name: path for name, path in images.items() if captions[name]}, self.report
        )
        keys = keys_of(kinds)
        found: dict[str, list[Found]] = {split: [] for split in splits}
        for name in images:
            if not captions[name]:
                self.report.drop("images without captions", name)
        for name in sorted(kinds, key=_scattered):
            split = self._split_of(name, keys[name])
            if split is None:
                self.report.drop("images in none of the lists of names", name)
                continue
            kept = with_words(captions[name], name, self.report)
            if split == "train" and options.pairs is not None:
                kept = _scarce(kept, options.pairs, found[split], texts)
            if kept:
                found[split].append(Found(keys[name], images[name], kinds[name], kept))
        return found


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
