"""A dataset on an S3-compatible store: moto's server, on loopback."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import pytest
import torch

from distgan.data.damage import TooManyBadSamples
from distgan.data.dataset import Dataset
from distgan.data.sources import CaptionedImages
from distgan.data.stream import Stream
from distgan.data.verify import verify

pytestmark = pytest.mark.slow  # the server alone takes seconds to start

BUCKET = "data-sets"


@pytest.fixture(scope="module")
def store() -> Iterator[Any]:
    """A client of the store; its address is in the environment, and so are its keys."""
    moto = pytest.importorskip("moto.server")
    patch = pytest.MonkeyPatch()
    for name, value in (
        ("AWS_ACCESS_KEY_ID", "key"),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
        ("AWS_DEFAULT_REGION", "us-east-1"),
        ("AWS_EC2_METADATA_DISABLED", "true"),
    ):
        patch.setenv(name, value)
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    import boto3  # comes with moto

    forkserver._forkserver._stop()  # one that earlier tests started has not this environment
    client = boto3.client("s3")
    client.create_bucket(Bucket=BUCKET)
    yield client
    forkserver._forkserver._stop()
    server.stop()
    patch.undo()


def upload(client: Any, root: Path, name: str) -> str:
    for path in sorted(root.rglob("*")):
        if path.is_file():
            client.upload_file(str(path), BUCKET, f"{name}/{path.relative_to(root)}")
    return f"s3://{BUCKET}/{name}"


def stream(path: str | Path, **options: Any) -> Stream:
    dataset = Dataset.open(path, allow_damage=options.get("max_bad_samples", 0) > 0)
    source = CaptionedImages(dataset.split("train"), dataset.vocabulary, 6, image_size=16)
    defaults: dict[str, Any] = {"name": "s", "rows": 9, "seed": 0, "block": 16, "window": 64}
    return Stream(source, **{**defaults, **options})


@pytest.mark.parametrize("options", [{}, {"read_ahead": 30}, {"read_ahead": 30, "loaders": 2}])
def test_the_store_gives_what_the_disk_gives(
    store: Any, written: Callable[..., Path], options: dict[str, Any]
) -> None:
    root = written()
    uri = upload(store, root, f"sound{len(options)}")
    near, far = stream(root), stream(uri, **options)
    for _ in range(9):
        a, b = next(near), next(far)
        assert a["key"] == b["key"]
        assert all(torch.equal(a[name], b[name]) for name in ("image", "words", "position"))
    far.close()
    assert verify(uri, contents=True) == []


def test_the_address_may_stand_in_the_uri(
    store: Any, written: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = upload(store, written(), "by-address")
    host = os.environ["AWS_ENDPOINT_URL"].removeprefix("http://")
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    dataset = Dataset.open(f"{uri}?endpoint_override={host}&scheme=http&region=us-east-1")
    assert dataset.split("train").image_bytes(0)
    assert dataset.folder.place == f"{uri} (at {host})"


def test_damage_on_the_store_is_named(store: Any, written: Callable[..., Path]) -> None:
    root = written()
    uri = upload(store, root, "damaged")
    shard = (root / "train-000001.tar").read_bytes()
    store.put_object(Bucket=BUCKET, Key="damaged/train-000001.tar", Body=shard[: len(shard) // 2])
    store.delete_object(Bucket=BUCKET, Key="damaged/train-000002.tar")
    with pytest.raises(ValueError, match=r"train-000001\.tar has .*train-000002\.tar is missing"):
        Dataset.open(uri)
    problems = "\n".join(verify(uri))
    assert "train-000001.tar: train019: cut" in problems
    assert "train-000002.tar: missing (3 samples" in problems
    tolerant = stream(uri, max_bad_samples=40, read_ahead=30)
    for _ in range(6):
        next(tolerant)
    assert any(what.startswith("train-000002.tar: train02") for what in tolerant.bad)
    tolerant.close()
    with pytest.raises(TooManyBadSamples, match=r"train-00000[12]\.tar: train0"):
        tight = stream(uri, max_bad_samples=1)
        for _ in range(6):
            next(tight)
    with pytest.raises(ValueError, match=rf"no prepared dataset|{BUCKET}/nothing.* does not exist"):
        Dataset.open(f"s3://{BUCKET}/nothing")


def test_a_store_that_is_not_there_is_named(
    store: Any, monkeypatch: pytest.MonkeyPatch, written: Callable[..., Path]
) -> None:
    monkeypatch.setattr("distgan.data.folder._READ_WAITS", ())
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(
        OSError, match=rf"s3://{BUCKET}/x \(at http://127\.0\.0\.1:9\)/dataset\.json"
    ):
        Dataset.open(f"s3://{BUCKET}/x")
