"""What importers share: options from dataclasses, joining, and the guard against half of it."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest
from made_up_samples import picture

from distgan.data.importers.found import Found, image_files
from distgan.data.importers.joining import Described, ImageFiles, check_joined, merge, told
from distgan.data.importers.options import (
    JoinOptions,
    SplitOptions,
    add_options,
    fractions_of,
    option,
    options_from,
)
from distgan.data.importers.registry import IMPORTERS
from distgan.data.samples import Caption


@dataclass(frozen=True)
class Pair:
    name: str
    place: Path
    count: int


@dataclass(frozen=True, kw_only=True)
class Everything(SplitOptions):
    images: Path = option("the images", positional=True)
    captions: Path = option("the captions")
    level: Literal["raw", "basic"] = option("how much", default="basic")
    most: int | None = option("at most", default=None)
    names: tuple[str, ...] = option("some", default=())
    pairs: tuple[Pair, ...] = option("pairs", default=(), flag="--pair")
    switch: bool = option("off by default", default=False)
    crop: bool = option("on by default", default=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.most == 0:
            raise ValueError(f"most must be at least 1, got {self.most}")


def parsed(*words: str) -> Everything:
    parser = argparse.ArgumentParser(exit_on_error=False)
    add_options(parser, Everything)
    return options_from(parser.parse_args(list(words)), Everything)


def test_every_kind_of_option() -> None:
    images, captions, place = (Path(name).absolute() for name in "icp")
    plain = Everything(images=images, captions=captions)
    assert parsed("i", "--captions", "c") == plain
    words = "i --captions c --level raw --most 3 --names a b --pair x p 1 --pair y /q 2 --switch"
    words += " --no-crop --fractions 0.5 0.25 0.25 --min-joined 0.9"
    assert parsed(*words.split()) == Everything(
        images=images,
        captions=captions,
        level="raw",
        most=3,
        names=("a", "b"),
        pairs=(Pair("x", place, 1), Pair("y", Path("/q"), 2)),
        switch=True,
        crop=False,
        fractions=(0.5, 0.25, 0.25),
        min_joined=0.9,
    )


def test_impossible_options_are_refused() -> None:
    for words in ("i", "i --captions c --level other", "i --captions c --most x"):
        with pytest.raises((argparse.ArgumentError, SystemExit)):
            parsed(*words.split())
    for words, error in (
        ("--most 0", "most must be at least 1, got 0"),
        ("--min-joined 2", r"min_joined must be in \[0, 1\], got 2.0"),
        ("--fractions 0.5 0.1 0.1", "fractions must add up to 1, got 0.5 0.1 0.1"),
        ("--fractions 0 0.5 0.5", "something to train on"),
    ):
        with pytest.raises(ValueError, match=error):
            parsed("i", "--captions", "c", *words.split())

    @dataclass
    class Odd:
        words: dict[str, str] = option("none")

    with pytest.raises(TypeError, match="words: no command-line option"):
        add_options(argparse.ArgumentParser(), Odd)


def test_a_dataset_does_not_depend_on_where_its_files_lay() -> None:
    options = Everything(
        images=Path("i"), captions=Path("c"), pairs=(Pair("x", Path("p"), 1),), min_joined=0.1
    )
    said = told(options)
    assert not {"images", "captions", "min_joined"} & set(said)
    assert said["pairs"] == [{"name": "x", "count": 1}] and said["fractions"] == [0.8, 0.1, 0.1]


def test_every_importer_is_documented() -> None:
    for name, registered in IMPORTERS.items():
        parser = argparse.ArgumentParser()
        add_options(parser, registered.options)
        assert f"prepare.py {name} " in registered.manual and "--out" in registered.manual, name
        assert registered.help in parser.format_help() or registered.help
        for action in parser._actions:
            assert action.help, f"{name}: {action.dest}"


class Joined(ImageFiles):
    name = "joined"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    for i in range(8):
        (tmp_path / "images" / f"{i}.jpg").write_bytes(picture(i))
    return tmp_path / "images"


def joined(folder: Path, described: list[Described], min_joined: float = 0.5, **how: object):
    importer = Joined(JoinOptions(min_joined=min_joined), inputs="0")
    importer.join(described, image_files(folder), **how)  # type: ignore[arg-type]
    return importer


def test_joining(folder: Path) -> None:
    (folder / "5.jpg").write_bytes(b"none")
    described = [
        Described("3.jpg", [Caption("c")], "val", {"id": 3}),
        Described("1.jpg", [Caption(" a\n b ")], "train", key="one"),
        Described("3.jpg", [Caption("d", "odd")], facts={"more": 1}),
        Described("4.jpg", [Caption("...")], "train"),
        Described("5.jpg", [Caption("e")], "train"),
        Described("gone.jpg", [Caption("f")], "train"),
    ]
    importer = joined(folder, described)
    assert importer.splits == ("val", "train")
    assert [importer.num_samples(split) for split in importer.splits] == [1, 1]
    sample = importer.sample("val", 0)
    assert (sample.key, sample.image) == ("3", picture(3))
    assert sample.captions == (Caption("c"), Caption("d", "odd"))
    assert sample.facts == {"file": "3.jpg", "id": 3, "more": 1}
    assert importer.sample("train", 0).key == "one"
    assert importer.sample("train", 0).captions == (Caption("a b"),)
    said = "\n".join(importer.report.text())
    for line in (
        "dropped 1: described images that are not there: gone.jpg",
        "dropped 4: images that nothing describes: 0.jpg, 2.jpg",
        "dropped 1: images that cannot be decoded: 5.jpg",
        "dropped 1: captions without words: 4.jpg '...'",
        "dropped 1: images without captions: 4.jpg",
        "val: 1 images, captions: 1 factual, 1 odd",
    ):
        assert line in said, said


def test_the_wrong_folder_is_an_error_that_shows_both_sides(folder: Path) -> None:
    captions = [Caption("a")]
    described = [Described(f"{i}.jpg", captions, "train") for i in range(8)]
    described += [Described(f"COCO_{i}.jpg", captions, "val") for i in range(6)]
    described += [Described(f"{i}.jpeg", captions, "val") for i in range(3)]
    with pytest.raises(ValueError) as error:
        joined(folder, described)
    for words in (
        "split val: of 9 images that it names, 0 are among the 8 found (min_joined=0.5)",
        "it names COCO_0.jpg, COCO_1.jpg",
        "found 0.jpg, 1.jpg",
        "is it the right folder? For a part of a dataset lower --min-joined",
    ):
        assert words in str(error.value)
    with pytest.raises(ValueError, match="split val"):
        joined(folder, described, min_joined=0.0)  # nothing at all joins


def test_how_much_must_join_is_chosen() -> None:
    present = [f"{i}.jpg" for i in range(3)]
    named = [f"{i}.jpg" for i in range(10)]
    check_joined("captions", named, present, 0.3)
    with pytest.raises(ValueError, match="of 10 images that it names, 3 are among the 3"):
        check_joined("captions", named, present, 0.31)


def test_two_images_of_a_split_may_not_share_a_key(folder: Path) -> None:
    """Also where keys are given; the report so far comes with the error."""
    described = [
        Described("1.jpg", [Caption("a")], "train"),
        Described("2.jpg", [Caption("a")], "train", key="1"),
        Described("gone.jpg", [Caption("a")], "train"),
    ]
    with pytest.raises(
        ValueError, match=r"split train: .*1\.jpg and .*2\.jpg would share"
    ) as error:
        joined(folder, described)
    notes = error.value.__notes__
    assert "dropped 1: described images that are not there: gone.jpg" in notes
    assert len(set(notes)) == len(notes)
    described[1].split = "val"
    assert joined(folder, described).splits == ("train", "val")


def test_no_split_may_be_empty(folder: Path) -> None:
    described = [Described("1.jpg", [Caption("a")], "train"), Described("2.jpg", [], "val")]
    with pytest.raises(ValueError, match="split val would be empty: samples found: train 1, val 0"):
        joined(folder, described)
    assert joined(folder, described, unlabelled=True).splits == ("train", "val")
    importer = Joined(JoinOptions(), inputs="0")
    with pytest.raises(ValueError, match="split b would be empty"):
        importer.place({"a": [Found("k", folder / "1.jpg", "jpg", ())], "b": []})


def test_an_image_has_one_split(folder: Path) -> None:
    twice = [Described("1.jpg", [], "train"), Described("1.jpg", [], "val")]
    with pytest.raises(ValueError, match=r"x\.json: 1\.jpg is in splits train and val"):
        merge(twice, "x.json")
    without = [Described(f"{i}.jpg", [Caption("a")]) for i in range(8)]
    importer = joined(folder, without, fractions=fractions_of(0.5, 0.5, 0))
    assert sorted(importer.splits) == ["train", "val"]
    with pytest.raises(ValueError, match="no split is given for it"):
        joined(folder, without)
