"""Hugging Face datasets on the disk: image folders with metadata, Parquet with images."""

from __future__ import annotations

import json
import pickle
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from importing import Captured, prepared, refusal, texts_by_key, write_images
from made_up_samples import picture

from distgan.data.importers.huggingface import HuggingFaceOptions, huggingface, split_of_table

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def json_lines(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.mark.parametrize("form", ["jsonl", "csv", "parquet"])
def test_an_image_folder_with_split_folders(tmp_path: Path, form: str, capsys: Captured) -> None:
    root = tmp_path / "set"
    for split, count in (("train", 5), ("validation", 2), ("test", 2)):
        write_images(root / split, [f"sub/{i}.png" for i in range(count)])
        rows = [{"file_name": f"sub/{i}.png", "text": f"{split} {i}", "n": i} for i in range(count)]
        path = root / split / f"metadata.{form}"
        if form == "jsonl":
            path.write_text(json_lines(rows))
        elif form == "csv":
            lines = [",".join(map(str, row.values())) for row in rows]
            path.write_text("\n".join(["file_name,text,n", *lines]))
        else:
            pq.write_table(pa.Table.from_pylist(rows), path)
    dataset = prepared(tmp_path / "out", "huggingface", root)
    assert "9 rows in test/metadata" in capsys.readouterr().out
    assert dataset.manifest.splits == {"test": 2, "train": 5, "val": 2}
    assert texts_by_key(dataset)["val"] == {
        f"validation_sub_{i}": [f"validation {i}"] for i in range(2)
    }
    number = dataset.split("train").facts(3)["n"]
    assert number == ("3" if form == "csv" else 3)
    assert dataset.split("train").image_bytes(3) == picture(3, kind="PNG")


def test_an_image_folder_without_splits(tmp_path: Path, capsys: Captured) -> None:
    root = tmp_path / "set"
    names = [f"{i}.jpg" for i in range(20)]
    write_images(root, names)
    rows = [{"file_name": n, "title": f"no {n}", "label": n[0]} for n in [*names, "gone.jpg"]]
    (root / "metadata.jsonl").write_text(json_lines(rows))
    words = ("huggingface", root, "--caption-column", "title")
    dataset = prepared(tmp_path / "out", *words)
    said = capsys.readouterr().out
    assert "dropped 1: described images that are not there: gone.jpg" in said
    assert sum(dataset.manifest.splits.values()) == 20
    assert set(dataset.manifest.splits) == {"train", "val", "test"}
    assert "no column 'name' (--caption-column); it has 'file_name', 'title'" in refusal(
        capsys, tmp_path / "x", *words[:-1], "name"
    )
    assert "line 1: no caption column" in refusal(capsys, tmp_path / "x", *words[:2])
    (root / "metadata.jsonl").write_text(json_lines(rows[-1:] * 3))
    assert "of 1 images that it names, 0 are among the 20" in refusal(
        capsys, tmp_path / "x", *words
    )


def table(first: int, count: int, **columns: list[Any]) -> pa.Table:
    """Rows with pictures, as `to_parquet` writes them, the features in the file's metadata."""
    cells = [
        {"bytes": picture(i, kind="PNG" if i % 2 else "JPEG"), "path": f"{i}.png"}
        for i in range(first, first + count)
    ]
    features: dict[str, Any] = {"image": {"_type": "Image"}}
    features["label"] = {"_type": "ClassLabel", "names": ["cat", "dog"]}
    arrays = {"image": pa.array(cells, IMAGE)}
    arrays |= {name: pa.array(values) for name, values in columns.items()}
    said = json.dumps({"info": {"features": features}})
    return pa.table(arrays).replace_schema_metadata({"huggingface": said})


def write_parquet(root: Path) -> Path:
    """Seven rows to train in two files of several row groups, three to validate."""
    (root / "data").mkdir(parents=True)
    for name, first, count in (
        ("train-00000-of-00002", 0, 4),
        ("train-00001-of-00002", 4, 3),
        ("validation-00000-of-00001-0123456789abcdef", 7, 3),
    ):
        numbers = range(first, first + count)
        rows = table(
            first,
            count,
            caption=[[f"first {i}", f"second {i}"] for i in numbers],
            label=[i % 2 for i in numbers],
        )
        pq.write_table(rows, root / "data" / f"{name}.parquet", row_group_size=2)
    return root


def test_parquet_with_images(tmp_path: Path, capsys: Captured) -> None:
    root = write_parquet(tmp_path / "set")
    dataset = prepared(tmp_path / "out", "huggingface", root)
    assert "train-00000-of-00002.parquet: 4 rows, images in 'image'" in capsys.readouterr().out
    assert dataset.manifest.splits == {"train": 7, "val": 3}
    split = dataset.split("train")
    for i in range(7):
        assert split.image_bytes(i) == picture(i, kind="PNG" if i % 2 else "JPEG")
        assert [c.text for c in split.captions(i)] == [f"first {i}", f"second {i}"]
        facts = split.facts(i)
        assert facts["class"] == i % 2 and facts["class_name"] == ("cat", "dog")[i % 2]
        assert facts["image"] == f"{i}.png" and facts["row"] == i % 4
    assert [split.key(i)[-7:] for i in range(2)] == ["0000000", "0000001"]


def test_the_importer_travels_without_the_pictures_in_memory(tmp_path: Path) -> None:
    importer = huggingface(HuggingFaceOptions(root=write_parquet(tmp_path / "set")))
    before = [importer.sample("train", i) for i in (6, 0, 5)]
    content = pickle.dumps(importer)
    assert picture(5, kind="PNG") not in content
    assert [pickle.loads(content).sample("train", i) for i in (6, 0, 5)] == before


def test_columns_of_parquet_are_chosen_or_asked_for(tmp_path: Path, capsys: Captured) -> None:
    path, out = tmp_path / "some.parquet", tmp_path / "x"
    words = ("huggingface", path, "--fractions", 1, 0, 0)
    numbered = {f"caption_{n}": [f"number {n} of {i}" for i in range(3)] for n in range(3)}
    rows = table(0, 3, **numbered).replace_schema_metadata(None)
    pq.write_table(rows, path)
    dataset = prepared(tmp_path / "all", *words)
    assert dataset.split("train").captions(1)[2].text == "number 2 of 1"
    assert len(dataset.split("train").captions(1)) == 3
    two = prepared(tmp_path / "two", *words, "--caption-column", "caption_2,caption_0")
    assert [c.text for c in two.split("train").captions(0)] == ["number 2 of 0", "number 0 of 0"]
    pq.write_table(rows.append_column("thumb", rows["image"]), path)
    assert "2 columns hold images (image, thumb;" in refusal(capsys, out, *words)
    assert len(prepared(out, *words, "--image-column", "thumb").split("train")) == 3
    out = tmp_path / "y"
    pq.write_table(rows.append_column("url", pa.array(["http://x"] * 3)), path)
    said = refusal(capsys, out, *words, "--image-column", "url")
    assert "'url' is string, not images' bytes; nothing is downloaded" in said
    pq.write_table(rows.drop_columns(["image"]), path)
    assert "0 columns hold images (none; columns: caption_0 string" in refusal(capsys, out, *words)


def test_parquet_rows_without_a_caption(tmp_path: Path, capsys: Captured) -> None:
    path = tmp_path / "train.parquet"
    pq.write_table(table(0, 3, text=["one", None, "three"]), path)
    dataset = prepared(tmp_path / "some", "huggingface", path)
    assert [c.text for i in range(2) for c in dataset.split("train").captions(i)] == [
        "one",
        "three",
    ]
    assert "images without captions: train.parquet row 1" in capsys.readouterr().out
    pq.write_table(table(0, 3, label=[0, 1, 1]), path)
    assert "no caption column" in refusal(capsys, tmp_path / "x", "huggingface", path)
    (tmp_path / "l.txt").write_text("a line\n")
    words = ("huggingface", path, "--unlabelled", "--lines", "plain", tmp_path / "l.txt")
    assert len(prepared(tmp_path / "none", *words).split("train")) == 3


def test_classes_of_parquet(tmp_path: Path, capsys: Captured) -> None:
    """-1 is Hugging Face's mark of no class; names without numbers get them by the alphabet."""
    path = tmp_path / "train.parquet"
    pq.write_table(table(0, 4, text=["a"] * 4, label=[-1, 1, 2, 0]), path)
    split = prepared(tmp_path / "numbers", "huggingface", path).split("train")
    said = capsys.readouterr().out
    assert "class numbers outside the 2 names: train.parquet row 0: -1, train" in said
    facts = [split.facts(i) for i in range(4)]
    assert [f.get("class") for f in facts] == [None, 1, None, 0]
    assert [f.get("class_name") for f in facts] == [None, "dog", None, "cat"]
    rows = table(0, 3, text=["a"] * 3, label=["owl", "ant", "owl"])
    pq.write_table(rows.replace_schema_metadata(None), path)
    split = prepared(tmp_path / "names", "huggingface", path).split("train")
    assert [split.facts(i)["class"] for i in range(3)] == [1, 0, 1]


def test_files_of_the_same_name_are_told_apart_before_writing(
    tmp_path: Path, capsys: Captured
) -> None:
    for language in ("en", "fr"):
        (tmp_path / "set" / language).mkdir(parents=True)
        path = tmp_path / "set" / language / "train.parquet"
        pq.write_table(table(0, 2, text=["a", "b"]), path)
    said = refusal(capsys, tmp_path / "x", "huggingface", tmp_path / "set")
    assert "en/train.parquet and " in said and "fr/train.parquet would share the key" in said
    assert "train.parquet: 2 rows, images in 'image'" in said
    assert not (tmp_path / "x.partial").exists()


def test_cells_that_json_cannot_hold(tmp_path: Path, capsys: Captured) -> None:
    """Dates and decimals become text, bytes are dropped, whichever form the dataset has."""
    cells = {
        "taken": pa.array([date(2020, 1, 2)]),
        "at": pa.array([datetime(2020, 1, 2, 3, 4)]),
        "price": pa.array([Decimal("1.50")]),
        "seen": pa.array([[{"on": date(2021, 1, 1)}, None]]),
        "thumb": pa.array([b"raw"]),
        "nested": pa.array([{"deep": b"raw"}]),
    }
    facts = {"taken": "2020-01-02", "at": "2020-01-02T03:04:00", "price": "1.50"}
    facts |= {"seen": [{"on": "2021-01-01"}, None]}
    rows = table(0, 1, caption=["a"])
    for name, values in cells.items():
        rows = rows.append_column(name, values)
    pq.write_table(rows, tmp_path / "train.parquet")
    write_images(tmp_path / "set", ["a.jpg"])
    rows = pa.table({"file_name": ["a.jpg"], "text": ["a"]} | cells)
    pq.write_table(rows, tmp_path / "set" / "metadata.parquet")
    asked = ("--image-column", "image"), ("--fractions", 1, 0, 0)
    for place, words in zip(("train.parquet", "set"), asked, strict=True):
        dataset = prepared(tmp_path / f"of_{place}", "huggingface", tmp_path / place, *words)
        assert facts.items() <= dataset.split("train").facts(0).items()
        assert not {"thumb", "nested"} & set(dataset.split("train").facts(0))
        said = capsys.readouterr().out
        assert "dropped 2: facts that are no text, number, date or list: " in said
        assert "thumb (bytes)" in said and "nested (bytes)" in said


def test_rows_without_a_usable_picture_are_named(tmp_path: Path, capsys: Captured) -> None:
    path = tmp_path / "train.parquet"
    cells = [{"bytes": picture(0), "path": "a"}, {"bytes": None, "path": "b"}]
    cells += [{"bytes": b"no picture", "path": "c"}, {"bytes": picture(3), "path": None}]
    rows = {"image": pa.array(cells, IMAGE), "text": pa.array(["a", "b", "c", "..."])}
    pq.write_table(pa.table(rows), path)
    words = ("huggingface", path)
    said = refusal(capsys, tmp_path / "x", *words)
    assert "1 of 4 rows have an image and captions (min_joined=0.5); dropped 1: rows" in said
    dataset = prepared(tmp_path / "out", *words, "--min-joined", 0.2)
    said = capsys.readouterr().out
    assert "dropped 1: rows without an image's bytes: train.parquet row 1" in said
    assert "dropped 1: images that cannot be decoded: train.parquet row 2" in said
    assert "dropped 1: images without captions: train.parquet row 3" in said
    assert dataset.manifest.splits == {"train": 1}


def test_incomplete_and_other_datasets_are_refused(tmp_path: Path, capsys: Captured) -> None:
    root, out = write_parquet(tmp_path / "set"), tmp_path / "x"
    words = ("huggingface", root)
    (root / "data" / "train-00001-of-00002.parquet").rename(root / "data" / "other.parquet")
    assert "train-00001-of-00002.parquet is missing" in refusal(capsys, out, *words)
    (root / "data" / "train-00000-of-00002.parquet").unlink()
    assert "other.parquet: neither its name nor its folder says a split" in refusal(
        capsys, out, *words
    )
    cut = root / "data" / "other.parquet"
    cut.write_bytes(cut.read_bytes()[:-20])
    cut.rename(root / "train.parquet")
    assert "train.parquet is no Parquet file, or is cut" in refusal(capsys, out, *words)
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "holds neither metadata.jsonl" in refusal(capsys, out, "huggingface", empty)
    (empty / "data-00000-of-00001.arrow").write_bytes(b"")
    assert "(`save_to_disk`); write its splits with `to_parquet`" in refusal(
        capsys, out, "huggingface", empty
    )
    assert "nowhere does not exist" in refusal(capsys, out, "huggingface", tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train-00000-of-00002.parquet", "train"),
        ("data/validation-00000-of-00001-abc.parquet", "val"),
        ("styled-00000-of-00001.parquet", "styled"),
        ("default/test/0000.parquet", "test"),
        ("dev.parquet", "val"),
        ("eval_2.parquet", "test"),
        ("train/part.parquet", "train"),
        ("photos.parquet", None),
    ],
)
def test_the_split_of_a_file(name: str, split: str | None) -> None:
    assert split_of_table(Path("root") / name, Path("root")) == split
