"""Flickr8k and Flickr30k in their published splits, and styles over either."""

from __future__ import annotations

from pathlib import Path

import pytest
from importing import (
    SHARED,
    Captured,
    needs_shared,
    prepare,
    prepared,
    refusal,
    texts_by_key,
    train,
    write_images,
)

from distgan.data.importers.flickr_files import read_captions
from distgan.data.samples import Caption

NAMES = [f"{i}_ab.jpg" for i in range(6)]


@pytest.fixture
def flickr8k(tmp_path: Path) -> list[object]:
    """Six photographs, the last in no list; `6_ab.jpg` of the test list is not there."""
    write_images(tmp_path / "images", NAMES)
    tokens = [f"{name}#{n}\tNumber {i} , {n} ." for i, name in enumerate(NAMES) for n in (0, 1)]
    tokens.append("2258277193_586949ec62.jpg.1#0\tAn image that was never published .")
    (tmp_path / "Flickr8k.token.txt").write_text("\n".join(tokens))
    lists = {"train": NAMES[:3], "dev": NAMES[3:4], "test": [NAMES[4], "6_ab.jpg"]}
    words: list[object] = ["flickr", "--images", tmp_path / "images"]
    words += ["--captions", tmp_path / "Flickr8k.token.txt"]
    for split, names in lists.items():
        path = tmp_path / f"Flickr_8k.{split}Images.txt"
        path.write_text("\r\n".join(names) + "\r\n")
        words += [f"--{split.replace('dev', 'val')}-names", path]
    return words


def test_published_splits(tmp_path: Path, flickr8k: list[object], capsys: Captured) -> None:
    dataset = prepared(tmp_path / "out", *flickr8k)
    said = capsys.readouterr().out
    for line in (
        "Flickr_8k.trainImages.txt: 3 images of train",
        "Flickr_8k.testImages.txt: 2 images of test",
        "dropped 1: captions whose image is not there: 2258277193_586949ec62.jpg.1",
        "dropped 1: images in none of the lists of names: 5_ab.jpg",
    ):
        assert line in said
    texts = texts_by_key(dataset)
    assert list(texts) == ["train", "val", "test"]
    assert {split: sorted(those) for split, those in texts.items()} == {
        "train": ["0_ab", "1_ab", "2_ab"],
        "val": ["3_ab"],
        "test": ["4_ab"],
    }
    assert texts["val"]["3_ab"] == ["Number 3 , 0 .", "Number 3 , 1 ."]
    assert not {",", "."} & set(dataset.vocabulary.words)  # spaces part them from words


def test_lists_that_overlap_or_stand_alone_are_refused(
    tmp_path: Path, flickr8k: list[object], capsys: Captured
) -> None:
    out = tmp_path / "out"
    assert "of 2 images that it names, 1 are among" in refusal(
        capsys, out, *flickr8k, "--min-joined", 0.6
    )
    said = refusal(capsys, out, *flickr8k, "--fractions", 0.5, 0.25, 0.25)
    assert "fractions=(0.5, 0.25, 0.25) have no use beside train_names" in said
    assert "need train_names" in refusal(capsys, out, *flickr8k[:5], *flickr8k[7:])
    (tmp_path / "Flickr_8k.devImages.txt").write_text(NAMES[0])
    said = refusal(capsys, out, *flickr8k)
    assert "Flickr_8k.devImages.txt: 0_ab.jpg is in the list of train too" in said


def test_styled_lines_of_test_images_never_become_text(
    tmp_path: Path, flickr8k: list[object], capsys: Captured
) -> None:
    """`6_ab.jpg` is in the test list but not there: its caption is a reference, not material."""
    (tmp_path / "funny.txt").write_bytes(b"funny one\r\nfunny two\r\nfunny three")
    (tmp_path / "names.txt").write_text("4_ab.jpg\n6_ab.jpg\n7_ab.jpg\n")
    style = ("--style", "humorous", tmp_path / "funny.txt", tmp_path / "names.txt")
    dataset = prepared(tmp_path / "out", *flickr8k, *style)
    said = capsys.readouterr().out
    assert "dropped 1: humorous lines of val and test without image: 6_ab.jpg" in said
    assert dataset.texts("humorous") == ["funny three"]
    assert dataset.split("test").captions(0)[2] == Caption("funny one", "humorous")


