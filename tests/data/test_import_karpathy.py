"""Karpathy's splits: COCO with filepath and cocoid, Flickr without either."""

from __future__ import annotations

from pathlib import Path

import pytest
from importing import (
    Captured,
    karpathy_entry,
    karpathy_file,
    prepared,
    refusal,
    texts_by_key,
    write_images,
    write_json,
)


@pytest.mark.parametrize("layout", ["as published", "flat", "2017"])
@pytest.mark.parametrize("restval", ["train", "val", "drop"])
def test_coco_in_any_folders(tmp_path: Path, layout: str, restval: str, capsys: Captured) -> None:
    captions, names = karpathy_file(tmp_path / "dataset_coco.json")
    if layout == "flat":
        names = [name.rpartition("/")[2] for name in names]
    elif layout == "2017":
        names = [f"{'val' if i == 4 else 'train'}2017/{i + 10:012d}.jpg" for i in range(5)]
    write_images(tmp_path / "coco", names)
    words = ("karpathy", captions, "--images", tmp_path / "coco", "--restval", restval)
    dataset = prepared(tmp_path / "out", *words)
    said = capsys.readouterr().out
    assert "dataset_coco.json: train 2, restval 1, val 1, test 1" in said
    assert ("dropped 1: images of restval (--restval drop)" in said) == (restval == "drop")
    assert "that nothing describes" not in said
    ids = {
        name: [dataset.split(name).facts(i)["coco_id"] for i in range(len(dataset.split(name)))]
        for name in dataset.splits
    }
    expected = {"train": [10, 11], "val": [13], "test": [14]}
    if restval != "drop":
        expected[restval] = sorted([*expected[restval], 12])
    assert ids == expected
    key = "COCO_train2014_000000000010"
    assert texts_by_key(dataset)["train"][key] == ["Number 0.", "A thing"]


def test_flickr_has_no_filepath_and_no_cocoid(tmp_path: Path, capsys: Captured) -> None:
    names = [f"{i}_ab.jpg" for i in range(4)]
    entries = [
        karpathy_entry(i, split, filename=name)
        for i, (name, split) in enumerate(
            zip(names, ("train", "train", "val", "test"), strict=True)
        )
    ]
    entries[0]["sentences"][1].pop("raw")
    captions = write_json(tmp_path / "dataset_flickr8k.json", {"images": entries})
    write_images(tmp_path / "images", [*names[:1], *names[2:], "other.jpg"])
    words = ("karpathy", captions, "--images", tmp_path / "images")
    dataset = prepared(tmp_path / "out", *words)
    assert texts_by_key(dataset) == {
        "train": {"0_ab": ["Number 0.", "a thing"]},
        "val": {"2_ab": ["Number 2.", "A thing"]},
        "test": {"3_ab": ["Number 3.", "A thing"]},
    }
    assert dataset.split("val").facts(0) == {"file": "2_ab.jpg", "image_id": 2}
    said = capsys.readouterr().out
    assert "dropped 1: described images that are not there: 1_ab.jpg" in said
    assert "dropped 1: images that nothing describes: other.jpg" in said
    said = refusal(capsys, tmp_path / "x", *words, "--min-joined", 0.6)
    assert "split train: of 2 images that it names, 1 are among the 4 found" in said


def test_other_json_and_double_images_are_refused(tmp_path: Path, capsys: Captured) -> None:
    write_images(tmp_path / "images", ["a/1.jpg", "b/1.jpg"])
    out, words = tmp_path / "out", ("--images", tmp_path / "images")
    coco = write_json(tmp_path / "captions.json", {"images": [{"id": 1}], "annotations": []})
    said = refusal(capsys, out, "karpathy", coco, *words)
    assert "images[0] has no filename, split, sentences" in said
    flickr = write_json(
        tmp_path / "f.json", {"images": [karpathy_entry(0, "train", filename="1.jpg")]}
    )
    said = refusal(capsys, out, "karpathy", flickr, *words)
    assert "1.jpg: 2 images have this name, none at this place: a/1.jpg, b/1.jpg" in said
