"""How datasets are laid out: options of writing, and the same bytes whoever writes them."""

from __future__ import annotations

import hashlib
import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from made_up_samples import Numbers, picture
from PIL import Image

from distgan.data.dataset import Dataset
from distgan.data.layout import LaidOut, WriteOptions
from distgan.data.pieces import Piece, is_written, rows_path, write_piece
from distgan.data.samples import Sample
from distgan.data.shards import write_dataset
from distgan.data.verify import verify

ROOT = Path(__file__).resolve().parents[2]
PREPARE = ROOT / "launch" / "prepare.py"


class Pictures(Numbers):
    """Numbers whose pictures come in several sizes and kinds."""

    def sample(self, split: str, i: int) -> Sample:
        plain = super().sample(split, i)
        kind = ("JPEG", "PNG", "WEBP")[i % 3]
        image = picture(i, (30 + 10 * (i % 5), 40), kind)
        extension = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp"}[kind]
        return Sample(plain.key, image, extension, plain.captions, plain.facts)


def write(out: Path, **options: object) -> Dataset:
    chosen = WriteOptions(shard_samples=5, **options)  # type: ignore[arg-type]
    assert write_dataset(Pictures(), {"name": "pictures"}, out, chosen)
    assert verify(out, contents=True) == []
    return Dataset.open(out)


def contents(root: Path) -> dict[str, str]:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files
    }


def test_smaller_images(tmp_path: Path) -> None:
    whole, small = write(tmp_path / "a").split("train"), write(tmp_path / "b", shorter=35)
    split = small.split("train")
    assert small.manifest.source["layout"]["shorter"] == 35
    for i in range(len(whole)):
        image = Image.open(io.BytesIO(split.image_bytes(i)))
        if 30 + 10 * (i % 5) <= 35:
            assert split.image_bytes(i) == whole.image_bytes(i)
        else:
            assert min(image.size) == 35 and image.format == "JPEG"
        assert split.captions(i) == whole.captions(i) and split.facts(i) == whole.facts(i)


def test_all_of_one_kind(tmp_path: Path) -> None:
    split = write(tmp_path / "a", encode="webp", quality=50).split("train")
    kinds = {Image.open(io.BytesIO(split.image_bytes(i))).format for i in range(len(split))}
    assert kinds == {"WEBP"}


def test_a_few_samples_of_each_split(tmp_path: Path) -> None:
    dataset = write(tmp_path / "a", limit=7)
    assert dataset.manifest.splits == {"train": 7, "val": 5}
    keys = [dataset.split("train").key(i) for i in range(7)]
    assert keys == [f"train{i:03d}" for i in range(7)]


def test_shards_of_a_size(tmp_path: Path) -> None:
    many = LaidOut(Pictures({"train": 400}), WriteOptions(shard_mb=0.01))
    mean = sum(len(many.sample("train", i).image) for i in range(400)) / 400
    assert abs(many.shard_samples() * mean / 2**20 - 0.01) < 0.002
    assert LaidOut(Pictures(), WriteOptions(shard_mb=1e-9)).shard_samples() == 1
    write(tmp_path / "a", shard_mb=0.005)


def test_impossible_layouts_are_refused() -> None:
    for name in ("limit", "shorter", "shard_samples", "jobs", "min_count", "max_words"):
        with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
            WriteOptions(**{name: 0})
    with pytest.raises(ValueError, match=r"shard_mb must be above 0, got -1"):
        WriteOptions(shard_mb=-1)
    with pytest.raises(ValueError, match=r"quality must be in \[1, 100\], got 0"):
        WriteOptions(quality=0)


def test_a_dataset_says_only_what_was_chosen() -> None:
    """So that datasets made before an option existed are still those that were asked for."""
    usual = {"shard_samples": 1000, "min_count": 1, "max_words": None}
    assert WriteOptions(jobs=4).told() == usual
    assert WriteOptions(limit=3, encode="jpg").told() == usual | {"limit": 3, "encode": "jpg"}


