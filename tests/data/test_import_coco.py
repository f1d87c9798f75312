"""COCO's captions: as published, as half of it is there, and as users confuse its files."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from importing import (
    SHARED,
    Captured,
    captions_file,
    needs_shared,
    of_2014,
    prepared,
    refusal,
    texts_by_key,
    tiny_words,
    train,
    write_images,
    write_json,
)

from distgan.data.importers.annotations import coco_id_of, coco_names, published_names
from distgan.data.importers.coco import read_coco

TINY, FULL = SHARED / "coco_tiny", SHARED / "coco_annotations"


def test_annotations_join_their_images_and_the_rest_is_named(
    tmp_path: Path, capsys: Captured
) -> None:
    train_names, val_names = of_2014("train", 1, 2, 3, 4, 5), of_2014("val", 6)
    write_images(tmp_path / "train2014", [train_names[i] for i in (1, 2, 3, 5)] + ["extra.jpg"])
    write_images(tmp_path / "val2014", val_names.values())
    captions = [(1, "A dog. \n"), (2, "A cat"), (2, "A cat"), (2, " "), (3, "Two\nbirds")]
    captions += [(4, "Away"), (99, "Of nothing")]
    given = captions_file(tmp_path / "captions_train2014.json", train_names, captions)
    content = read_coco(given)
    assert content.captions[2] == ["A cat", "A cat", " "] and len(content.orphans) == 1
    val = captions_file(tmp_path / "captions_val2014.json", val_names, [(6, "A fish")])
    out = tmp_path / "out"
    words = ("--train", given, tmp_path / "train2014", "--val", val, tmp_path / "val2014")
    dataset = prepared(out, "coco", *words)
    said = capsys.readouterr().out
    for line in (
        "found 5 images and 6 captions in captions_train2014.json",
        "captions_train2014.json: 1 captions repeat another of their image; kept",
        "dropped 1: captions of images that captions_train2014.json does not list: annotation 106",
        "dropped 1: described images that are not there: train2014/COCO_train2014_000000000004",
        "dropped 1: images that nothing describes: train2014/extra.jpg",
        "dropped 1: images without captions: train2014/COCO_train2014_000000000005.jpg",
        "dropped 1: captions without words: train2014/COCO_train2014_000000000002.jpg ' '",
    ):
        assert line in said
    assert texts_by_key(dataset) == {
        "train": {
            "COCO_train2014_000000000001": ["A dog."],
            "COCO_train2014_000000000002": ["A cat", "A cat"],
            "COCO_train2014_000000000003": ["Two birds"],
        },
        "val": {"COCO_val2014_000000000006": ["A fish"]},
    }
    facts = dataset.split("val").facts(0)
    assert facts == {"file": "COCO_val2014_000000000006.jpg", "coco_id": 6}


def test_several_files_make_one_split_and_names_of_either_release_do(tmp_path: Path) -> None:
    """All of 2014 lies as 2017 names it, in one folder."""
    write_images(tmp_path / "all", [f"{number:012d}.jpg" for number in (1, 2, 3)])
    files = [
        captions_file(tmp_path / f"{number}.json", of_2014(split, number), [(number, "x y")])
        for number, split in ((1, "train"), (2, "val"), (3, "val"))
    ]
    words = [
        word
        for split, file in zip(("train", "train", "val"), files, strict=True)
        for word in (f"--{split}", file, tmp_path / "all")
    ]
    dataset = prepared(tmp_path / "out", "coco", *words)
    assert dataset.manifest.splits == {"train": 2, "val": 1}
    assert dataset.split("train").facts(1) == {"file": "000000000002.jpg", "coco_id": 2}


def test_other_captions_in_cocos_format(tmp_path: Path, capsys: Captured) -> None:
    """Same image ids in both splits, folders of one name, another key for the caption."""
    words: list[object] = []
    for split in ("train", "val"):
        write_images(tmp_path / split / "img", ["1.v2.png"])
        content = {
            "images": [{"id": 1, "file_name": "1.v2.png", "ocr": []}],
            "annotations": [
                {
                    "id": 5,
                    "image_id": 1,
                    "caption": "Figure 1: x",
                    "caption_no_index": f"the {split}",
                }
            ],
        }
        words += [f"--{split}", write_json(tmp_path / f"{split}.json", content)]
        words += [tmp_path / split / "img"]
    out = tmp_path / "out"
    dataset = prepared(out, "coco", *words, "--caption-key", "caption_no_index")
    assert texts_by_key(dataset) == {"train": {"1_v2": ["the train"]}, "val": {"1_v2": ["the val"]}}
    assert dataset.split("val").facts(0) == {"file": "1.v2.png", "image_id": 1}
    said = refusal(capsys, tmp_path / "x", "coco", *words, "--caption-key", "words")
    assert "annotations[0] has no words" in said


def test_what_is_no_captions_file_is_refused(tmp_path: Path, capsys: Captured) -> None:
    folder = tmp_path / "val2014"
    names = of_2014("val", 1)
    write_images(folder, names.values())
    good = captions_file(tmp_path / "captions.json", names, [(1, "a dog")])

    def refused(path: Path) -> str:
        return refusal(capsys, tmp_path / "out", "coco", "--val", path, folder)

    results = write_json(tmp_path / "results.json", [{"image_id": 1, "caption": "a dog"}])
    assert "a list, as results of captioners are" in refused(results)
    images = [{"id": 1, "file_name": names[1]}]
    instances = {"images": images, "annotations": [{"id": 1, "image_id": 1, "bbox": []}]}
    assert "annotations[0] has no caption" in refused(write_json(tmp_path / "i.json", instances))
    no_captions = write_json(tmp_path / "image_info_test2014.json", {"images": images})
    assert "no list `annotations` in it; it is an object with images" in refused(no_captions)
    nothing = write_json(tmp_path / "no.json", {"images": [], "annotations": []})
    assert "no image is described, 1 are there: nothing to import" in refused(nothing)
    twice = write_json(tmp_path / "t.json", {"images": images * 2, "annotations": []})
    assert "1 image ids occur twice" in refused(twice)
    null = {"images": images, "annotations": [{"id": 1, "image_id": 1, "caption": None}]}
    assert "annotation 1: caption is None" in refused(write_json(tmp_path / "n.json", null))
    (tmp_path / "cut.json").write_text('{"images": [')
    assert "cut.json is not JSON" in refused(tmp_path / "cut.json")
    assert "none.json does not exist" in refused(tmp_path / "none.json")
    assert "give --train, --val or --test" in refusal(capsys, tmp_path / "out", "coco")
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "holds no images" in refusal(capsys, tmp_path / "out", "coco", "--val", good, empty)


def test_half_a_split_and_mixed_releases_are_refused(tmp_path: Path, capsys: Captured) -> None:
    write_images(tmp_path / "train2014", of_2014("train", 1).values())
    write_images(tmp_path / "val2017", ["000000000001.jpg", "000000000002.jpg"])
    part = captions_file(
        tmp_path / "part.json", of_2014("train", 1, 2, 3), [(1, "a"), (2, "b"), (3, "c")]
    )
    words = ("coco", "--train", part, tmp_path / "train2014")
    said = refusal(capsys, tmp_path / "out", *words)
    assert "split train: of 3 images that it names, 1 are among the 1 found" in said
    assert "COCO_train2014_000000000002.jpg" in said
    later = captions_file(
        tmp_path / "later.json",
        {1: "000000000001.jpg", 2: "000000000002.jpg"},
        [(1, "a"), (2, "b")],
    )
    words += ("--min-joined", 0.3)
    said = refusal(capsys, tmp_path / "out", *words, "--val", later, tmp_path / "val2017")
    assert "2 images are both in train and in val, such as val2017/000000000001.jpg" in said
    assert len(prepared(tmp_path / "out", *words).split("train")) == 1


def test_names_of_coco() -> None:
    assert (
        coco_id_of("val2014/COCO_val2014_000000000042.jpg") == 42 == coco_id_of("000000000042.jpg")
    )
    assert coco_id_of("1000092795.jpg") is None and coco_id_of("000000000042.png") is None
    assert coco_names("dog.jpg") == ("dog.jpg",)
    assert coco_names("000000000042.jpg") == (
        "000000000042.jpg",
        "COCO_train2014_000000000042.jpg",
        "COCO_val2014_000000000042.jpg",
        "COCO_test2014_000000000042.jpg",
    )
    images = {"a/1.jpg": Path("A1"), "b/1.jpg": Path("B1"), "b/2.jpg": Path("B2")}
    assert published_names(images, [("b/1.jpg",), ("x/3.jpg", "2.jpg")]) == {
        "b/1.jpg": Path("B1"),
        "x/3.jpg": Path("B2"),
        "a/1.jpg": Path("A1"),
    }
    with pytest.raises(ValueError, match=r"c/1\.jpg: 2 images have this name, none at this place"):
        published_names(images, [("c/1.jpg",)])


@needs_shared("coco_tiny")
def test_real_photographs_join_and_train(tmp_path: Path) -> None:
    dataset = prepared(tmp_path / "coco", "coco", *tiny_words())
    assert dataset.manifest.splits == {"train": 50, "val": 50}
    assert dataset.manifest.captions == {"train": {"factual": 250}, "val": {"factual": 250}}
    split = dataset.split("train")
    assert split.facts(0) == {"file": "000000391895.jpg", "coco_id": 391895}
    assert split.image_bytes(0) == (TINY / "train2017" / "000000391895.jpg").read_bytes()
    style = tmp_path / "cheerful.txt"
    style.write_text("what a lovely day\nhow nice\n")
    words = ("stages=[factual]", f"data.style={style}")
    train(tmp_path / "runs", tmp_path / "coco", *words)


@needs_shared("coco_tiny")
@needs_shared("flickrstyle")
@pytest.mark.slow
def test_real_styles_without_images_train_beside_coco(tmp_path: Path, capsys: Captured) -> None:
    """FlickrStyle10K as text alone: CR LF, no end of the last line, one file of Latin-1."""
    styles = SHARED / "flickrstyle"
    words = ("--lines", "humorous", styles / "funny_train.txt")
    words += ("--lines", "romantic", styles / "romantic_train.txt")
    dataset = prepared(tmp_path / "coco", "coco", *tiny_words(), *words)
    said = capsys.readouterr().out
    assert "romantic_train.txt is not UTF-8 (byte 181375); read as Latin-1" in said
    assert said.count("_train.txt: 7,000 lines") == 2
    for style in ("humorous", "romantic"):
        lines = dataset.texts(style)
        assert len(lines) == 7000 and not any("\r" in line or "\ufffd" in line for line in lines)
    assert any("\u00a3" in line for line in dataset.texts("romantic"))
    train(tmp_path / "runs", tmp_path / "coco")


@needs_shared("coco_annotations")
def test_annotations_without_photographs_are_refused(tmp_path: Path, capsys: Captured) -> None:
    full = FULL / "annotations" / "captions_val2017.json"
    out, words = tmp_path / "out", ("coco", "--val", full)
    assert "holds no images" in refusal(capsys, out, *words, FULL / "annotations")
    assert "does not exist" in refusal(capsys, out, *words, FULL / "val2017")
    for name in ("captions_val2014_fakecap_results.json", "captions_val2017_fakecap_results.json"):
        results = FULL / "results" / name
        assert "as results of captioners are" in refusal(capsys, out, "coco", "--val", results, out)
    content = read_coco(full)
    sizes = Counter(len(captions) for captions in content.captions.values())
    assert sizes == {5: 4987, 6: 12, 7: 1} and len(content.names) == 5000
    if TINY.is_dir():
        said = refusal(capsys, out, *words, TINY / "val2017")
        assert "of 5,000 images that it names, 50 are among the 50 found" in said
        dataset = prepared(out, *words, TINY / "val2017", "--min-joined", 0.01)
        captions = [dataset.split("val").captions(i) for i in range(50)]
        assert all(c.text == c.text.strip() and "\n" not in c.text for x in captions for c in x)
