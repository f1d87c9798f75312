"""What was announced but is found damaged without its file takes no place from what follows."""

from __future__ import annotations

import io
import tarfile
import threading
from pathlib import Path

import pytest
from made_up_samples import picture

from distgan.data.dataset import Dataset
from distgan.data.folder import Extent, Folder, read_now
from distgan.data.foreign import index_dataset
from distgan.data.read_ahead import ReadAhead
from distgan.data.sources import CaptionedImages
from distgan.data.stream import Stream

ROWS, AHEAD = 4, 8


@pytest.fixture
def half_bad(tmp_path: Path) -> Dataset:
    """60 images; every other caption has no words."""
    with tarfile.open(tmp_path / "train-0.tar", "w") as archive:
        for i in range(60):
            text = b"!?.." if i % 2 else b"a dog"
            for name, data in ((f"k{i:02d}.jpg", picture(i)), (f"k{i:02d}.txt", text)):
                info = tarfile.TarInfo(name)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
    index_dataset(tmp_path)
    return Dataset.open(tmp_path)


def test_bad_captions_leave_reading_ahead_as_it_was(
    half_bad: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = []

    def noted(extent: Extent) -> bytes:
        if threading.current_thread() is threading.main_thread():
            late.append(extent)
        return read_now(extent)

    monkeypatch.setattr("distgan.data.read_ahead.read_now", noted)
    monkeypatch.setattr("distgan.data.read_ahead.GAP", -1)  # every sample is a request
    split = half_bad.split("train")
    source = CaptionedImages(split, half_bad.vocabulary, 6, image_size=16)
    largest = max(split.extent(i).size for i in range(60))
    stream = Stream(
        source,
        name="s",
        rows=ROWS,
        seed=0,
        max_bad_samples=60,
        read_ahead=AHEAD,
        read_ahead_bytes=20 * largest,
    )
    for _ in range(45):  # three epochs
        next(stream)
        assert stream._reader is not None and stream._reader._ahead is not None
        ahead = stream._reader._ahead
        assert ahead._wanted.total() <= ROWS + AHEAD and len(ahead._queue) <= ROWS + AHEAD
    assert len(stream.bad) == 30
    assert late == []
    stream.close()


@pytest.mark.parametrize("most", [1, 2500, 1 << 20])
def test_what_is_given_up_is_let_go(tmp_path: Path, most: int) -> None:
    content = bytes(range(256)) * 400
    (tmp_path / "a").write_bytes(content)
    folder = Folder(str(tmp_path))
    extents = [Extent(folder, "a", 1000 * i, 1000) for i in range(100)]
    ahead = ReadAhead(most)
    ahead.expect([*extents, *extents[:10]])
    for i, extent in enumerate(extents):
        if i % 3:
            ahead.forget(extent)
        else:
            assert ahead.read(extent) == content[extent.offset : extent.offset + 1000]
    for extent in extents[:10]:
        assert ahead.read(extent) == content[extent.offset : extent.offset + 1000]
    ahead._threads.shutdown()
    assert ahead._held == 0 and not ahead._wanted and not ahead._waiting and not ahead._fetched
    assert not ahead._queue and not ahead._users
