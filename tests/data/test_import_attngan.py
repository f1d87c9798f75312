"""AttnGAN's data folders: its lists, classes and captions, whole and damaged."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
from importing import SHARED, Captured, needs_shared, prepared, refusal, texts_by_key
from made_up_birds import (
    BOXES,
    STEMS,
    captions_of,
    class_of,
    listed,
    write_cub,
    write_lists,
    write_photographs,
    write_text,
    write_word_numbers,
)

from distgan.data.importers.attngan_files import read_lists, read_word_numbers
from distgan.data.importers.found import Report

METADATA = SHARED / "cub_metadata"


def key(stem: str) -> str:
    return stem.replace("/", "_").replace(".", "_")


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_birds_come_in_attngans_order_and_splits(
    tmp_path: Path, end: bytes, capsys: Captured
) -> None:
    root = write_lists(tmp_path / "birds", end)
    write_cub(root / "CUB_200_2011", end.decode())
    write_text(root / "text")
    dataset = prepared(tmp_path / "out", "attngan", root)
    said = capsys.readouterr().out
    assert "found 12 images; the lists name 12" in said and "images are cut to squares" in said
    assert said.count("line ends were CR LF, turned back to LF") == (4 if end == b"\r\n" else 0)
    for name in ("train", "test"):
        split = dataset.split(name)
        assert [split.key(i) for i in range(len(split))] == [key(stem) for stem in listed(name)]
        for i, stem in enumerate(listed(name)):
            assert [caption.text for caption in split.captions(i)] == captions_of(stem)
            facts = split.facts(i)
            assert facts["class"] == class_of(stem) and facts["cropped"]
            assert tuple(facts["box"]) == BOXES[stem]
    whole = prepared(tmp_path / "whole", "attngan", root, "--no-crop").split("train")
    stem = listed("train")[0]
    original = (root / "CUB_200_2011" / "images" / f"{stem}.jpg").read_bytes()
    assert whole.image_bytes(0) == original != dataset.split("train").image_bytes(0)


@pytest.mark.parametrize("protocol", [0, 2])
def test_captions_come_from_the_pickle_too(tmp_path: Path, protocol: int) -> None:
    """A folder of one's own: images beside the lists, no boxes, no text."""
    root = write_lists(tmp_path / "mine", protocol=protocol)
    write_photographs(root / "images")
    path = write_word_numbers(root / "captions.pickle", protocol)
    dataset = prepared(tmp_path / "out", "attngan", root, "--captions", "pickle")
    texts = texts_by_key(dataset)
    for split in ("train", "test"):
        for stem in listed(split):
            assert texts[split][key(stem)] == [c.strip(".") for c in captions_of(stem)]
    assert "cropped" not in dataset.split("train").facts(0)
    found = path.read_bytes()
    assert found.count(b"\n") and b"\r\n" not in found
    path.write_bytes(found.replace(b"\n", b"\r\n"))
    report = Report()
    assert read_word_numbers(path, report).words[0] == "<end>"
    assert "line ends were CR LF" in report.lines[0]


def test_parts_that_do_not_fit_are_refused(tmp_path: Path, capsys: Captured) -> None:
    root = write_lists(tmp_path / "birds")
    write_photographs(root / "images")
    words, out = ("attngan", root), tmp_path / "x"
    assert "has no folder text; try --captions pickle" in refusal(capsys, out, *words)
    write_text(root / "text")

    def broken(path: Path, value: Any, *more: object) -> str:
        before = path.read_bytes()
        path.write_bytes(value if isinstance(value, bytes) else pickle.dumps(value, 2))
        said = refusal(capsys, out, *words, *more)
        path.write_bytes(before)
        return said

    names, classes = root / "train" / "filenames.pickle", root / "train" / "class_info.pickle"
    assert "7 classes, but filenames.pickle beside it has 8" in broken(classes, [1] * 7)
    assert "1 images are in train and test" in broken(names, [*listed("train")[1:], STEMS[-1]])
    assert "entry 1 is 5, no str" in broken(names, ["a", 5])
    assert "entry 0 is '1', no int" in broken(classes, ["1"] * 8)
    assert "not a list but dict" in broken(names, {})
    assert "refused: not a pickle of plain values (it asks to import" in broken(names, print)
    half = names.read_bytes().replace(b"\n", b"\r\n", 3)
    assert "of its 17 line ends are CR LF, the others are not" in broken(names, half)
    assert "of 8 images that it names, 0 are among the 12 found" in broken(
        names, [f"{stem}.jpg" for stem in listed("train")]
    )
    (root / "text").rename(root / "elsewhere")
    (root / "text").mkdir()
    assert "text has captions of 0 of the 12 images that are there" in refusal(capsys, out, *words)
    numbers = write_word_numbers(root / "captions.pickle")
    train, test, ixtoword, wordtoix = pickle.loads(numbers.read_bytes())
    for value, error in (
        ([train[:-1], test, ixtoword, wordtoix], "79 captions of train are not a whole number"),
        ([train, test, {**ixtoword, 3: "other"}, wordtoix], "do not say the same of every word"),
        ([train, [[*test[0], 999], *test[1:]], ixtoword, wordtoix], "1 numbers that are no word"),
        ([train, test], "2 parts, not train, test, words and numbers"),
        ([train, test, 1, 2], "are no dictionaries"),
        ([train, [1], ixtoword, wordtoix], "captions.pickle: entry 0 is 1, no list"),
    ):
        assert error in broken(numbers, value, "--captions", "pickle")
    write_cub(root / "CUB_200_2011")
    (root / "text").rmdir()
    (root / "elsewhere").rename(root / "text")
    moved = [class_of(stem) for stem in listed("train")][::-1]
    assert f"class_info has {listed('train')[0]} in class 1, CUB_200_2011 in 2" in broken(
        classes, moved
    )
    (root / "test" / "filenames.pickle").unlink()
    assert "filenames.pickle does not exist" in refusal(capsys, out, *words)


@needs_shared("cub_metadata")
def test_attngans_own_lists_are_read_as_they_were(tmp_path: Path, capsys: Captured) -> None:
    report = Report()
    found = read_lists(METADATA / "as_found", report)
    assert found == read_lists(METADATA / "crlf_repaired", Report())
    assert len(report.lines) == 4
    assert {split: len(listed.names) for split, listed in found.items()} == {
        "train": 8855,
        "test": 2933,
    }
    classes = {split: set(listed.classes or ()) for split, listed in found.items()}
    assert len(classes["train"]) == 150 and len(classes["test"]) == 50
    assert not classes["train"] & classes["test"]
    said = refusal(capsys, tmp_path / "x", "attngan", METADATA / "as_found")
    assert "images does not exist" in said
