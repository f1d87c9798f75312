"""CUB-200-2011 as published, as found on other systems, and in small copies."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import numpy as np
import pytest
from importing import SHARED, Captured, needs_shared, prepared, refusal, texts_by_key, train
from made_up_birds import BOXES, STEMS, captions_of, class_of, write_cub, write_lists, write_text
from PIL import Image

from distgan.data.importers.birds import read_birds, square

EXAMPLE, METADATA = SHARED / "cub_example", SHARED / "cub_metadata"
KEYS = {stem: stem.replace("/", "_").replace(".", "_") for stem in STEMS}


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_birds_join_their_captions_classes_and_boxes(
    tmp_path: Path, end: str, capsys: Captured
) -> None:
    root = write_cub(tmp_path / "CUB_200_2011", end)
    write_text(root / "text_c10")
    dataset = prepared(tmp_path / "out", "cub", root)
    assert "found 12 images; the tables name 12" in capsys.readouterr().out
    assert dataset.manifest.splits == {"train": 9, "test": 3}
    assert texts_by_key(dataset)["test"] == {KEYS[s]: captions_of(s) for s in STEMS[3::4]}
    split = dataset.split("train")
    for i in range(len(split)):
        facts = split.facts(i)
        stem = STEMS[facts["image_id"] - 1]
        assert split.key(i) == KEYS[stem]
        assert facts["class"] == class_of(stem) and facts["class_name"] == stem.split("/")[0]
        assert tuple(facts["box"]) == BOXES[stem] and facts["cropped"]


def slow_square(box: tuple[float, ...], width: int, height: int) -> list[tuple[int, int]]:
    """The pixels (x, y) within three quarters of the longer side of the box's middle."""
    x, y, w, h = (int(value) for value in box)
    reach, cx, cy = int(max(w, h) * 0.75), int((2 * x + w) / 2), int((2 * y + h) / 2)
    return [
        (i, j)
        for j in range(height)
        for i in range(width)
        if cx - reach <= i < cx + reach and cy - reach <= j < cy + reach
    ]


@pytest.mark.parametrize(
    "box",
    [(4.0, 6.0, 20.0, 10.0), (0.0, 0.0, 60.0, 48.0), (55.0, 40.0, 4.0, 7.0), (9.9, 3.3, 7, 9)],
)
def test_the_square_is_attngans(box: tuple[float, float, float, float]) -> None:
    left, top, right, bottom = square(box, 60, 48)
    inside = [(i, j) for j in range(top, bottom) for i in range(left, right)]
    assert inside == slow_square(box, 60, 48)


def test_images_are_cut_to_the_square_or_kept(tmp_path: Path) -> None:
    root = write_cub(tmp_path / "CUB_200_2011")
    write_text(tmp_path / "text")
    words = ("cub", root, "--text", tmp_path / "text")
    cut, whole = (
        prepared(tmp_path / "cut", *words),
        prepared(tmp_path / "whole", *words, "--no-crop"),
    )
    for i, stem in enumerate(s for n, s in enumerate(STEMS, 1) if n % 4):
        original = (root / "images" / f"{stem}.jpg").read_bytes()
        assert whole.split("train").image_bytes(i) == original
        assert whole.split("train").facts(i)["cropped"] is False
        left, top, right, bottom = square(BOXES[stem], 60, 48)
        part = np.asarray(Image.open(io.BytesIO(cut.split("train").image_bytes(i)))).astype(int)
        pixels = np.asarray(Image.open(io.BytesIO(original))).astype(int)
        assert part.shape == (bottom - top, right - left, 3)
        assert abs(part - pixels[top:bottom, left:right]).mean() < 2


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_species_are_kept_apart_by_attngans_lists(
    tmp_path: Path, end: bytes, capsys: Captured
) -> None:
    root = write_cub(tmp_path / "CUB_200_2011")
    words = ("cub", root, "--text", write_text(tmp_path / "text"))
    lists = write_lists(tmp_path / "birds", end)
    classes = ("--split-by", "classes", "--lists", lists)
    dataset = prepared(tmp_path / "out", *words, *classes)
    said = capsys.readouterr().out
    assert ("train/class_info.pickle: line ends were CR LF" in said) == (end == b"\r\n")
    assert dataset.manifest.splits == {"train": 8, "test": 4}
    for name in ("train", "test"):
        split = dataset.split(name)
        assert {split.facts(i)["class"] == 3 for i in range(len(split))} == {name == "test"}
    labels = root / "image_class_labels.txt"
    labels.write_text(labels.read_text().replace("12 3", "12 2"))
    said = refusal(capsys, tmp_path / "x", *words, *classes)
    assert f"test has {STEMS[11]} in class 3, the tables in 2" in said
    assert "give both or neither" in refusal(capsys, tmp_path / "x", *words, *classes[:2])
    assert "give both or neither" in refusal(capsys, tmp_path / "x", *words, *classes[2:])


