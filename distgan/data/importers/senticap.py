"""SentiCap: positive and negative captions of COCO val2014 photographs.

From users.cecs.anu.edu.au/~u4534172/senticap.html: senticap_dataset.zip; from cocodataset.org:
val2014.zip. The factual captions beside it must not come from SentiCap's test images, so they are
train2014's (see `prepare.py coco --help`; of Karpathy's splits, those with `--restval drop`):

  prepare.py coco --train annotations/captions_train2014.json train2014 --out data/coco2014
  prepare.py senticap data/senticap_dataset.json --images val2014 --beside data/coco2014 \\
      --out data/senticap

The CSV form has its splits in files of their own, found beside the one that is named:

  prepare.py senticap data/senticap_dataset.csv --images val2014 --out data/senticap

It holds the tokens only, without capitals and punctuation (`--text tokens` of the JSON). Some
file names occur twice; their captions are put together. Captions of training images that are not
there are kept as text without images; those of val and test are not, they are references.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

from distgan.data.importers.annotations import (
    coco_id_of,
    coco_names,
    published_names,
    read_json,
    records,
)
from distgan.data.importers.beside import trained_on
from distgan.data.importers.found import fingerprint, image_files
from distgan.data.importers.joining import Described, ImageFiles
from distgan.data.importers.options import JoinOptions, option
from distgan.data.samples import Caption
from distgan.data.texts import words_of

SPLITS = ("train", "val", "test")
_STYLES = {1: "positive", 0: "negative"}
_COLUMNS = ["filename", "is_positive_sentiment", "caption"]


@dataclass(frozen=True, kw_only=True)
class SentiCapOptions(JoinOptions):
    """Where the files are, and what SentiCap will be trained beside."""

    captions: Path = option("senticap_dataset.json, or senticap_dataset.csv", positional=True)
    images: Path = option("the folder of COCO's val2014 images")
    text: Literal["raw", "tokens"] | None = option(
        "captions as they were written, or as published tokens (default: raw where there is one)",
        default=None,
    )
    beside: Path | None = option(
        "the factual dataset it is trained beside, to be checked for SentiCap's images: a prepared "
        "one, captions_*.json of COCO, or dataset_coco.json",
        default=None,
    )
    allow_leak: bool = option(
        "go on when val or test images are trained on in the dataset of --beside", default=False
    )


class SentiCap(ImageFiles):
    """COCO val2014 photographs with the captions of SentiCap, in its splits."""

    name = "senticap"

    def __init__(self, options: SentiCapOptions) -> None:
        files = _files(options.captions)
        described = list(_read_json(options) if len(files) == 1 else _read_csv(options, files))
        images = published_names(
            image_files(options.images), [coco_names(said.name) for said in described]
        )
        super().__init__(options, inputs=fingerprint(images, files))
        self.source |= {"text": _text_kind(options)}
        for name in ("beside", "allow_leak"):  # they change no sample
            self.source.pop(name, None)
        self._tell(described)
        self._refuse_leak(options, described)
        self.join(described, images, texts=_lines_without(described, images))

    def _tell(self, described: list[Described]) -> None:
        files = Counter(said.name for said in described)
        counts = Counter((said.split, c.style) for said in described for c in said.captions)
        self.report.say(
            f"found {len(described):,} entries of {len(files):,} images and "
            f"{counts.total():,} captions; {sum(n > 1 for n in files.values()):,} file names "
            "occur twice, their captions are put together"
        )
        for split in SPLITS:
            told = ", ".join(f"{counts[split, s]:,} {s}" for s in _STYLES.values())
            self.report.say(f"published {split}: {told}")

    def _refuse_leak(self, options: SentiCapOptions, described: list[Described]) -> None:
        """ValueError when the dataset beside trains on val or test images, unless allowed."""
        unseen = {said.facts["coco_id"]: said.split for said in described if said.split != "train"}
        if options.beside is None:
            self.report.say(
                f"not checked (--beside): whether a factual dataset trains on any of the "
                f"{len(unseen):,} images of val and test"
            )
            return
        trained = trained_on(options.beside)
        leaked = Counter(split for number, split in unseen.items() if number in trained)
        told = ", ".join(f"{leaked[split]:,} of {split}" for split in SPLITS[1:])
        self.report.say(
            f"{options.beside} trains on {len(trained):,} COCO images; of SentiCap's: {told}"
        )
        if leaked and not options.allow_leak:
            raise ValueError(
                f"{options.beside} trains on SentiCap's images: {told}; a model trained on both "
                "has seen what it is tested on. Train beside COCO's train2014 or Karpathy's "
                "splits with --restval drop, or give --allow-leak"
            )


def _files(captions: Path) -> list[Path]:
    """The files that hold the captions: the JSON, or the CSV files of the three splits.

    ValueError for a CSV without them: the one file of all captions does not tell splits.
    """
    if captions.suffix == ".json":
        return [captions]
    if captions.suffix != ".csv":
        raise ValueError(f"{captions}: neither the .json nor the .csv form of SentiCap")
    stem = captions.stem
    for split in SPLITS:
        stem = stem.removesuffix(f"-{split}")
    files = [captions.with_name(f"{stem}-{split}.csv") for split in SPLITS]
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise ValueError(
            f"{captions}: {', '.join(missing)} not beside it: the CSV form has no column for "
            "splits, they are in files of their own"
        )
    return files


def _text_kind(options: SentiCapOptions) -> str:
    """Which form of the captions is taken. ValueError when the file has not got it."""
    given = "tokens" if options.captions.suffix == ".csv" else "raw"
    if options.text == "raw" and given == "tokens":
        raise ValueError(f"text=raw: {options.captions} holds tokens only; use the .json")
    return options.text or given


def _read_json(options: SentiCapOptions) -> Iterator[Described]:
    content = read_json(options.captions, "captions file")
    entries = records(content, "images", ("filename", "split", "sentences"), options.captions)
    kind = _text_kind(options)
    for entry in entries:
        captions = [_sentence(each, kind, entry["filename"]) for each in entry["sentences"]]
        yield _described(entry["filename"], captions, entry["split"], options.captions)


def _read_csv(options: SentiCapOptions, files: list[Path]) -> Iterator[Described]:
    _text_kind(options)
    for split, path in zip(SPLITS, files, strict=True):
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            if reader.fieldnames != _COLUMNS:
                raise ValueError(f"{path}: columns {reader.fieldnames}, not {_COLUMNS}")
            rows = groupby(_rows(reader, path), key=lambda row: row[0])
            for name, those in rows:
                yield _described(name, [caption for _, caption in those], split, path)


def _rows(reader: csv.DictReader[str], path: Path) -> Iterator[tuple[str, Caption]]:
    for row in reader:
        where = f"{path}: line {reader.line_num}"
        if None in row.values() or None in row:
            raise ValueError(f"{where}: not {len(_COLUMNS)} columns")
        style = _style(row["is_positive_sentiment"], where)
        yield row["filename"], Caption(row["caption"], style)


def _described(name: str, captions: list[Caption], split: str, where: Path) -> Described:
    number = coco_id_of(name)
    if number is None:
        raise ValueError(f"{where}: {name} is not the name of a COCO image")
    if split not in SPLITS:
        raise ValueError(f"{where}: {name}: split {split!r} is none of {', '.join(SPLITS)}")
    return Described(name, captions, split, {"coco_id": number})


def _sentence(sentence: dict[str, Any], kind: str, where: str) -> Caption:
    text = sentence["raw"] if kind == "raw" else " ".join(sentence["tokens"])
    return Caption(text, _style(sentence["sentiment"], where))


def _style(sentiment: int | str, where: str) -> str:
    if str(sentiment) not in map(str, _STYLES):
        raise ValueError(f"{where}: sentiment {sentiment!r} is neither 1 nor 0")
    return _STYLES[int(sentiment)]


def _lines_without(described: list[Described], images: Mapping[str, Path]) -> dict[str, list[str]]:
    """Training captions, by style, of images that are not there."""
    lines: dict[str, list[str]] = {}
    for said in described:
        if said.split == "train" and said.name not in images:
            for caption in said.captions:
                if words_of(caption.text) and caption.style:
                    lines.setdefault(caption.style, []).append(" ".join(caption.text.split()))
    return lines
