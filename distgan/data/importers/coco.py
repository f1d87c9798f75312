"""COCO captions of 2014 and 2017, and other captions in COCO's format.

From cocodataset.org: annotations_trainval2017.zip, train2017.zip and val2017.zip, unpacked:

  prepare.py coco --train annotations/captions_train2017.json train2017 \\
      --val annotations/captions_val2017.json val2017 --out data/coco

2014 the same way; the factual captions that SentiCap is trained beside are train2014's, because
all of SentiCap's images are val2014's:

  prepare.py coco --train annotations/captions_train2014.json train2014 \\
      --val annotations/captions_val2014.json val2014 --out data/coco2014

An option may be repeated: the split holds all of them. SciCap's challenge release is in this
format too: `--train train.json img --val val.json img --caption-key caption_no_index`.
The sample's facts hold `coco_id`, or `image_id` where file names are not COCO's.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from distgan.data.importers.annotations import (
    coco_id_of,
    coco_names,
    published_names,
    read_json,
    records,
)
from distgan.data.importers.found import fingerprint, image_files, key_of
from distgan.data.importers.joining import Described, ImageFiles
from distgan.data.importers.options import JoinOptions, option
from distgan.data.samples import Caption


@dataclass(frozen=True)
class Annotations:
    """A captions file and the folder of its images."""

    captions: Path
    images: Path


_BOTH = ("CAPTIONS", "IMAGES")


@dataclass(frozen=True, kw_only=True)
class CocoOptions(JoinOptions):
    """Where the files are, by split."""

    train: tuple[Annotations, ...] = option(
        "captions_train*.json and the folder of its images", default=(), metavar=_BOTH
    )
    val: tuple[Annotations, ...] = option("the same for `val`", default=(), metavar=_BOTH)
    test: tuple[Annotations, ...] = option("the same for `test`", default=(), metavar=_BOTH)
    caption_key: str = option("the key that holds an annotation's caption", default="caption")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (self.train or self.val or self.test):
            raise ValueError("nothing to import: give --train, --val or --test")

    @property
    def given(self) -> list[tuple[str, Annotations]]:
        """Every captions file with its split."""
        splits = {"train": self.train, "val": self.val, "test": self.test}
        return [(split, each) for split, those in splits.items() for each in those]


class Coco(ImageFiles):
    """Images with the captions that annotation files give them, in the split they were given."""

    name = "coco"

    def __init__(self, options: CocoOptions) -> None:
        files = [
            (s, each, read_coco(each.captions, options.caption_key)) for s, each in options.given
        ]
        labels = _labels([each.images for _, each, _ in files])
        images: dict[str, Path] = {}
        for folder, label in labels.items():
            names = [n for _, e, f in files if e.images == folder for n in f.names.values()]
            named = published_names(image_files(folder), map(coco_names, names))
            images |= {f"{label}/{name}": path for name, path in named.items()}
        described = [d for s, e, f in files for d in f.described(s, labels[e.images])]
        super().__init__(options, inputs=fingerprint(images, [e.captions for _, e, _ in files]))
        self.source |= {split: len(vars(options)[split]) for split in ("train", "val", "test")}
        for _, each, content in files:
            self._tell(each.captions, content)
        _refuse_shared(described)
        self.join(described, images)

    def _tell(self, path: Path, content: CocoFile) -> None:
        captions = [caption for those in content.captions.values() for caption in those]
        self.report.say(
            f"found {len(content.names):,} images and {len(captions):,} captions in {path.name}"
        )
        same = sum(len(those) - len(set(those)) for those in content.captions.values())
        if same:
            self.report.say(f"{path.name}: {same:,} captions repeat another of their image; kept")
        for orphan in content.orphans:
            self.report.drop(f"captions of images that {path.name} does not list", orphan)
        for repeated in content.repeated:
            self.report.drop(f"annotations of {path.name} whose id occurred before", repeated)


@dataclass
class CocoFile:
    """A captions file: file names and captions by image id, and what belongs nowhere."""

    names: dict[int, str]
    captions: dict[int, list[str]]
    orphans: list[str] = field(default_factory=list)
    repeated: list[str] = field(default_factory=list)

    def described(self, split: str, folder: str) -> list[Described]:
        """Its images, under names that begin with the folder they lie in."""
        return [
            Described(
                f"{folder}/{name}",
                [Caption(text) for text in self.captions.get(number, [])],
                split,
                {"image_id" if coco_id_of(name) is None else "coco_id": number},
                key=key_of(name),
            )
            for number, name in self.names.items()
        ]


def read_coco(path: Path, caption: str = "caption") -> CocoFile:
    """A captions file in COCO's format. ValueError naming it for anything else."""
    content = read_json(path, "captions file")
    if isinstance(content, list):
        raise ValueError(
            f"{path}: a list, as results of captioners are, not annotations with `images`"
        )
    images = records(content, "images", ("id", "file_name"), path)
    annotations = records(content, "annotations", ("id", "image_id", caption), path)
    found = CocoFile({each["id"]: each["file_name"] for each in images}, defaultdict(list))
    if len(found.names) < len(images):
        raise ValueError(f"{path}: {len(images) - len(found.names):,} image ids occur twice")
    seen: set[int] = set()
    for each in annotations:
        if not isinstance(each[caption], str):
            raise ValueError(f"{path}: annotation {each['id']}: {caption} is {each[caption]!r}")
        if each["image_id"] not in found.names:
            found.orphans.append(f"annotation {each['id']} of image {each['image_id']}")
        elif each["id"] in seen:
            found.repeated.append(f"annotation {each['id']}")
        else:
            found.captions[each["image_id"]].append(each[caption])
        seen.add(each["id"])
    return found


def _labels(folders: list[Path]) -> dict[Path, str]:
    """Each folder's own name, numbered where two have the same."""
    names = {folder: folder.resolve().name for folder in folders}
    if len(set(names.values())) == len(names):
        return names
    return {folder: f"{number}-{name}" for number, (folder, name) in enumerate(names.items())}


def _refuse_shared(described: list[Described]) -> None:
    """ValueError when a photograph of COCO is in two splits (2014's and 2017's differ)."""
    splits: dict[int, str] = {}
    shared: dict[tuple[str, str], list[str]] = defaultdict(list)
    for said in described:
        coco_id = said.facts.get("coco_id")
        if coco_id is not None and said.split is not None:
            before = splits.setdefault(coco_id, said.split)
            if before != said.split:
                shared[before, said.split].append(said.name)
    for (one, other), names in shared.items():
        raise ValueError(
            f"{len(names):,} images are both in {one} and in {other}, such as {names[0]}: "
            "the splits of 2014 and 2017 must not be mixed"
        )