def test_what_does_not_fit_together_is_refused(tmp_path: Path, capsys: Captured) -> None:
    root = write_cub(tmp_path / "CUB_200_2011")
    text = write_text(tmp_path / "text")
    words, out = ("cub", root, "--text", text), tmp_path / "x"

    def broken(name: str, old: str, new: str, *more: object) -> str:
        path = root / name
        before = path.read_bytes()
        path.write_bytes(before.replace(old.encode(), new.encode(), 1))
        said = refusal(capsys, out, *words, *more)
        path.write_bytes(before)
        return said

    assert "classes.txt: no class 3" in broken("classes.txt", "3 003.Bird_3\n", "")
    assert "bounding_boxes.txt: no box of image 1 " in broken(
        "bounding_boxes.txt", "1 4.0 6.0 20.0 10.0\n", ""
    )
    assert "line 2 has 4 fields, not 5" in broken("bounding_boxes.txt", "2 5.0 6.0", "2 5.0")
    assert "line 1: 'one' is no whole number" in broken("images.txt", "1 ", "one ")
    assert "train_test_split.txt: nothing of image 12" in broken("train_test_split.txt", "12 0", "")
    assert "is not within its (60, 48) pixels" in broken(
        "bounding_boxes.txt", "1 4.0 6.0", "1 400.0 6.0"
    )
    assert "0 of the folders text_c10 and text are in" in refusal(capsys, out, "cub", root)
    assert "absent does not exist" in refusal(capsys, out, "cub", root, "--text", "absent")
    (root / "images.txt").unlink()
    assert "has neither images.txt" in refusal(capsys, out, *words)


def test_a_half_joined_copy_is_refused(tmp_path: Path, capsys: Captured) -> None:
    root = write_cub(tmp_path / "CUB_200_2011")
    words = ("cub", root, "--text", write_text(tmp_path / "text"))
    (tmp_path / "text" / f"{STEMS[0]}.txt").unlink()
    (tmp_path / "text" / f"{STEMS[1]}.txt").write_bytes(b"caf\xe9 bird\n\n")
    dataset = prepared(tmp_path / "out", *words)
    said = capsys.readouterr().out
    assert f"dropped 1: images without a file in text: {STEMS[0]}" in said
    assert "text files that are not UTF-8, read as Latin-1 instead" in said
    assert texts_by_key(dataset)["train"][KEYS[STEMS[1]]] == ["caf\u00e9 bird"]
    for label in (1, 2):
        shutil.rmtree(tmp_path / "text" / f"{label:03d}.Bird_{label}")
    said = refusal(capsys, tmp_path / "x", *words)
    assert "text has captions of 4 of the 12 images that are there" in said
    for label in (1, 2):
        shutil.rmtree(root / "images" / f"{label:03d}.Bird_{label}")
    said = refusal(capsys, tmp_path / "x", *words)
    assert "of 9 images that it names, 3 are among the 4 found" in said


@pytest.mark.slow
@needs_shared("cub_example")
def test_real_birds_join_and_train(tmp_path: Path, capsys: Captured) -> None:
    words = ("cub", EXAMPLE)
    assert "--no-crop keeps whole images" in refusal(capsys, tmp_path / "x", *words)
    dataset = prepared(tmp_path / "birds", *words, "--no-crop")
    assert dataset.manifest.splits == {"train": 6, "test": 3}
    assert dataset.manifest.captions == {"train": {"factual": 60}, "test": {"factual": 30}}
    split = dataset.split("train")
    assert sorted(split.facts(i)["class"] for i in range(6)) == [1, 24, 24, 24, 191, 191]
    file = EXAMPLE / "images/001.Black_footed_Albatross/Black_Footed_Albatross_0089_796069.jpg"
    assert split.image_bytes(0) == file.read_bytes()
    style = tmp_path / "grand.txt"
    style.write_text("a most splendid bird\n")
    train(tmp_path / "runs", tmp_path / "birds", "stages=[factual]", f"data.style={style}")


@needs_shared("cub_metadata")
def test_real_tables_are_the_same_with_either_line_end() -> None:
    found, whole = (
        read_birds(METADATA / k / "CUB_200_2011") for k in ("as_found", "crlf_repaired")
    )
    assert found == whole and len(found) == 11788
    assert sum(bird.train for bird in found) == 5994
    assert not any("\r" in bird.name + bird.class_name for bird in found)
    assert len({bird.class_id for bird in found}) == 200


@needs_shared("cub_metadata")
@needs_shared("cub_example")
def test_real_birds_are_cut_by_the_real_boxes(tmp_path: Path, capsys: Captured) -> None:
    """Nine of 11,788 photographs are there: refused, unless that is what was meant."""
    words = ("cub", METADATA / "as_found" / "CUB_200_2011", "--text", EXAMPLE / "text")
    words = (*words, "--images", EXAMPLE / "images")
    said = refusal(capsys, tmp_path / "x", *words)
    assert "of 5,794 images that it names, 3 are among the 9 found" in said
    lists = ("--split-by", "classes", "--lists", METADATA / "as_found")
    dataset = prepared(tmp_path / "out", *words, "--min-joined", 0, *lists)
    assert dataset.manifest.splits == {"train": 6, "test": 3}
    test = dataset.split("test")
    assert {test.facts(i)["class"] for i in range(3)} == {1}, "a species of the test list"
    for i in range(3):
        width, height = Image.open(io.BytesIO(test.image_bytes(i))).size
        wide, high = test.facts(i)["box"][2:]
        assert max(width, height) <= 2 * int(0.75 * max(wide, high))
        assert width >= wide // 2 and height >= high // 2
