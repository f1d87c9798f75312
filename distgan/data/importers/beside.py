"""Which photographs of COCO a factual dataset trains on, whatever form it has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from distgan.data.dataset import Dataset
from distgan.data.importers.annotations import coco_id_of, read_json
from distgan.data.importers.coco import read_coco
from distgan.data.importers.karpathy import RESTVAL, read_karpathy
from distgan.data.shard_index import is_unseen


def trained_on(path: Path) -> set[int]:
    """COCO ids of the training images of a prepared dataset, captions_*.json or dataset_coco.json.

    All images of a captions file count, and Karpathy's train with restval. ValueError when
    there are none to be told by their ids.
    """
    if path.suffix == ".json":
        ids = _of_json(path)
    else:
        dataset = Dataset.open(path, allow_damage=True)
        splits = [dataset.split(name) for name in dataset.splits if not is_unseen(name)]
        ids = {_id(split.facts(i), split.key(i)) for split in splits for i in range(len(split))}
    known = {number for number in ids if number is not None}
    if not known:
        raise ValueError(f"{path}: no COCO ids of training images in it to compare SentiCap's with")
    return known


def _of_json(path: Path) -> set[int | None]:
    content = read_json(path, "dataset")
    if isinstance(content, dict) and "annotations" in content:
        return {coco_id_of(name) for name in read_coco(path).names.values()}
    entries = read_karpathy(path)
    return {each.get("cocoid") for each in entries if each["split"] in ("train", RESTVAL)}


def _id(facts: dict[str, Any], key: str) -> int | None:
    for name in ("coco_id", "cocoid"):  # ours, and that of shards others made
        if name in facts:
            return int(facts[name])
    return coco_id_of(f"{key}.jpg")
