"""Every kind of damage is found and named: by opening, by reading, by verifying."""

from __future__ import annotations

import io
import json
import os
import pickle
import random
import re
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from distgan.data.damage import DamagedSample, TooManyBadSamples
from distgan.data.dataset import Dataset
from distgan.data.foreign import index_dataset
from distgan.data.sources import CaptionedImages
from distgan.data.stream import Stream
from distgan.data.tars import DamagedShard
from distgan.data.verify import verify

SHARD = "train-000001.tar"  # holds train010 to train019


@pytest.fixture
def root(written: Callable[..., Path]) -> Path:
    return written()


def flip(path: Path, byte: int, bit: int = 3) -> None:
    data = bytearray(path.read_bytes())
    data[byte] ^= 1 << bit
    path.write_bytes(data)


def place(root: Path, i: int) -> int:
    """A byte in the middle of the image of a sample of the training split."""
    split = Dataset.open(root).split("train")
    return int(split._offsets[i] + split._sizes[i] // 2)


def stream(root: Path, bound: int) -> Stream:
    dataset = Dataset.open(root, allow_damage=bound > 0)
    source = CaptionedImages(dataset.split("train"), dataset.vocabulary, 8, image_size=16)
    return Stream(source, name="s", rows=54, seed=0, max_bad_samples=bound)


def test_a_sound_dataset_verifies(root: Path) -> None:
    assert verify(root, contents=True) == []


def test_any_flipped_bit_of_any_file_is_found(root: Path) -> None:
    draws = random.Random(0)
    files = sorted(path for path in root.rglob("*") if path.is_file())
    assert len(files) == 7
    for path in files:
        size = path.stat().st_size
        for _ in range(40):
            byte, bit = draws.randrange(size), draws.randrange(8)
            flip(path, byte, bit)
            problems = verify(root)
            name = str(path.relative_to(root))
            assert problems and name in problems[0], (path, byte, bit)
            flip(path, byte, bit)
    assert verify(root) == []


def test_a_flipped_bit_within_a_sample_names_its_key(root: Path) -> None:
    for i in range(10, 20):
        end = place(root, i + 1) if i < 19 else place(root, i) + 600
        byte = random.Random(i).randrange(place(root, i), end)
        flip(root / SHARD, byte)
        assert re.search(rf"{SHARD}: train0({i}|{i + 1}): ", verify(root)[0])
        flip(root / SHARD, byte)


def test_a_flipped_byte_in_an_image_stops_or_is_replaced(root: Path) -> None:
    flip(root / SHARD, place(root, 12))
    split = Dataset.open(root).split("train")
    with pytest.raises(DamagedSample, match=f"{SHARD}: train012: its bytes changed"):
        split.image_bytes(12)
    with pytest.raises(TooManyBadSamples, match=f"{SHARD}: train012: its bytes changed"):
        next(stream(root, bound=0))
    tolerant = stream(root, bound=3)
    batch = next(tolerant)
    assert len(batch["key"]) == 54 and "train012" not in batch["key"]
    assert len(tolerant.bad) == 1 and tolerant.state_dict()["bad"] == [[0, 0, 3]]  # 3 captions


def test_a_cut_shard_is_named(root: Path) -> None:
    whole = (root / SHARD).stat().st_size
    os.truncate(root / SHARD, place(root, 17))
    with pytest.raises(ValueError, match=rf"shard {SHARD} has \d+ bytes instead of {whole}"):
        Dataset.open(root)
    split = Dataset.open(root, allow_damage=True).split("train")
    assert split.image_bytes(16)
    for i in (17, 18):
        with pytest.raises(DamagedSample, match=f"{SHARD}: train0{i}: shard cut"):
            split.image_bytes(i)
    problems = "\n".join(verify(root))
    for key in ("train017", "train018", "train019"):
        assert f"{SHARD}: {key}: cut" in problems
    assert "train016" not in problems
    batch = next(stream(root, bound=9))
    assert not {"train017", "train018", "train019"} & set(batch["key"])


def test_a_missing_shard_is_named(root: Path) -> None:
    (root / SHARD).unlink()
    with pytest.raises(ValueError, match=f"shard {SHARD} is missing"):
        Dataset.open(root)
    assert verify(root) == [f"{SHARD}: missing (10 samples, train010 to train019)"]
    split = Dataset.open(root, allow_damage=True).split("train")
    with pytest.raises(DamagedSample, match=f"{SHARD}: train010: the shard is missing"):
        split.image_bytes(10)


def test_a_stale_index_is_refused(root: Path, written: Callable[..., Path]) -> None:
    other = written("other", train=9, val=2)
    (root / "index.parquet").write_bytes((other / "index.parquet").read_bytes())
    with pytest.raises(ValueError, match=r"index\.parquet is not the index dataset\.json"):
        Dataset.open(root)
    assert "index.parquet: changed, or of another dataset" in verify(root)[0]


def test_a_changed_manifest_a_foreign_shard_and_changed_text_are_found(root: Path) -> None:
    (root / "train-000009.tar").write_bytes((root / SHARD).read_bytes())
    assert verify(root) == ["train-000009.tar: a shard that dataset.json does not list"]
    (root / "train-000009.tar").unlink()
    (root / "text/cheerful.txt").write_text("what a lovely day\n")
    assert "text/cheerful.txt: changed" in verify(root)[0]
    with pytest.raises(ValueError, match=r"cheerful\.txt: damaged or changed"):
        Dataset.open(root).texts("cheerful")
    manifest = root / "dataset.json"
    manifest.write_text(manifest.read_text().replace('"lovely"', '"lonely"'))
    with pytest.raises(ValueError, match=r"dataset\.json: damaged, or changed"):
        Dataset.open(root)


def test_what_is_no_dataset_is_said(tmp_path: Path, root: Path) -> None:
    with pytest.raises(ValueError, match="nowhere does not exist"):
        Dataset.open(tmp_path / "nowhere")
    (tmp_path / "bare").mkdir()
    with pytest.raises(ValueError, match=r"no prepared dataset: it has no dataset\.json.*index"):
        Dataset.open(tmp_path / "bare")
    with pytest.raises(ValueError, match="no split 'dev'; it has \\('train', 'val'\\)"):
        Dataset.open(root).split("dev")
    with pytest.raises(ValueError, match="no text of style 'sad'; it has \\['cheerful'\\]"):
        Dataset.open(root).texts("sad")


def tar(path: Path, files: dict[str, bytes]) -> None:
    with tarfile.open(path, "w") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


def foreign(folder: Path, image: bytes, captions: list[str]) -> Path:
    """A shard as other programs write it."""
    folder.mkdir()
    content = json.dumps({"captions": captions, "cocoid": 9}).encode()
    tar(folder / "train-0.tar", {"a.jpg": image, "a.json": content})
    return folder


def test_a_corrupt_jpeg_within_sound_bytes_is_named(tmp_path: Path) -> None:
    """The index can only remember the bytes it was given; the decoder knows more."""
    root = foreign(tmp_path / "x", b"\xff\xd8\xff\xe0 no picture", ["a dog"])
    index_dataset(root)
    assert verify(root) == []
    assert "train-0.tar: a: undecodable image" in verify(root, contents=True)[0]
    with pytest.raises(DamagedSample, match=r"train-0\.tar: a: undecodable image"):
        Dataset.open(root).split("train").image(0, 16)


def test_a_caption_of_only_punctuation_is_named(tmp_path: Path, root: Path) -> None:
    image = Dataset.open(root).split("train").image_bytes(0)
    given = foreign(tmp_path / "x", image, ["a dog .", "!?.."])
    index_dataset(given)
    assert "train-0.tar: a: a caption has no words: '!?..'" in verify(given, contents=True)[0]
    dataset = Dataset.open(given)
    source = CaptionedImages(dataset.split("train"), dataset.vocabulary, 8)
    with pytest.raises(TooManyBadSamples, match=r"train-0\.tar: a: a caption has no words: '!\?"):
        next(Stream(source, name="s", rows=2, seed=0))
    batch = next(Stream(source, name="s", rows=2, seed=0, max_bad_samples=1))
    assert torch.equal(batch["words"][0], batch["words"][1])


def test_cut_and_empty_foreign_shards_are_named(tmp_path: Path) -> None:
    files = {f"k{i}.{e}": b"12345" * 99 for i in range(5) for e in ("jpg", "txt")}
    for cut in (512, 512 * 4, 700, 512 * 7):
        folder = tmp_path / f"cut{cut}"
        folder.mkdir()
        tar(folder / "train-0.tar", files)
        os.truncate(folder / "train-0.tar", cut)
        with pytest.raises(DamagedShard, match=r"train-0\.tar: (cut|damaged)"):
            index_dataset(folder)
    folder = tmp_path / "empty"
    folder.mkdir()
    tar(folder / "train-0.tar", {})
    with pytest.raises(ValueError, match=r"train-0\.tar: an empty shard"):
        index_dataset(folder)


def test_a_flipped_bit_in_a_foreign_header_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "x"
    folder.mkdir()
    tar(folder / "train-0.tar", {f"k{i}.{e}": b"x" for i in range(5) for e in ("jpg", "txt")})
    flip(folder / "train-0.tar", 1024 * 4 + 20)
    with pytest.raises(DamagedShard, match=r"train-0\.tar: damaged after k1\.txt"):
        index_dataset(folder)


def test_datasets_open_by_uri_and_travel_between_processes(
    root: Path, written: Callable[..., Path]
) -> None:
    split = Dataset.open(root.as_uri()).split("val")
    copy = pickle.loads(pickle.dumps(split))
    assert copy.image_bytes(3) == split.image_bytes(3) and copy.key(3) == "val003"
    sent = pickle.dumps(split)
    other = written("other", train=9, val=2)
    for name in ("index.parquet", "dataset.json"):
        (root / name).write_bytes((other / name).read_bytes())
    with pytest.raises(ValueError, match="was replaced by another dataset while in use"):
        pickle.loads(sent)
