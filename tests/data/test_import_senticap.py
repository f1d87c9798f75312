"""SentiCap: its two forms, its repeated names, and images that the dataset beside has seen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from importing import (
    SHARED,
    Captured,
    captions_file,
    karpathy_file,
    needs_shared,
    of_2014,
    prepare,
    prepared,
    refusal,
    texts_by_key,
    tiny_words,
    train,
    write_images,
    write_json,
)

from distgan.data.samples import Caption
from distgan.data.texts import words_of

REAL = SHARED / "senticap"
RAW = "a great Room,\r\nfull of light!"


def name(number: int) -> str:
    return f"COCO_val2014_{number:012d}.jpg"


def sentence(raw: str, sentiment: int) -> dict[str, Any]:
    tokens = words_of(raw)
    return {
        "tokens": tokens,
        "word_sentiment": [0.0] * len(tokens),
        "raw": raw,
        "sentiment": sentiment,
    }


def senticap_file(path: Path) -> Path:
    """Images 1 to 4; the first occurs twice."""
    given = [
        (1, "train", [(RAW, 1)]),
        (2, "train", [("A bad dog.", 0), ("A nice dog", 1)]),
        (1, "train", [("A dull room", 0)]),
        (3, "val", [("A nice cat", 1)]),
        (4, "test", [("A dead fish", 0)]),
    ]
    images = [
        {"imgid": i, "filename": name(n), "split": s, "sentences": [sentence(*x) for x in those]}
        for i, (n, s, those) in enumerate(given)
    ]
    return write_json(path, {"images": images})


def csv_files(folder: Path) -> Path:
    """What `senticap_file` holds, in the CSV form."""
    rows = {
        "train": [(1, 1, "a great room full of light"), (2, 0, "a bad dog"), (2, 1, "a nice dog"),
                  (1, 0, "a dull room")],
        "val": [(3, 1, "a nice cat")],
        "test": [(4, 0, "a dead fish")],
    }  # fmt: skip
    folder.mkdir(exist_ok=True)
    for split in ("", *rows):
        path = folder / f"senticap_dataset{split and '-' + split}.csv"
        chosen = rows[split] if split else [row for those in rows.values() for row in those]
        with path.open("w", newline="") as file:
            file.write("filename,is_positive_sentiment,caption\n")
            for n, sentiment, text in chosen:
                file.write(f'{name(n)},{sentiment},"{text}"\n')
    return folder / "senticap_dataset.csv"


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    write_images(tmp_path / "val2014", [name(n) for n in (1, 2, 3, 4, 5)])
    return tmp_path / "val2014"


def test_repeated_names_are_put_together_and_line_breaks_vanish(
    tmp_path: Path, photographs: Path, capsys: Captured
) -> None:
    given = senticap_file(tmp_path / "senticap_dataset.json")
    dataset = prepared(tmp_path / "out", "senticap", given, "--images", photographs)
    said = capsys.readouterr().out
    for line in (
        "found 5 entries of 4 images and 6 captions; 1 file names occur twice",
        "published train: 2 positive, 2 negative",
        "not checked (--beside): whether a factual dataset trains on any of the 2 images",
        "train: 2 images, captions: 2 negative, 2 positive",
        f"dropped 1: images that nothing describes: {name(5)}",
    ):
        assert line in said
    assert dataset.styles == ("negative", "positive")
    split = dataset.split("train")
    assert split.captions(0) == [
        Caption("a great Room, full of light!", "positive"),
        Caption("A dull room", "negative"),
    ]
    assert split.facts(0) == {"file": name(1), "coco_id": 1}
    assert texts_by_key(dataset)["test"] == {"COCO_val2014_000000000004": ["A dead fish"]}


def test_both_forms_hold_the_same(tmp_path: Path, photographs: Path, capsys: Captured) -> None:
    given, table = senticap_file(tmp_path / "s.json"), csv_files(tmp_path / "csv")
    words = ("--images", photographs)
    tokens = prepared(tmp_path / "json", "senticap", given, "--text", "tokens", *words)
    for form in (table, table.with_name("senticap_dataset-val.csv")):
        other = prepared(tmp_path / form.stem, "senticap", form, *words)
        assert texts_by_key(other) == texts_by_key(tokens)
    out = tmp_path / "out"
    said = refusal(capsys, out, "senticap", table, *words, "--text", "raw")
    assert "text=raw" in said and "holds tokens only" in said
    table.with_name("senticap_dataset-test.csv").unlink()
    said = refusal(capsys, out, "senticap", table, *words)
    assert "senticap_dataset-test.csv not beside it: the CSV form has no column for splits" in said


def test_training_captions_without_an_image_become_text(tmp_path: Path, photographs: Path) -> None:
    (photographs / name(1)).unlink()
    given = senticap_file(tmp_path / "s.json")
    dataset = prepared(tmp_path / "out", "senticap", given, "--images", photographs)
    assert dataset.texts("positive") == ["a great Room, full of light!"]
    assert dataset.texts("negative") == ["A dull room"]


def test_a_split_without_images_and_odd_rows_are_refused(
    tmp_path: Path, photographs: Path, capsys: Captured
) -> None:
    out, given, table = tmp_path / "out", senticap_file(tmp_path / "s.json"), csv_files(tmp_path)
    (photographs / name(3)).unlink()
    words = ("--images", photographs, "--min-joined", 0)
    said = refusal(capsys, out, "senticap", given, *words)
    assert "split val: of 1 images that it names, 0 are among the 4 found" in said
    part = table.with_name("senticap_dataset-train.csv")
    for text, error in (
        ("image,caption\n", "columns ['image', 'caption'], not ['filename', "),
        (f"filename,is_positive_sentiment,caption\n{name(1)},1\n", "line 2: not 3 columns"),
        (f"filename,is_positive_sentiment,caption\n{name(1)},2,a\n", "sentiment '2' is neither"),
        ("filename,is_positive_sentiment,caption\ndog.jpg,1,a\n", "dog.jpg is not the name of a"),
    ):
        part.write_text(text)
        assert error in refusal(capsys, out, "senticap", table, *words)
    other = write_json(tmp_path / "o.json", {"annotations": []})
    assert "no list `images`" in refusal(capsys, out, "senticap", other, *words)
    assert "neither the .json nor the .csv" in refusal(capsys, out, "senticap", out, *words)


def beside_of_all_forms(tmp_path: Path, *numbers: int) -> list[Path]:
    """Factual datasets that train on these images of val2014, and validate on 3 and 4."""
    names, seen = of_2014("val", *numbers), of_2014("val", 3, 4)
    write_images(tmp_path / "coco", [*names.values(), *seen.values()])
    given = captions_file(tmp_path / "factual.json", names, [(n, "a b") for n in numbers])
    val = captions_file(tmp_path / "val.json", seen, [(3, "a b"), (4, "a b")])
    words = ("coco", "--train", given, tmp_path / "coco")
    if not set(numbers) & {3, 4}:
        words += ("--val", val, tmp_path / "coco")
    assert prepare(*words, "--out", tmp_path / "factual", "--jobs", 1) == 0
    sentences = [sentence("a b", 1)]
    entries = [
        {"filename": name(n), "cocoid": n, "sentences": sentences,
         "split": "restval" if n in numbers else "test"}
        for n in sorted({*numbers, 3, 4})
    ]  # fmt: skip
    return [given, tmp_path / "factual", write_json(tmp_path / "k.json", {"images": entries})]


def test_images_that_the_factual_dataset_trains_on_are_refused(
    tmp_path: Path, photographs: Path, capsys: Captured
) -> None:
    words = ("senticap", senticap_file(tmp_path / "s.json"), "--images", photographs)
    for number, beside in enumerate(beside_of_all_forms(tmp_path / "leaks", 1, 4)):
        out = tmp_path / f"leak{number}"
        said = refusal(capsys, out, *words, "--beside", beside)
        assert f"{beside} trains on SentiCap's images: 0 of val, 1 of test" in said
        assert "--restval drop" in said
        prepared(out, *words, "--beside", beside, "--allow-leak")
        assert "trains on 2 COCO images; of SentiCap's: 0 of val, 1 of test" in (
            capsys.readouterr().out
        )
    for number, beside in enumerate(beside_of_all_forms(tmp_path / "fine", 1, 2)):
        dataset = prepared(tmp_path / f"fine{number}", *words, "--beside", beside)
        assert "of SentiCap's: 0 of val, 0 of test" in capsys.readouterr().out
        assert dataset.manifest.source.keys() == {"name", "text", "lines", "inputs", "layout"}
    karpathy, _ = karpathy_file(tmp_path / "dataset_coco.json")  # trains on 10, 11 and 12
    prepared(tmp_path / "k", *words, "--beside", karpathy)
    assert "trains on 3 COCO images" in capsys.readouterr().out


def test_a_dataset_without_coco_ids_cannot_be_beside(
    tmp_path: Path, photographs: Path, capsys: Captured
) -> None:
    (tmp_path / "mine").mkdir()
    write_images(tmp_path / "mine", ["a.jpg"])
    (tmp_path / "mine" / "captions.csv").write_text("image,caption,split\na.jpg,a dog,train\n")
    assert prepare("folder", tmp_path / "mine", "--out", tmp_path / "own", "--jobs", 1) == 0
    words = ("senticap", senticap_file(tmp_path / "s.json"), "--images", photographs, "--beside")
    said = refusal(capsys, tmp_path / "out", *words, tmp_path / "own")
    assert "own: no COCO ids of training images in it" in said
    said = refusal(capsys, tmp_path / "out", *words, tmp_path / "nowhere")
    assert "nowhere does not exist" in said


@needs_shared("senticap")
@needs_shared("coco_tiny")
@pytest.mark.slow
def test_the_real_captions_join_and_train_beside_coco(tmp_path: Path, capsys: Captured) -> None:
    """One photograph of coco_tiny's training split is in SentiCap's test split."""
    coco = tmp_path / "coco"
    prepared(coco, "coco", *tiny_words())
    json, table = (REAL / "data" / f"senticap_dataset.{form}" for form in ("json", "csv"))
    given = ("--images", REAL / "images_val2014", "--min-joined", 0)
    out = tmp_path / "senticap"
    said = refusal(capsys, out, "senticap", json, "--images", REAL / "images_val2014")
    assert "are among the 21 found" in said
    words = ("senticap", json, *given, "--beside", coco)
    assert "trains on SentiCap's images: 0 of val, 1 of test" in refusal(capsys, out, *words)
    dataset = prepared(out, *words, "--allow-leak")
    said = capsys.readouterr().out
    assert "found 2,360 entries of 2,225 images and 8,869 captions; 135 file names" in said
    assert "published train: 2,380 positive, 2,039 negative" in said
    assert "published val: 493 positive, 429 negative" in said
    assert "published test: 2,019 positive, 1,509 negative" in said
    assert dataset.manifest.splits == {"train": 11, "val": 1, "test": 9}
    split = dataset.split("test")
    both = [i for i in range(9) if split.facts(i)["coco_id"] == 10428]  # its name occurs twice
    assert [c.style for c in split.captions(both[0])] == ["positive"] * 3 + ["negative"] * 3
    assert all("\r" not in line for style in dataset.styles for line in dataset.texts(style))
    tokens = prepared(tmp_path / "tokens", "senticap", json, *given, "--text", "tokens")
    other = prepared(tmp_path / "csv", "senticap", table, *given)
    assert texts_by_key(other) == texts_by_key(tokens)
    train(tmp_path / "runs", coco, f"data.styled={out}")
