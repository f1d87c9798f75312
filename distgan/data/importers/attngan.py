"""A data folder laid out for AttnGAN: birds.zip, coco.zip, or one of your own for its forks.

    ROOT/train/filenames.pickle  ROOT/train/class_info.pickle   the same for test
    ROOT/text/NAME.txt           captions, one a line; or ROOT/captions.pickle

For the birds, unpack CUB_200_2011.tgz into the folder that birds.zip gives, as AttnGAN asks:

    prepare.py attngan birds --out data/birds

For COCO the images of train2014 and val2014 lie together in coco/images:

    prepare.py attngan coco --out data/coco_attngan

Captions are the text's lines, or with `--captions pickle` the words of captions.pickle. Where
ROOT/CUB_200_2011 has bounding boxes, every image is cut to AttnGAN's square around its box and
saved as JPEG of quality 95, unless --no-crop. Samples' facts hold `class` (class_info's number)
and what CUB_200_2011 says of them.

Pickles whose line ends became CR LF on their way are read as they were; others that are damaged,
and those that would import anything, are refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from distgan.data.importers.attngan_files import (
    WordNumbers,
    check_text,
    list_files,
    read_lists,
    read_text,
    read_word_numbers,
)
from distgan.data.importers.birds import Bird, Squares, read_birds, tables_in
from distgan.data.importers.found import fingerprint, image_files
from distgan.data.importers.joining import Described
from distgan.data.importers.options import JoinOptions, option
from distgan.data.samples import Caption

_CUB = "CUB_200_2011"


@dataclass(frozen=True, kw_only=True)
class AttnGANOptions(JoinOptions):
    """Where the files are and what becomes of them."""

    root: Path = option("the folder with train/, test/ and text/", positional=True)
    images: Path | None = option(
        f"the folder of images (default: ROOT/{_CUB}/images, else ROOT/images)", default=None
    )
    captions: Literal["text", "pickle"] = option(
        "from the lines of text/, or from captions.pickle", default="text"
    )
    crop: bool = option(
        f"cut out the square around the bounding box, where ROOT/{_CUB} has them", default=True
    )


class AttnGAN(Squares):
    """Images and captions in AttnGAN's own splits and order, with its class numbers."""

    name = "attngan"

    def __init__(self, options: AttnGANOptions) -> None:
        birds = options.root / _CUB
        inner = birds / "images"
        images = image_files(
            options.images or (inner if inner.is_dir() else options.root / "images")
        )
        files = list_files(options.root) + (tables_in(birds) if birds.is_dir() else [])
        if options.captions == "pickle":
            files.append(options.root / "captions.pickle")
        else:
            files += sorted((options.root / "text").rglob("*.txt"))
        super().__init__(options, inputs=fingerprint(images, [p for p in files if p.is_file()]))
        known = {bird.stem: bird for bird in read_birds(birds)} if birds.is_dir() else {}
        self._crop = options.crop and any(bird.box for bird in known.values())
        self.report.say("images are " + ("cut to squares" if self._crop else "kept whole"))
        self._describe(options, images, known)

    def _describe(
        self, options: AttnGANOptions, images: dict[str, Path], known: dict[str, Bird]
    ) -> None:
        by_stem = {name.rpartition(".")[0]: name for name in images}
        words = None
        if options.captions == "pickle":
            words = read_word_numbers(options.root / "captions.pickle", self.report)
        elif not (options.root / "text").is_dir():
            raise ValueError(f"{options.root} has no folder text; try --captions pickle")
        described = []
        lists = read_lists(options.root, self.report)
        if words is None:
            there = [s for listed in lists.values() for s in listed.names if s in by_stem]
            check_text(options.root / "text", there, options.min_joined)
        for split, listed in lists.items():
            groups = _groups(words, split, len(listed.names)) if words else None
            for i, stem in enumerate(listed.names):
                name = by_stem.get(stem, f"{stem}.jpg")
                if groups is not None:
                    captions: Sequence[Caption] = groups[i]
                else:
                    wanted = stem in by_stem
                    captions = read_text(options.root / "text", stem, self.report) if wanted else ()
                facts = self._facts(stem, listed.classes[i] if listed.classes else None, known)
                described.append(Described(name, list(captions), split, facts))
        self.report.say(f"found {len(images):,} images; the lists name {len(described):,}")
        self.join(described, images)

    def _facts(self, stem: str, label: int | None, known: dict[str, Bird]) -> dict[str, Any]:
        """ValueError when class_info and CUB_200_2011 disagree: the lists are out of step."""
        bird = known.get(stem)
        if bird is None:
            if self._crop:
                raise ValueError(f"the lists name {stem}, which {_CUB}'s tables do not")
            return {} if label is None else {"class": label}
        if label not in (None, bird.class_id):
            raise ValueError(f"class_info has {stem} in class {label}, {_CUB} in {bird.class_id}")
        return bird.facts(cropped=self._crop)


def _groups(words: WordNumbers, split: str, images: int) -> list[list[Caption]]:
    """The captions of each image: as many for all. ValueError when they do not divide evenly."""
    captions = words.captions[split]
    each, rest = divmod(len(captions), images) if images else (0, 1)
    if rest or not each:
        raise ValueError(
            f"captions.pickle: {len(captions):,} captions of {split} are not a whole number for "
            f"each of its {images:,} images"
        )
    lines = [Caption(words.text(numbers)) for numbers in captions]
    return [lines[i * each : (i + 1) * each] for i in range(images)]