def test_flickr30k_as_published(tmp_path: Path) -> None:
    """One row of results.csv lacks its second separator; styles name the same photographs."""
    write_images(tmp_path / "images", [f"{i}.jpg" for i in range(1, 41)])
    rows = [f"{i}.jpg| 0| A dog | runs ." for i in range(1, 41)]
    rows[3] = "4.jpg| 4   A dog runs across the grass ."
    table = tmp_path / "results.csv"
    table.write_text("image_name| comment_number| comment\n" + "\n".join(rows) + "\n")
    captions = list(read_captions(table))
    assert captions[2] == ("3.jpg", " A dog | runs .")
    assert captions[3] == ("4.jpg", "A dog runs across the grass .")
    (tmp_path / "funny.txt").write_text("funny\nodd\n")
    (tmp_path / "names.txt").write_text("2_ab.jpg\n99_ab.jpg\n")
    style = ("--style", "humorous", tmp_path / "funny.txt", tmp_path / "names.txt")
    words = ("flickr", "--images", tmp_path / "images", "--captions", table, *style)
    dataset = prepared(tmp_path / "out", *words)
    splits = [dataset.split(name) for name in dataset.splits]
    found = [s.captions(i) for s in splits for i in range(len(s)) if s.key(i) == "2"]
    assert found == [[Caption("A dog | runs ."), Caption("funny", "humorous")]]
    assert dataset.texts("humorous") == ["odd"]


@needs_shared("flickr8k_1000")
@needs_shared("flickrstyle")
@pytest.mark.slow
def test_real_photographs_and_styles_train(tmp_path: Path) -> None:
    flickr, styles = SHARED / "flickr8k_1000", SHARED / "flickrstyle"
    words: list[object] = ["--images", flickr / "images", "--captions", flickr / "captions.txt"]
    for style, stem, short in (("humorous", "funny", "fu"), ("romantic", "romantic", "ro")):
        words += ["--style", style, styles / f"{stem}_train.txt", styles / f"train_{short}.p"]
    dataset = prepared(tmp_path / "flickr", "flickr", *words)
    assert sum(dataset.manifest.splits.values()) == 1000
    assert sum(sum(counts.values()) for counts in dataset.manifest.captions.values()) == 6732
    train(tmp_path / "runs", tmp_path / "flickr", "method.images=train")


def test_any_dataset_takes_lines_of_a_style(
    tmp_path: Path, flickr8k: list[object], capsys: Captured
) -> None:
    """CR LF, Latin-1, blank lines and no end of the last line, as FlickrStyle10K is."""
    funny, odd = tmp_path / "funny.txt", tmp_path / "odd.txt"
    funny.write_bytes(b"a caf\xe9\r\n\r\n...\r\nso  funny")
    odd.write_text("odd\n")
    style = ("--style", "odd", odd, tmp_path / "names.txt")
    (tmp_path / "names.txt").write_text("9_ab.jpg\n")
    lines = ("--lines", "funny", funny, "--lines", "odd", odd)
    dataset = prepared(tmp_path / "out", *flickr8k, *style, *lines)
    said = capsys.readouterr().out
    assert "funny.txt is not UTF-8 (byte 5); read as Latin-1" in said
    assert "dropped 2: funny lines without words" in said
    assert dataset.texts("funny") == ["a caf\u00e9", "so funny"]
    assert dataset.texts("odd") == ["odd", "odd"] and dataset.styles == ("funny", "odd")
    funny.write_bytes(b"other")
    words = (*flickr8k, *style, *lines, "--out", tmp_path / "out", "--jobs", 1)
    assert prepare(*words) == 2
    assert "holds another dataset (differs in lines" in capsys.readouterr().err
    odd.write_text("?!\n")
    said = refusal(capsys, tmp_path / "x", *flickr8k, "--lines", "odd", odd)
    assert "odd.txt: no line of words for style odd" in said
    said = refusal(capsys, tmp_path / "x", *flickr8k, "--lines", "odd", tmp_path / "no.txt")
    assert "no.txt does not exist" in said


def test_a_line_separator_is_within_a_caption(tmp_path: Path) -> None:
    path = tmp_path / "captions.token"
    path.write_text("a.jpg#0\tone\u2028two\r\na.jpg#1\tthree\x85four\r\n", encoding="utf-8")
    said = [("a.jpg", "one\u2028two"), ("a.jpg", "three\x85four")]
    assert list(read_captions(path)) == said


def test_an_open_quote_eats_no_captions(tmp_path: Path) -> None:
    path = tmp_path / "captions.txt"
    rows = ["image,caption", 'a.jpg,"one, ""two"" ."', 'b.jpg,"three', "c.jpg,four"]
    path.write_text("\n".join(rows))
    with pytest.raises(ValueError, match=r"captions\.txt: the row from line 3 on: unexpected end"):
        list(read_captions(path))
    path.write_text("\n".join(rows[:2]))
    assert list(read_captions(path)) == [("a.jpg", 'one, "two" .')]