def test_a_piece_counts_only_when_whole(tmp_path: Path) -> None:
    (tmp_path / "rows").mkdir()
    piece = Piece("train", 0, 0, 5)
    assert not is_written(tmp_path, piece)
    write_piece(Pictures(), tmp_path, piece)
    assert is_written(tmp_path, piece)
    rows = rows_path(tmp_path, piece)
    whole = rows.read_bytes()
    rows.write_bytes(whole[: len(whole) // 2])
    assert not is_written(tmp_path, piece)
    rows.write_bytes(whole)
    (tmp_path / piece.name).unlink()
    assert not is_written(tmp_path, piece)


def test_only_the_last_step_was_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Interrupted between the manifest and the move: nothing is written again."""
    write(tmp_path / "expected")

    def interrupted(partial: Path, out: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("distgan.data.shards._move", interrupted)
        with pytest.raises(KeyboardInterrupt):
            write(tmp_path / "a")
    shard = tmp_path / "a.partial" / "train-000000.tar"
    before = shard.stat().st_mtime_ns
    write(tmp_path / "a")
    assert (tmp_path / "a" / shard.name).stat().st_mtime_ns == before
    assert contents(tmp_path / "a") == contents(tmp_path / "expected")


SHAPES = [
    *("shapes", "--images", 120, "--val", 4, "--test", 3, "--unlabelled", 5, "--styled", 3),
    *("--lines", 7, "--size", 96, "--shorter", 64, "--quality", 90, "--shard-samples", 4),
]


def started(out: Path, *words: object) -> subprocess.Popen[str]:
    command = [sys.executable, PREPARE, *SHAPES, "--out", out, *words]
    return subprocess.Popen(
        list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


@pytest.mark.slow
def test_processes_and_interruptions_change_no_byte(tmp_path: Path) -> None:
    """One process; two; two that are interrupted, then killed, and go on."""
    for jobs in (1, 2):
        assert started(tmp_path / f"jobs{jobs}", "--jobs", jobs).wait() == 0
    rows = tmp_path / "stopped.partial/rows"
    for how, least in ((signal.SIGINT, 3), (signal.SIGKILL, 9)):
        run = started(tmp_path / "stopped", "--jobs", 2)
        deadline = time.monotonic() + 900
        while len(list(rows.glob("*.parquet"))) < least:
            assert run.poll() is None and time.monotonic() < deadline
            time.sleep(0.01)
        children = Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()
        assert len(children) >= 2
        run.send_signal(how)
        said, _ = run.communicate(timeout=900)
        while any(Path(f"/proc/{child}").exists() for child in children):
            assert time.monotonic() < deadline, "processes of a stopped program stay"
            time.sleep(0.01)
        assert not (tmp_path / "stopped").exists()
        if how == signal.SIGINT:
            assert run.returncode == 130 and "goes on from here" in said, said
    assert started(tmp_path / "stopped", "--jobs", 2).wait() == 0
    expected = contents(tmp_path / "jobs1")
    assert contents(tmp_path / "jobs2") == expected
    assert contents(tmp_path / "stopped") == expected
    assert list(tmp_path.glob("*.partial")) == []


class Dying(Numbers):
    """Ends the process that asks for its ninth sample, as a kernel short of memory would."""

    def sample(self, split: str, i: int) -> Sample:
        if i == 9:
            os._exit(9)
        return super().sample(split, i)


@pytest.mark.slow
def test_a_writing_process_that_dies_is_told(tmp_path: Path) -> None:
    options = WriteOptions(shard_samples=5, jobs=2)
    with pytest.raises(ChildProcessError, match=r"a writing process died.*fewer than jobs=2"):
        write_dataset(Dying(), {"name": "dying"}, tmp_path / "x", options)
    assert write_dataset(Numbers(), {"name": "dying"}, tmp_path / "x", options)
    assert verify(tmp_path / "x", contents=True) == []
