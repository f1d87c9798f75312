"""Datasets on web servers and object stores: the same samples, few requests, faults survived."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from importing import prepare
from range_server import RangeServer

from distgan.data.damage import TooManyBadSamples
from distgan.data.dataset import Dataset
from distgan.data.folder import Extent, Folder, read_now
from distgan.data.read_ahead import GAP, REQUESTS, ReadAhead
from distgan.data.sources import CaptionedImages, Images
from distgan.data.stream import Stream
from distgan.data.verify import verify

TRIES = 4


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distgan.data.folder._READ_WAITS", (0.0,) * (TRIES - 1))


@pytest.fixture
def server(written: Callable[..., Path]) -> RangeServer:
    return RangeServer(written(train=40, val=5))


@pytest.fixture
def url(server: RangeServer) -> Iterator[str]:
    with server.running() as url:
        yield url


def captions(path: str | Path, *, image_size: int | None = 16, damage: bool = False) -> Any:
    dataset = Dataset.open(path, allow_damage=damage)
    return CaptionedImages(dataset.split("train"), dataset.vocabulary, 6, image_size=image_size)


def stream(source: Any, **options: Any) -> Stream:
    defaults: dict[str, Any] = {"name": "s", "rows": 8, "seed": 0, "block": 16, "window": 64}
    return Stream(source, **{**defaults, **options})


def same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    pairs = [(a[name], b[name]) for name in a]
    return a.keys() == b.keys() and all(
        torch.equal(x, y) if isinstance(x, torch.Tensor) else x == y for x, y in pairs
    )


def epoch(stream: Stream) -> list[dict[str, Any]]:
    batches = [next(stream) for _ in range(-(-len(stream.source) // stream.rows))]
    stream.close()
    return batches


@pytest.mark.parametrize("ahead", [0, 1, 20, 500])
def test_the_web_gives_what_the_disk_gives(server: RangeServer, url: str, ahead: int) -> None:
    near, far = stream(captions(server.root)), stream(captions(url), read_ahead=ahead)
    for a, b in zip(epoch(near), epoch(far), strict=True):
        assert same(a, b)
    assert far.bad == []


def test_requests_are_few_bounded_and_their_time_is_hidden(server: RangeServer, url: str) -> None:
    """One request a sample, one after the other, without reading ahead; with it, neighbours
    share one and several are under way at once."""
    source = captions(url)
    server.delay, shards = 0.02, [f"train-{n:06d}.tar" for n in range(4)]

    def requests(ahead: int) -> int:
        server.asked.clear()
        server.most_busy = 0
        batches = epoch(stream(source, read_ahead=ahead))
        samples = sum(len(batch["key"]) for batch in batches)
        assert samples == 96 > len(source)
        return sum(server.asked[name] for name in shards)

    assert requests(0) == 96 and server.most_busy == 1
    assert requests(64) <= 24  # captions share their image's, and images their neighbours'
    assert 1 < server.most_busy <= REQUESTS


def test_bytes_under_way_and_held_are_bounded(server: RangeServer, url: str) -> None:
    split = Dataset.open(url).split("train")
    extents = [split.extent(i) for i in range(40)]
    most = 3 * max(extent.size for extent in extents)
    ahead, peak = ReadAhead(most), 0
    ahead.expect(extents)
    for extent in extents:
        data = ahead.read(extent)
        assert data == read_now(extent)
        peak = max(peak, ahead._held)
    assert 0 < peak <= most and ahead._held == 0 and not ahead._fetched and not ahead._wanted
    ahead.close()


def test_what_is_read_in_any_order_or_never_announced_is_right(tmp_path: Path) -> None:
    content = bytes(range(256)) * 4096
    (tmp_path / "a").write_bytes(content)
    folder, draw = Folder(str(tmp_path)), torch.Generator().manual_seed(0)
    starts = torch.randint(0, len(content), (300,), generator=draw).tolist()
    sizes = torch.randint(0, 3000, (300,), generator=draw).tolist()
    extents = [Extent(folder, "a", o, s) for o, s in zip(starts, sizes, strict=True)]
    ahead = ReadAhead(100_000)
    ahead.expect([*extents[:200], *extents[:50]])
    order = torch.randperm(300, generator=draw).tolist()
    for extent in [extents[i] for i in order] + extents[:50]:
        assert ahead.read(extent) == content[extent.offset : extent.offset + extent.size]
    assert ahead._held == 0 and not ahead._wanted and not ahead._waiting
    ahead.close()


def test_neighbours_are_joined_and_strangers_are_not(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(20 * GAP))
    (tmp_path / "b").write_bytes(bytes(100))
    folder, asked, gate = Folder(str(tmp_path)), [], threading.Event()
    reading = folder.storage.read_at

    def counted(name: str, offset: int, size: int) -> bytes:
        asked.append((name, offset, size))
        gate.wait(5)
        return reading(name, offset, size)

    folder.storage.read_at = counted  # type: ignore[method-assign]
    ahead = ReadAhead(1 << 20)
    near = [("a", 5000, 100), ("a", 0, 100), ("a", 5100 + GAP, 10), ("a", 9 * GAP, 5), ("b", 0, 9)]
    extents = [Extent(folder, *place) for place in near]
    ahead.expect(extents)
    gate.set()
    assert [len(ahead.read(extent)) for extent in extents] == [100, 100, 10, 5, 9]
    assert sorted(asked) == [("a", 0, 5110 + GAP), ("a", 9 * GAP, 5), ("b", 0, 9)]
    ahead.close()


SURVIVED: dict[str, list[int | str]] = {
    "503 twice": [503, 503],
    "429 once": [429],
    "a body cut short": ["cut"],
    "a connection reset": ["reset", "reset"],
    "fewer bytes than asked": ["short"],
    "other bytes than asked": ["elsewhere"],
    "garbled headers": ["garbled"],
    "all of it": [500, "reset", "cut"],
}


@pytest.mark.parametrize("ahead", [0, 16])
@pytest.mark.parametrize("what", SURVIVED)
def test_faults_that_pass_are_survived(
    server: RangeServer, url: str, what: str, ahead: int
) -> None:
    expected = epoch(stream(captions(server.root)))
    far = stream(captions(url), read_ahead=ahead)
    for name in ("train-000000.tar", "train-000002.tar"):
        server.faults[name] = list(SURVIVED[what])
    found = epoch(far)
    assert all(same(a, b) for a, b in zip(expected, found, strict=True)) and far.bad == []
    assert not any(server.faults.values())


@pytest.mark.parametrize("ahead", [0, 16])
@pytest.mark.parametrize("fault", [503, "cut", "reset", "short", "elsewhere", "garbled"])
def test_faults_that_stay_stop_the_run_and_are_named(
    server: RangeServer, url: str, fault: int | str, ahead: int
) -> None:
    server.faults["train-000001.tar"] = [fault] * 1000
    with pytest.raises(
        OSError, match=rf"127\.0\.0\.1:\d+/train-000001\.tar: not readable in {TRIES}"
    ):
        epoch(stream(captions(url), read_ahead=ahead, max_bad_samples=99))


def test_what_will_not_pass_is_not_tried_again(server: RangeServer, url: str) -> None:
    server.faults["train-000001.tar"] = [403] * 9
    with pytest.raises(PermissionError, match=r"127.*/train-000001\.tar: 403 Forbidden"):
        epoch(stream(captions(url, damage=True)))
    assert server.asked["train-000001.tar"] == 1
    server.ranged = False
    with pytest.raises(ValueError, match="the server sends whole files only"):
        epoch(stream(captions(url, damage=True)))


@pytest.mark.parametrize("ahead", [0, 32])
def test_missing_and_cut_shards_on_the_web_are_bad_samples(
    server: RangeServer, url: str, ahead: int
) -> None:
    (server.root / "train-000001.tar").unlink()
    data = (server.root / "train-000002.tar").read_bytes()
    (server.root / "train-000002.tar").write_bytes(data[: len(data) // 2])
    with pytest.raises(
        ValueError, match=r"train-000001\.tar is missing; shard train-000002\.tar has"
    ):
        Dataset.open(url)
    near = stream(captions(server.root, damage=True), max_bad_samples=60)
    far = stream(captions(url, damage=True), max_bad_samples=60, read_ahead=ahead)
    assert all(same(a, b) for a, b in zip(epoch(near), epoch(far), strict=True))
    assert sorted(near.bad) == sorted(far.bad) and len(far.bad) > 10
    with pytest.raises(TooManyBadSamples, match=r"train-00000[12]\.tar"):
        epoch(stream(captions(url, damage=True), max_bad_samples=5, read_ahead=ahead))


def test_redirects_are_followed_and_bad_addresses_refused(server: RangeServer, url: str) -> None:
    moved = Dataset.open(f"{url}/moved").split("train")
    assert moved.image_bytes(3) == Dataset.open(server.root).split("train").image_bytes(3)
    with pytest.raises(ValueError, match=r"a folder's URL has no \? and no #"):
        Dataset.open(f"{url}/?token=1")
    with pytest.raises(ValueError, match=r"http://host/x: keys and passwords belong"):
        Dataset.open("http://me:secret@host/x")
    with pytest.raises(ValueError, match=r"no prepared dataset: it has no dataset\.json"):
        Dataset.open(f"{url}/nowhere")
    with pytest.raises(ValueError, match="ftp://host/x: cannot be opened"):
        Dataset.open("ftp://host/x")


def test_a_server_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        OSError, match=rf"http://127\.0\.0\.1:9/x/dataset\.json: not readable in {TRIES}"
    ):
        Dataset.open("http://127.0.0.1:9/x")


def test_resuming_restarts_the_reading_ahead(server: RangeServer, url: str) -> None:
    whole = epoch(stream(captions(url), read_ahead=32))
    first = stream(captions(url), read_ahead=32)
    for _ in range(3):
        next(first)
    state = first.state_dict()
    first.close()
    second = stream(captions(url), read_ahead=7)
    second.load_state_dict(state)
    assert all(same(next(second), batch) for batch in whole[3:])
    second.load_state_dict(state)
    assert same(next(second), whole[3])
    second.close()


@pytest.mark.slow
def test_loaders_read_ahead_in_their_own_processes(server: RangeServer, url: str) -> None:
    """Two ranks with two loaders, then one with one: all from the web."""
    expected = epoch(stream(captions(server.root)))
    half = len(expected) // 2
    ranks = [
        stream(captions(url), read_ahead=20, loaders=2, rank=rank, size=2) for rank in range(2)
    ]
    found: list[tuple[int, int]] = []
    for _ in range(half):
        for rank in ranks:
            batch = next(rank)
            found += zip(batch["position"].tolist(), batch["id"].tolist(), strict=True)
    state = _summed_state(ranks)
    for rank in ranks:
        rank.close()
    one = stream(captions(url), read_ahead=20, loaders=1)
    one.load_state_dict(state)
    for batch in expected[half:]:
        assert same(next(one), batch)
    one.close()
    ids = [i for batch in expected[:half] for i in batch["id"].tolist()]
    assert found == list(enumerate(ids))


def _summed_state(ranks: list[Stream]) -> dict[str, Any]:
    parts: list[torch.Tensor] = []
    for rank in ranks:
        with pytest.raises(StopIteration):
            rank.state_dict(lambda mine: (parts.append(mine), next(iter(())))[1])
    total = torch.stack(parts).sum(0)
    return ranks[0].state_dict(lambda _: total)


def test_images_of_a_uri_travel_between_processes(url: str) -> None:
    source = Images(Dataset.open(url).split("val"), 16)
    copy = pickle.loads(pickle.dumps(source))
    assert torch.equal(copy[2]["image"], source[2]["image"])


def test_verify_reads_the_web_and_names_what_it_finds(server: RangeServer, url: str) -> None:
    assert verify(url, contents=True) == []
    assert prepare("verify", url) == 0
    split = Dataset.open(url).split("train")
    extent = split.extent(12)
    path = server.root / extent.name
    data = bytearray(path.read_bytes())
    data[extent.offset + 40] ^= 1
    path.write_bytes(data)
    (server.root / "train-000003.tar").unlink()
    problems = verify(url)
    assert f"{extent.name}: train012: the image's bytes changed" in problems
    assert "train-000003.tar: missing (10 samples, train030 to train039)" in problems
    assert verify(f"{url}/nowhere") == [f"{url}/nowhere/dataset.json is missing"]
