"""Karpathy's splits of COCO, Flickr8k and Flickr30k (dataset_coco.json and its siblings).

From cs.stanford.edu/people/karpathy/deepimagesent: caption_datasets.zip, beside COCO's
train2014.zip and val2014.zip unpacked into one folder (the release of 2017 holds the same images
and will do), or Flickr's photographs:

  prepare.py karpathy dataset_coco.json --images coco --out data/coco
  prepare.py karpathy dataset_flickr8k.json --images Flicker8k_Dataset --out data/flickr8k
  prepare.py karpathy dataset_flickr30k.json --images flickr30k-images --out data/flickr30k

COCO's `restval`, images of val2014 in neither val nor test, joins train as captioners have it. All
of SentiCap's images are val2014's: beside SentiCap leave it out,

  prepare.py karpathy dataset_coco.json --images coco --restval drop --out data/coco
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from distgan.data.importers.annotations import coco_names, published_names, read_json, records
from distgan.data.importers.found import fingerprint, image_files, key_of
from distgan.data.importers.joining import Described, ImageFiles
from distgan.data.importers.options import JoinOptions, option
from distgan.data.samples import Caption

RESTVAL = "restval"


@dataclass(frozen=True, kw_only=True)
class KarpathyOptions(JoinOptions):
    """Where the files are, and what becomes of the images that COCO's splits left over."""

    captions: Path = option("dataset_coco.json, _flickr8k or _flickr30k", positional=True)
    images: Path = option("the folder of images, with or without train2014 and val2014 in it")
    restval: Literal["train", "drop", "val"] = option(
        "what becomes of `restval`: part of train, dropped, part of val", default="train"
    )


class Karpathy(ImageFiles):
    """The images of a file of Karpathy's, in its splits."""

    name = "karpathy"

    def __init__(self, options: KarpathyOptions) -> None:
        entries = read_karpathy(options.captions)
        images = published_names(
            image_files(options.images), [coco_names(place_of(each)) for each in entries]
        )
        super().__init__(options, inputs=fingerprint(images, [options.captions]))
        counts = Counter(each["split"] for each in entries)
        found = ", ".join(f"{split} {count:,}" for split, count in counts.items())
        self.report.say(f"found {len(entries):,} images in {options.captions.name}: {found}")
        if counts[RESTVAL]:
            fate = "dropped" if options.restval == "drop" else f"part of {options.restval}"
            self.report.say(f"{RESTVAL}: {counts[RESTVAL]:,} images, {fate} (--restval)")
        self.join(self._described(entries, images), images)

    def _described(self, entries: list[dict[str, Any]], images: dict[str, Path]) -> list[Described]:
        """What is said of the images, without those (and out of `images`) that are left out."""
        described = []
        for each in entries:
            split = self.options.restval if each["split"] == RESTVAL else each["split"]
            if split == "drop":
                self.report.drop("images of restval (--restval drop)", each["filename"])
                images.pop(place_of(each), None)
                continue
            captions = [Caption(_text(sentence)) for sentence in each["sentences"]]
            key = key_of(each["filename"])
            described.append(Described(place_of(each), captions, split, _facts(each), key))
        return described


def read_karpathy(path: Path) -> list[dict[str, Any]]:
    """The images of a file of Karpathy's. ValueError naming it for anything else."""
    content = read_json(path, "captions file")
    return records(content, "images", ("filename", "split", "sentences"), path)


def place_of(entry: dict[str, Any]) -> str:
    """Where an image lies: only COCO's have a `filepath`."""
    folder = entry.get("filepath")
    return f"{folder}/{entry['filename']}" if folder else entry["filename"]


def _facts(entry: dict[str, Any]) -> dict[str, Any]:
    """COCO's images have a `cocoid`; Flickr's only the number `imgid`."""
    if "cocoid" in entry:
        return {"coco_id": entry["cocoid"]}
    return {"image_id": entry["imgid"]} if "imgid" in entry else {}


def _text(sentence: dict[str, Any]) -> str:
    return sentence["raw"] if "raw" in sentence else " ".join(sentence["tokens"])
