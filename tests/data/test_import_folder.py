"""Tables of one's own: their delimiters, columns, paths, and mistakes."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from importing import Captured, prepared, refusal, texts_by_key, write_images
from made_up_samples import picture

from distgan.data.importers.tables import rows_of

ALL_TRAIN = ("--fractions", 1, 0, 0)


@pytest.mark.parametrize("delimiter", [",", "\t", ";", "|"])
def test_delimiters_are_told_by_the_header(tmp_path: Path, delimiter: str) -> None:
    path = tmp_path / "t.csv"
    header, row = ["image", "caption", "note"], ["a.jpg", '"one, two; three | four"', "x"]
    path.write_text("\ufeff" + delimiter.join(header) + "\r\n" + delimiter.join(row) + "\r\n\r\n")
    said = {"image": "a.jpg", "caption": "one, two; three | four", "note": "x"}
    assert list(rows_of(path)) == [(2, said)]


def test_a_table_alone_finds_its_images(tmp_path: Path, capsys: Captured) -> None:
    """Relative to the table, or absolute and anywhere; two rows of one image are one sample."""
    write_images(tmp_path / "near", ["pics/0.jpg", "pics/1.jpg"])
    write_images(tmp_path / "far", ["2.jpg"])
    rows = ["path\ttitle\tkind\tcamera", "pics/0.jpg\tone\tbird\tX100", "./pics/0.jpg\ttwo\tbird\t"]
    rows += ["pics/1.jpg\tthree\tapple\t", f"{tmp_path}/far/2.jpg\tfour\tbird\t"]
    table = tmp_path / "near" / "list.tsv"
    table.write_text("\n".join([*rows, "pics/none.jpg\tfive\tbird\t"]))
    words = ("folder", table, "--caption-column", "title", "--class-column", "kind", *ALL_TRAIN)
    dataset = prepared(tmp_path / "out", *words)
    said = capsys.readouterr().out
    assert "found 3 images that list.tsv names in 5 rows" in said
    assert "dropped 1: described images that are not there: near/pics/none.jpg" in said
    assert texts_by_key(dataset)["train"] == {
        "near_pics_0": ["one", "two"],
        "near_pics_1": ["three"],
        "far_2": ["four"],
    }
    split = dataset.split("train")
    assert [split.facts(i)["class_name"] for i in range(3)] == ["bird", "apple", "bird"]
    assert [split.facts(i)["class"] for i in range(3)] == [1, 0, 1]
    assert split.facts(0)["camera"] == "X100" and "camera" not in split.facts(1)
    assert split.image_bytes(2) == picture(0)


def test_rows_without_a_caption(tmp_path: Path, capsys: Captured) -> None:
    """A null is reported as an empty caption is; no column at all is for --unlabelled."""
    write_images(tmp_path, ["a.jpg", "b.jpg", "c.jpg"])
    table = tmp_path / "t.jsonl"
    said: tuple[object, ...] = (None, [None, "one"], [{"text": None}, "two"])
    rows = [{"image": f"{n}.jpg", "caption": c} for n, c in zip("abc", said, strict=True)]
    table.write_text("\n".join(map(json.dumps, rows)))
    dataset = prepared(tmp_path / "some", "folder", table, *ALL_TRAIN)
    assert texts_by_key(dataset)["train"] == {"b": ["one"], "c": ["two"]}
    report = capsys.readouterr().out
    assert "dropped 3: captions without words: a.jpg '', b.jpg '', c.jpg ''" in report
    assert "dropped 1: images without captions (--unlabelled keeps them): a.jpg" in report
    table.write_text("\n".join(json.dumps({"image": row["image"]}) for row in rows))
    assert "no caption column" in refusal(capsys, tmp_path / "x", "folder", table, *ALL_TRAIN)
    words = ("folder", table, *ALL_TRAIN, "--unlabelled", "--lines", "plain", tmp_path / "l.txt")
    (tmp_path / "l.txt").write_text("a line\n")
    assert texts_by_key(prepared(tmp_path / "none", *words))["train"] == {"a": [], "b": [], "c": []}


def test_only_line_ends_part_lines(tmp_path: Path) -> None:
    """Not U+2028, NEL or a form feed, which str.splitlines takes for ends of lines."""
    write_images(tmp_path / "pics", ["a.jpg", "b.jpg"])
    odd = "one\u2028two\x85three\x0cfour"
    (tmp_path / "t.csv").write_text(f"image,caption\r\npics/a.jpg,{odd}\r\npics/b.jpg,x\r\n")
    for image in ("a", "b"):
        (tmp_path / "pics" / f"{image}.txt").write_text(f"{odd}\r\nfive\r\n")
    dataset = prepared(tmp_path / "table", "folder", tmp_path / "t.csv", *ALL_TRAIN)
    said = {"pics_a": ["one two three four"], "pics_b": ["x"]}
    assert texts_by_key(dataset)["train"] == said
    dataset = prepared(tmp_path / "beside", "folder", tmp_path / "pics", *ALL_TRAIN)
    said = {key: ["one two three four", "five"] for key in "ab"}
    assert texts_by_key(dataset)["train"] == said


def test_names_and_captions_that_are_no_unicode(tmp_path: Path, capsys: Captured) -> None:
    write_images(tmp_path / "pics", ["a.jpg", "b.jpg"])
    rows = [{"image": "a.jpg", "caption": "half \ud83d"}, {"image": "b.jpg", "caption": "x"}]
    (tmp_path / "pics" / "captions.jsonl").write_text("\n".join(map(json.dumps, rows)))
    words = ("folder", tmp_path / "pics", *ALL_TRAIN)
    assert texts_by_key(prepared(tmp_path / "out", *words))["train"] == {"b": ["x"]}
    report = capsys.readouterr().out
    assert r"dropped 1: captions with half a surrogate pair: a.jpg 'half \ud83d'" in report
    rows[1]["note"] = "\udc00"
    (tmp_path / "pics" / "captions.jsonl").write_text(json.dumps(rows[1]))
    assert "b: JSON cannot hold its captions and facts" in refusal(capsys, tmp_path / "x", *words)
    (tmp_path / "pics" / os.fsdecode(b"caf\xe9.jpg")).write_bytes(picture(1))
    said = refusal(capsys, tmp_path / "x", *words)
    assert r"pics: the file name b'caf\xe9.jpg' is not UTF-8; rename it" in said


def test_an_open_quote_eats_no_rows(tmp_path: Path, capsys: Captured) -> None:
    write_images(tmp_path, ["a.jpg", "b.jpg", "c.jpg"])
    for name, sign in (("t.csv", ","), ("t.tsv", "\t")):
        path = tmp_path / name
        rows = [("image", "caption"), ("a.jpg", "one"), ("b.jpg", '"two'), ("c.jpg", "three")]
        path.write_text("\n".join(sign.join(row) for row in rows))
        said = refusal(capsys, tmp_path / "x", "folder", path, *ALL_TRAIN)
        assert f"{name}: the row from line 3 on: unexpected end of data; text in quotes" in said


def test_keys_do_not_tell_where_a_table_lies(tmp_path: Path) -> None:
    for name in ("here", "there"):
        write_images(tmp_path / name, ["a.jpg", "sub/b.jpg"])
        rows = [{"image": f"{tmp_path}/{name}/{n}", "caption": "c"} for n in ("a.jpg", "sub/b.jpg")]
        lines = "\n".join(map(json.dumps, rows))
        (tmp_path / name / "t.jsonl").write_text(lines)
        prepared(tmp_path / f"of_{name}", "folder", tmp_path / name / "t.jsonl", *ALL_TRAIN)
    one, other = (tmp_path / f"of_{name}" / "train-000000.tar" for name in ("here", "there"))
    assert one.read_bytes() == other.read_bytes()


def test_absolute_paths_join_a_folder_too(tmp_path: Path) -> None:
    write_images(tmp_path / "pics", ["sub/a.jpg", "b.jpg"])
    table = tmp_path / "t.jsonl"
    rows = [
        {"file_name": f"{tmp_path}/pics/sub/a.jpg", "captions": ["x", {"text": "y", "style": "z"}]},
        {"file_name": "b.jpg", "text": "w", "label": 7},
    ]
    table.write_text("\n".join(map(json.dumps, rows)))
    words = ("folder", tmp_path / "pics", "--captions", table, *ALL_TRAIN)
    dataset = prepared(tmp_path / "out", *words)
    assert texts_by_key(dataset)["train"] == {"b": ["w"], "sub_a": ["x", "y"]}
    assert dataset.styles == ("z",) and dataset.split("train").facts(0)["class"] == 7


def test_mistakes_are_named_by_line_and_column(tmp_path: Path, capsys: Captured) -> None:
    write_images(tmp_path / "pics", ["a.jpg"])
    out = tmp_path / "x"

    def said(name: str, content: str | bytes, *more: object) -> str:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        words = ("folder", tmp_path / "pics", "--captions", path, *ALL_TRAIN)
        return refusal(capsys, out, *words, *more)

    assert "t.csv: line 2 has 3 columns, the first line 2 (image, caption)" in said(
        "t.csv", "image,caption\na.jpg,one, two\n"
    )
    assert "t.csv: line 3: column 'image' names no image: ''" in said(
        "t.csv", "image,caption\na.jpg,one\n,two\n"
    )
    assert "t.csv: line 2: no image column (--image-column names it); it has 'x', 'y'" in said(
        "t.csv", "x,y\n1,2\n"
    )
    assert "no column 'title' (--caption-column)" in said(
        "t.csv", "image,caption\na.jpg,b\n", "--caption-column", "title"
    )
    assert "no column 'kind' (--class-column)" in said(
        "t.csv", "image,caption\na.jpg,b\n", "--class-column", "kind"
    )
    assert "a column occurs twice" in said("t.csv", "image,image\na,b\n")
    assert "t.csv: line 3 is not UTF-8 (byte 25)" in said(
        "t.csv", b"image,caption\na.jpg,b\ncaf\xe9.jpg,c\n"
    )
    assert "t.csv: no rows" in said("t.csv", "image,caption\n")
    assert "t.csv: no rows" in said("t.csv", "")
    assert "t.jsonl: line 2 is not JSON" in said("t.jsonl", '{"image": "a.jpg", "caption": "b"}\n{')
    assert "t.jsonl: line 1 is no JSON object" in said("t.jsonl", "[1]")
    assert "t.jsonl: line 1: column 'caption': no caption: 5" in said(
        "t.jsonl", '{"image": "a.jpg", "caption": 5}'
    )
    assert "line 1: column 'class': a class is a whole number or a name, not 1.5" in said(
        "t.jsonl", '{"image": "a.jpg", "caption": "b", "class": 1.5}'
    )
    assert "must be one of .csv, .tsv, .jsonl" in said("t.txt", "a")
    assert "t.csv: of 2 images that it names, 0 are among the 1 found" in said(
        "t.csv", "image,caption\nb.jpg,b\nc.jpg,c\n"
    )
    path = tmp_path / "t.csv"
    assert "t.csv is a table already" in refusal(capsys, out, "folder", path, "--captions", path)
    assert "no captions: neither captions.csv" in refusal(capsys, out, "folder", tmp_path / "pics")
    path.unlink()
    assert "t.csv does not exist" in refusal(capsys, out, "folder", path)
