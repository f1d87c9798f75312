"""Every importer `prepare.py` knows. A new one is a line here."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from distgan.data.importers import (
    attngan,
    coco,
    cub,
    fashiongen,
    flickr,
    folder,
    huggingface,
    karpathy,
    scicap,
    senticap,
    shapes,
)
from distgan.data.importers.found import Report
from distgan.data.shards import Importer


class SourceImporter(Importer, Protocol):
    """An importer that says what it found and what its samples depend on."""

    @property
    def report(self) -> Report: ...
    @property
    def source(self) -> dict[str, Any]: ...


@dataclass(frozen=True)
class Registered:
    """An importer with the class of its options, and what it is for in one line."""

    options: type[Any]
    importer: Callable[[Any], SourceImporter]
    help: str

    @property
    def manual(self) -> str:
        """The docstring of its module: formats, and commands from download to shards."""
        return (sys.modules[self.importer.__module__].__doc__ or "").strip()


IMPORTERS: dict[str, Registered] = {
    "shapes": Registered(
        shapes.ShapesOptions, shapes.Shapes, "the made-up world of coloured shapes"
    ),
    "flickr": Registered(
        flickr.FlickrOptions, flickr.Flickr, "Flickr8k or Flickr30k, with FlickrStyle10K or not"
    ),
    "coco": Registered(
        coco.CocoOptions, coco.Coco, "COCO captions of 2014 or 2017, others in their format"
    ),
    "karpathy": Registered(
        karpathy.KarpathyOptions, karpathy.Karpathy, "Karpathy's splits of COCO and Flickr"
    ),
    "senticap": Registered(
        senticap.SentiCapOptions, senticap.SentiCap, "SentiCap: COCO in two styles"
    ),
    "scicap": Registered(scicap.SciCapOptions, scicap.SciCap, "SciCap: figures of papers"),
    "cub": Registered(cub.CubOptions, cub.Cub, "CUB-200-2011: birds, with boxes and classes"),
    "attngan": Registered(
        attngan.AttnGANOptions, attngan.AttnGAN, "a data folder laid out for AttnGAN"
    ),
    "fashiongen": Registered(
        fashiongen.FashionGenOptions, fashiongen.FashionGen, "FashionGen's HDF5 files"
    ),
    "huggingface": Registered(
        huggingface.HuggingFaceOptions,
        huggingface.huggingface,
        "a Hugging Face image folder, or Parquet files with images",
    ),
    "folder": Registered(
        folder.FolderOptions, folder.folder, "a folder or a table of images with captions"
    ),
}
