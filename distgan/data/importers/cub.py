"""CUB-200-2011: photographs of birds, with the ten captions each that Reed et al. collected.

CUB_200_2011.tgz (data.caltech.edu/records/65de6-vp158) unpacks to CUB_200_2011/. The captions
are a folder of CLASS/IMAGE.txt, a caption a line: `text_c10` of Reed's cvpr2016_cub.tar.gz, or
`text` of AttnGAN's birds.zip.

    prepare.py cub CUB_200_2011 --text cvpr2016_cub/text_c10 --out data/cub

`train` and `test` are the published split (every species in both). Text-to-image papers train
on 150 species and test on 50 others, by the lists that AttnGAN's birds.zip holds:

    prepare.py cub CUB_200_2011 --text birds/text --split-by classes --lists birds --out data/birds

Every image is cut to AttnGAN's square around its bounding box and saved as JPEG of quality 95;
with --no-crop the samples hold the original files. A sample's facts are `image_id`, `class`
(1 to 200), `class_name` and `box` (x, y, width, height in the whole photograph).

Smaller copies that have images.csv and classes.csv in place of the tables are read too; they
have no boxes and need --no-crop.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from distgan.data.importers.attngan_files import (
    check_text,
    list_files,
    read_lists,
    read_text,
)
from distgan.data.importers.birds import BOXES, Bird, Squares, read_birds, tables_in
from distgan.data.importers.found import Report, fingerprint, image_files
from distgan.data.importers.joining import Described
from distgan.data.importers.options import JoinOptions, option

_TEXT = ("text_c10", "text")


@dataclass(frozen=True, kw_only=True)
class CubOptions(JoinOptions):
    """Where the files are and what becomes of them."""

    root: Path = option("CUB_200_2011 as unpacked: images.txt and the others", positional=True)
    text: Path | None = option(
        "the folder of CLASS/IMAGE.txt (default: text_c10 or text in ROOT)", default=None
    )
    images: Path | None = option(
        "the folder of CLASS/IMAGE.jpg (default: ROOT/images)", default=None
    )
    crop: bool = option("cut out AttnGAN's square around the bounding box", default=True)
    split_by: Literal["official", "classes"] = option(
        "the published split of each species, or 150 species to train and 50 others to test",
        default="official",
    )
    lists: Path | None = option(
        "for --split-by classes: holds train/filenames.pickle and test/filenames.pickle",
        default=None,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.split_by == "classes") != (self.lists is not None):
            raise ValueError(
                f"split_by={self.split_by} and lists={self.lists}: the lists are what "
                "`classes` splits by; give both or neither"
            )


class Cub(Squares):
    """CUB-200-2011 with captions, class ids and boxes."""

    name = "cub"

    def __init__(self, options: CubOptions) -> None:
        images = image_files(options.images or options.root / "images")
        text = _text_folder(options)
        birds = read_birds(options.root)
        if options.crop and any(bird.box is None for bird in birds):
            raise ValueError(
                f"crop: there is no {BOXES} in {options.root}; --no-crop keeps whole images"
            )
        lists = list_files(options.lists) if options.lists else []
        texts = [path for bird in birds if (path := text / f"{bird.stem}.txt").is_file()]
        files = [*tables_in(options.root), *lists, *texts]
        super().__init__(options, inputs=fingerprint(images, files))
        self._crop = options.crop
        self._describe(birds, images, text, _splits(birds, options.lists, self.report))

    def _describe(
        self, birds: list[Bird], images: dict[str, Path], text: Path, splits: dict[str, str]
    ) -> None:
        self.report.say(f"found {len(images):,} images; the tables name {len(birds):,}")
        there = [bird.stem for bird in birds if bird.name in images]
        check_text(text, there, self.options.min_joined)
        described = []
        for bird in birds:
            if bird.name not in splits:
                self.report.drop("images that neither list names", bird.name)
                continue
            wanted = bird.name in images
            captions = read_text(text, bird.stem, self.report) if wanted else []
            facts = bird.facts(cropped=self._crop)
            described.append(Described(bird.name, captions, splits[bird.name], facts))
        self.join(described, images)


def _text_folder(options: CubOptions) -> Path:
    if options.text is not None:
        if not options.text.is_dir():
            raise ValueError(f"text folder {options.text} does not exist")
        return options.text
    found = [options.root / name for name in _TEXT if (options.root / name).is_dir()]
    if len(found) != 1:
        raise ValueError(
            f"{len(found)} of the folders {' and '.join(_TEXT)} are in {options.root}; "
            "--text says where the captions are"
        )
    return found[0]


def _splits(birds: list[Bird], lists: Path | None, report: Report) -> dict[str, str]:
    """Each image's split: the published one, or that of AttnGAN's lists."""
    if lists is None:
        return {bird.name: "train" if bird.train else "test" for bird in birds}
    known = {bird.stem: bird for bird in birds}
    splits = {}
    for split, listed in read_lists(lists, report).items():
        for number, stem in enumerate(listed.names):
            if stem not in known:
                raise ValueError(f"{lists}: {split} names {stem}, which the tables do not")
            label = listed.classes[number] if listed.classes else known[stem].class_id
            if label != known[stem].class_id:
                raise ValueError(
                    f"{lists}: {split} has {stem} in class {label}, the tables in "
                    f"{known[stem].class_id}"
                )
            splits[known[stem].name] = split
    return splits
