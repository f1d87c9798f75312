"""FashionGen's HDF5 files, in small, in the published layout."""

from __future__ import annotations

import io
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
from importing import Captured, prepared, refusal, texts_by_key
from PIL import Image

from distgan.data.importers.fashiongen import FashionGen, FashionGenOptions

h5py = pytest.importorskip("h5py")

SIZE = 256
CATEGORIES = ["TOPS", "JEANS", "SHOES"]


def pictures(rows: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (rows, SIZE, SIZE, 3), dtype=np.uint8)


def write_fashion(path: Path, rows: int, first_product: int = 10, **changed: object) -> Path:
    """Products of two rows each; text as (N, 1) byte strings in Latin-1."""

    def column(values: list[str]) -> np.ndarray:
        return np.array([[value.encode("latin-1")] for value in values])

    products = [first_product + i // 2 for i in range(rows)]
    contents = {
        "index": np.arange(rows)[:, None],
        "index_2": np.arange(rows),
        "input_image": pictures(rows),
        "input_description": column([f"Soft caf\xe9 top no. {p}. Made well." for p in products]),
        "input_category": column([CATEGORIES[p % 3] for p in products]),
        "input_subcategory": column(["T-SHIRTS"] * rows),
        "input_gender": column(["Men"] * rows),
        "input_pose": column([f"id_gridfs_{1 + i % 2}" for i in range(rows)]),
        "input_productID": np.array(products)[:, None],
        "input_msrpUSD": np.full((rows, 1), 95.0),
        **changed,
    }
    with h5py.File(path, "w") as file:
        for name, values in contents.items():
            if values is not None:
                chunks = (1, SIZE, SIZE, 3) if name == "input_image" else None
                file.create_dataset(name, data=values, chunks=chunks)
    return path


def test_rows_become_samples_of_their_product(tmp_path: Path, capsys: Captured) -> None:
    train = write_fashion(tmp_path / "fashiongen_256_256_train.h5", 8)
    val = write_fashion(tmp_path / "fashiongen_256_256_validation.h5", 4, 90)
    dataset = prepared(tmp_path / "out", "fashiongen", "--train", train, "--val", val)
    said = capsys.readouterr().out
    assert "fashiongen_256_256_train.h5: 8 rows, 8 of the categories asked for, 4 products" in said
    split = dataset.split("train")
    assert dataset.manifest.splits == {"train": 8, "val": 4}
    for i in range(8):
        pixels = np.asarray(Image.open(io.BytesIO(split.image_bytes(i))))
        assert np.array_equal(pixels, pictures(8)[i]), "PNG keeps every pixel"
        facts = split.facts(i)
        assert facts["class"] == 10 + i // 2 and facts["row"] == i
        assert facts["category"] == CATEGORIES[(10 + i // 2) % 3]
        assert facts["pose"] == f"id_gridfs_{1 + i % 2}"
        assert split.captions(i)[0].text == f"Soft caf\xe9 top no. {10 + i // 2}. Made well."


def test_categories_sentences_and_quality_are_chosen(tmp_path: Path, capsys: Captured) -> None:
    train = write_fashion(tmp_path / "train.h5", 12)
    words = ("fashiongen", "--train", train)
    chosen = (
        "--categories",
        "TOPS",
        "JEANS",
        "--first-sentence",
        "--encode",
        "jpg",
        "--quality",
        90,
    )
    dataset = prepared(tmp_path / "out", *words, *chosen)
    split = dataset.split("train")
    products = [p for i in range(12) if CATEGORIES[(p := 10 + i // 2) % 3] != "SHOES"]
    assert [split.facts(i)["class"] for i in range(len(split))] == products
    assert set(texts_by_key(dataset)["train"]["train_000004"]) == {"Soft caf\xe9 top no"}
    assert Image.open(io.BytesIO(split.image_bytes(0))).format == "JPEG"
    said = refusal(capsys, tmp_path / "x", *words, "--categories", "HATS")
    assert "has no rows of 'HATS'; it has" in said and "TOPS" in said
    assert "quality must be in [1, 100], got 0" in refusal(
        capsys, tmp_path / "x", *words, "--quality", 0
    )


def test_an_importer_travels_to_other_processes(tmp_path: Path) -> None:
    importer = FashionGen(FashionGenOptions(train=write_fashion(tmp_path / "train.h5", 4)))
    before = importer.sample("train", 1)
    there = pickle.loads(pickle.dumps(importer))
    assert there.sample("train", 1) == before
    assert there.source == importer.source


def test_other_files_are_refused(tmp_path: Path, capsys: Captured) -> None:
    path, out = tmp_path / "train.h5", tmp_path / "x"

    def said(**changed: object) -> str:
        write_fashion(path, 4, **changed)
        return refusal(capsys, out, "fashiongen", "--train", path)

    assert "no input_productID in it; it has index, index_2" in said(input_productID=None)
    assert "no input_image in it" in said(input_image=None)
    assert "3 input_description for 4 input_image" in said(
        input_description=np.array([[b"a"], [b"b"], [b"c"]])
    )
    assert "input_image is float32 (4, 256, 256, 3), not uint8" in said(
        input_image=pictures(4).astype(np.float32)
    )
    assert "are not whole numbers" in said(input_productID=np.array([[b"x"]] * 4))
    few = np.array([[b"."], [b"a top"], [b""], [b"!"]])
    assert "1 of 4 rows have a description (min_joined=0.5)" in said(input_description=few)
    write_fashion(path, 4)
    path.write_bytes(path.read_bytes()[:3000])
    assert "is no HDF5 file, or is cut" in refusal(capsys, out, "fashiongen", "--train", path)
    path.unlink()
    assert "train.h5 does not exist" in refusal(capsys, out, "fashiongen", "--train", path)


def test_without_h5py_the_command_to_install_it_is_said(
    tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_fashion(tmp_path / "train.h5", 2)
    monkeypatch.setitem(sys.modules, "h5py", None)
    said = refusal(capsys, tmp_path / "x", "fashiongen", "--train", path)
    assert "pip install 'distgan[fashiongen]'" in said
