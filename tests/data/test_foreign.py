"""Shards of others, in the forms that people have, indexed where they lie."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest
from importing import prepare
from made_up_samples import picture

from distgan.data.dataset import Dataset
from distgan.data.foreign import index_dataset, split_of
from distgan.data.samples import Caption
from distgan.data.verify import verify

Captured = pytest.CaptureFixture[str]


def tar(path: Path, files: dict[str, bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


def indexed(root: Path, *words: object) -> Dataset:
    before = {p: hashlib.sha256(p.read_bytes()).digest() for p in root.rglob("*.tar")}
    assert prepare("index", root, *words) == 0
    assert prepare("verify", root, "--contents", "--jobs", 3) == 0
    assert {p: hashlib.sha256(p.read_bytes()).digest() for p in root.rglob("*.tar")} == before
    return Dataset.open(root)


def img2dataset(root: Path, shards: int = 3) -> None:
    """Triples, as img2dataset writes them: the JSON repeats the caption among other things."""
    for shard in range(shards):
        files = {}
        for i in range(4):
            key, n = f"{shard:05d}{i:04d}", shard * 4 + i
            said = {"url": f"http://x/{n}", "caption": f"thing {n}", "key": key, "width": 20}
            said |= {"status": "success", "error_message": None, "exif": "{}", "sha256": "0"}
            files |= {f"{key}.jpg": picture(n), f"{key}.txt": f"thing {n}".encode()}
            files[f"{key}.json"] = json.dumps(said).encode()
        tar(root / f"{shard:05d}.tar", files)
        (root / f"{shard:05d}.parquet").write_bytes(b"of no concern")
        (root / f"{shard:05d}_stats.json").write_text("{}")


def test_triples_with_the_caption_twice(tmp_path: Path, capsys: Captured) -> None:
    img2dataset(tmp_path)
    dataset = indexed(tmp_path, "--split", "val", "--jobs", 2)
    assert "val: 12 images; captions: 12 factual" in capsys.readouterr().out
    split = dataset.split("val")
    for i in range(12):
        assert split.captions(i) == [Caption(f"thing {i}")]
        assert split.facts(i)["url"] == f"http://x/{i}" and "caption" not in split.facts(i)
        assert split.image_bytes(i) == picture(i)


def test_the_number_of_threads_changes_nothing(tmp_path: Path) -> None:
    found = []
    for jobs in (1, 4):
        img2dataset(tmp_path / str(jobs), shards=7)
        index_dataset(tmp_path / str(jobs), jobs=jobs)
        names = ("dataset.json", "index.parquet")
        found.append([(tmp_path / str(jobs) / name).read_bytes() for name in names])
    assert found[0] == found[1]


def test_shards_without_a_name_are_of_train_or_of_their_folder(tmp_path: Path) -> None:
    img2dataset(tmp_path)
    tar(tmp_path / "val" / "00000.tar", {"v.jpg": picture(9), "v.txt": b"nine"})
    assert indexed(tmp_path).manifest.splits == {"train": 12, "val": 1}
    for name, split in (
        ("00001.tar", "train"),
        ("a/b/dev/7.tar", "dev"),
        ("coco-val2014-000012.tar", "val2014"),
        ("cc3m_train_0001.tar", "train"),
        ("styled-000000.tar", "styled"),
        ("train-val-0.tar", "train-val"),
        ("test_3.tar", "test"),
        ("val/data-0001.tar", "val"),
        ("val/00/data-0001.tar", "val"),
        ("validation-000.tar", "val"),
        ("Validation/part-000.tar", "val"),
        ("testing/0.tar", "test"),
        ("valid2017/shard-1.tar", "val2017"),
        ("val/train-0.tar", "train"),
        ("coco_val2014/a-1.tar", "val2014"),
        ("styles/romantic-0.tar", "romantic"),
    ):
        assert split_of(name) == split


@pytest.mark.parametrize(
    ("files", "captions", "facts"),
    [
        ({"json": {"text": "a", "x": 1}}, ["a"], {"x": 1}),
        ({"json": {"text": ["a", "b"]}}, ["a", "b"], {}),
        ({"json": {"text": {"ocr": 1}}, "txt": b"a"}, ["a"], {"text": {"ocr": 1}}),
        ({"json": {"caption": "a", "text": "ocr"}}, ["a"], {"text": "ocr"}),
        ({"json": {"caption": ["a", "b"], "captions": None}}, ["a", "b"], {}),
        ({"json": {"captions": [{"text": "a"}]}, "txt": b"b"}, ["a"], {}),
        ({"json": {"caption": None}, "txt": b"b\nc\n"}, ["b", "c"], {}),
        ({"txt": "b\u2028c\r\nd\x85e".encode()}, ["b\u2028c", "d\x85e"], {}),
        ({"txt": b"a", "cls": b"7\n"}, ["a"], {"class": 7}),
        ({"cls": b"3"}, [], {"class": 3}),
        ({}, [], {}),
        ({"txt": b"a", "npy": b"whatever", "__url__": b"u"}, ["a"], {}),
    ],
)
def test_forms_of_captions(
    tmp_path: Path, files: dict[str, Any], captions: list[str], facts: dict[str, Any]
) -> None:
    members = {f"k.{e}": json.dumps(v).encode() if e == "json" else v for e, v in files.items()}
    tar(
        tmp_path / "train-0.tar",
        {"deep/er/k.JPEG": picture(1)} | {f"deep/er/{k}": v for k, v in members.items()},
    )
    split = indexed(tmp_path).split("train")
    assert split.captions(0) == [Caption(text) for text in captions]
    assert split.facts(0) == facts and split.key(0) == "deep/er/k"


def test_keys_that_start_anew_in_each_shard(tmp_path: Path) -> None:
    for shard in range(2):
        files = {f"{i}.png": picture(shard * 3 + i, kind="PNG") for i in range(3)}
        tar(tmp_path / f"train-{shard}.tar", files | {f"{i}.txt": b"a" for i in range(3)})
    split = indexed(tmp_path).split("train")
    assert [split.key(i) for i in range(6)] == [f"train-{s}:{i}" for s in "01" for i in range(3)]
    assert split.image_bytes(4) == picture(4, kind="PNG")
    data = bytearray((tmp_path / "train-1.tar").read_bytes())
    data[600] ^= 1
    (tmp_path / "train-1.tar").write_bytes(data)
    assert verify(tmp_path) == ["train-1.tar: train-1:0: the image's bytes changed"]


def test_an_index_that_cannot_be_finished_leaves_no_manifest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    img2dataset(tmp_path)

    def full(descriptor: int) -> None:
        raise OSError("no space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="no space left"):
            index_dataset(tmp_path)
    assert not list(tmp_path.glob("dataset.*"))
    assert indexed(tmp_path).splits == ("train",)
    assert not list(tmp_path.glob("*.tmp"))


@pytest.mark.parametrize("start", ["at:", "train-0:"])
def test_keys_with_colons_are_their_own(tmp_path: Path, start: str) -> None:
    files: dict[str, bytes] = {}
    for i in range(3):
        files |= {f"{start}{i}.png": picture(i, kind="PNG"), f"{start}{i}.txt": b"a"}
    tar(tmp_path / "train-0.tar", files)
    assert indexed(tmp_path).split("train").key(2) == f"{start}2"
    path = tmp_path / "train-0.tar"
    data = bytearray(path.read_bytes())
    data[600] ^= 1
    path.write_bytes(data)
    assert verify(tmp_path) == [f"train-0.tar: {start}0: the image's bytes changed"]


def test_a_copied_shard_is_no_second_one(tmp_path: Path) -> None:
    img2dataset(tmp_path)
    (tmp_path / "00001 (copy).tar").write_bytes((tmp_path / "00001.tar").read_bytes())
    with pytest.raises(ValueError, match=r"both hold 000010000, with the same image"):
        index_dataset(tmp_path, split="train")
    assert not (tmp_path / "dataset.json").exists()


@pytest.mark.parametrize(
    ("files", "error"),
    [
        ({"k.txt": b"a"}, r"t-0\.tar: k: no image \(jpg, png, webp\) among its members: txt"),
        ({"k.jpg": b"x", "k.cls": b"dog"}, r"t-0\.tar: k\.cls: not the number of a class: b'dog'"),
        ({"k.jpg": b"x", "k.JPEG": b"x"}, r"t-0\.tar: k: two members k\.jpg"),
        ({"k.jpg": b"x", "k.json": b"{"}, r"t-0\.tar: k\.json: not captions and facts"),
        ({"k.jpg": b"x", "k.json": b'{"captions": {"a": 1}}'}, r"k\.json: not captions"),
        ({"k.jpg": b"x", "k.txt": b"\xff"}, r"t-0\.tar: k\.txt: not UTF-8"),
        ({"k.jpg": b"x", "k.json": b'{"a": "\\udc00"}'}, r"t-0\.tar: k\.json: not captions and f"),
    ],
)
def test_mistakes_name_shard_and_key(tmp_path: Path, files: dict[str, bytes], error: str) -> None:
    tar(tmp_path / "t-0.tar", files)
    with pytest.raises(ValueError, match=error):
        index_dataset(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["t-0.tar"]


def test_what_lies_between_the_samples(tmp_path: Path) -> None:
    files = {"._k.jpg": b"of macOS", "a/.DS_Store": b"", "k.jpg": picture(1), "k.txt": b"a"}
    tar(tmp_path / "train-0.tar", files)
    assert len(indexed(tmp_path).split("train")) == 1


def test_compressed_shards_are_refused_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "train-0.tar.gz").write_bytes(b"")
    with pytest.raises(ValueError, match=r"train-0\.tar\.gz is compressed .* unpack it"):
        index_dataset(tmp_path)


def test_verify_finds_damage_in_foreign_shards_whatever_the_threads(tmp_path: Path) -> None:
    img2dataset(tmp_path, shards=4)
    index_dataset(tmp_path)
    (tmp_path / "00000.tar").unlink()
    os.truncate(tmp_path / "00001.tar", 5000)
    data = bytearray((tmp_path / "00002.tar").read_bytes())
    data[700] ^= 4
    (tmp_path / "00002.tar").write_bytes(data)
    problems = verify(tmp_path)
    assert problems == verify(tmp_path, jobs=4)
    assert problems[0] == "00000.tar: missing (4 samples, 000000000 to 000000003)"
    assert "00002.tar: 000020000: the image's bytes changed" in problems
    assert any(p.startswith("00001.tar: 000010003: cut") for p in problems)
    assert not any(p.startswith("00003") for p in problems)
