"""A dataset in the making, a shard at a time: pieces that any process may write, in any order."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import tarfile
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from distgan.data.samples import Sample
from distgan.data.shard_index import EXTENSIONS, FACTUAL, SCHEMA, Row, row, write_index
from distgan.data.tars import add
from distgan.data.texts import is_unicode, words_of

ROWS = "rows"  # folder of finished shards' index rows within OUT.partial


class Importer(Protocol):
    """Where samples come from. Picklable: shards are written by several processes."""

    @property
    def splits(self) -> Sequence[str]: ...
    def num_samples(self, split: str, /) -> int: ...
    def sample(self, split: str, i: int, /) -> Sample: ...
    def texts(self) -> Mapping[str, Sequence[str]]:
        """Lines of a style that belong to no image."""
        ...


class Piece(NamedTuple):
    """One shard to be written: samples [first, end) of a split."""

    split: str
    number: int
    first: int
    end: int

    @property
    def name(self) -> str:
        return f"{self.split}-{self.number:06d}.tar"

    @property
    def samples(self) -> int:
        return self.end - self.first


WritePieces = Callable[[Importer, Path, Sequence[Piece]], Iterator[Piece]]
"""Writes pieces into a folder and yields each once it is complete, in any order."""


def plan_pieces(importer: Importer, shard_samples: int) -> list[Piece]:
    """The shards of all splits. ValueError for a split without samples."""
    pieces = []
    for split in importer.splits:
        count = importer.num_samples(split)
        if count == 0:
            raise ValueError(f"split {split} would be empty: no samples for it were found")
        for number, first in enumerate(range(0, count, shard_samples)):
            pieces.append(Piece(split, number, first, min(first + shard_samples, count)))
    return pieces


def rows_path(folder: Path, piece: Piece) -> Path:
    """Where the rows of a piece lie until all pieces are there."""
    return folder / ROWS / f"{piece.name}.parquet"


def is_written(folder: Path, piece: Piece) -> bool:
    """Is the piece complete? Its rows come after its tar, each in one stroke."""
    try:
        rows = pq.read_metadata(rows_path(folder, piece)).num_rows
    except (OSError, pa.ArrowInvalid):
        return False
    return rows == piece.samples and (folder / piece.name).is_file()


def write_piece(importer: Importer, folder: Path, piece: Piece) -> None:
    """Write a shard and its rows. ValueError naming a sample that no shard can hold."""
    samples = (importer.sample(piece.split, i) for i in range(piece.first, piece.end))
    rows = write_shard(folder / piece.name, piece.split, samples)
    path = rows_path(folder, piece)
    temporary = _temporary(path)
    write_index(pa.Table.from_pylist(rows, schema=SCHEMA), temporary)
    os.replace(temporary, path)


def write_shard(path: Path, split: str, samples: Iterable[Sample]) -> list[Row]:
    """Write one tar of KEY.EXTENSION and KEY.json, atomically; returns its rows of the index."""
    temporary = _temporary(path)
    rows = []
    try:
        with temporary.open("wb") as file:
            with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
                for sample in samples:
                    rows.append(_add_sample(tar, split, path.name, sample))
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return rows


def one_by_one(importer: Importer, folder: Path, pieces: Sequence[Piece]) -> Iterator[Piece]:
    """Write pieces in this process."""
    for piece in pieces:
        write_piece(importer, folder, piece)
        yield piece


def in_processes(jobs: int) -> WritePieces:
    """Writes pieces in so many processes of this machine."""

    def write(importer: Importer, folder: Path, pieces: Sequence[Piece]) -> Iterator[Piece]:
        context = multiprocessing.get_context("spawn")
        pool = ProcessPoolExecutor(min(jobs, len(pieces)), context, _receive, (importer,))
        try:
            futures = {pool.submit(_write_received, folder, piece): piece for piece in pieces}
            for future in as_completed(futures):
                future.result()
                yield futures[future]
        except BrokenProcessPool as error:
            raise ChildProcessError(
                f"a writing process died, of too little memory perhaps: fewer than jobs={jobs} "
                "need less; the same command goes on from here"
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)

    return one_by_one if jobs == 1 else write


_received: list[Importer] = []  # by this writing process: sent once, not with every piece


def _receive(importer: Importer) -> None:
    follow_parent()
    _received[:] = [importer]


def follow_parent() -> None:
    """In a process of a pool: Ctrl-C is for the first process; when that ends, so does this."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_die_with_parent, daemon=True).start()


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _write_received(folder: Path, piece: Piece) -> None:
    write_piece(_received[0], folder, piece)


def _temporary(path: Path) -> Path:
    """A name of its own: a writer that was taken for dead must not meet its successor."""
    return path.with_name(f"{path.name}.{uuid.uuid4().hex}.tmp")


def remove_temporaries(folder: Path) -> None:
    """Remove what interrupted writers left."""
    for path in folder.rglob("*.tmp"):
        with suppress(FileNotFoundError):
            path.unlink()


def _add_sample(tar: tarfile.TarFile, split: str, shard: str, sample: Sample) -> Row:
    _check(sample)
    image = add(tar, f"{sample.key}.{sample.extension}", sample.image)
    content = _json(sample)
    words = add(tar, f"{sample.key}.json", content)
    pair = (image, sample.image), (words, content)
    return row(split, shard, sample.key, *pair, sample.captions, sample.facts)


def _check(sample: Sample) -> None:
    key = sample.key
    if not is_unicode(key):
        raise ValueError(f"key {key!a} is not UTF-8")
    if not key or any(c in key for c in "./\\\n") or key != key.strip():
        raise ValueError(f"key {key!r}: keys are file names without dots and slashes")
    if sample.extension not in EXTENSIONS:
        raise ValueError(f"{key}: extension {sample.extension!r} is none of {EXTENSIONS}")
    if "captions" in sample.facts:
        raise ValueError(f"{key}: facts may not hold `captions`")
    for caption in sample.captions:
        if not words_of(caption.text):
            raise ValueError(f"{key}: a caption has no words: {caption.text!r}")
        if caption.style == FACTUAL:
            raise ValueError(f"{key}: style {FACTUAL!r} is the name of captions without a style")


def _json(sample: Sample) -> bytes:
    captions = [{"text": caption.text, "style": caption.style} for caption in sample.captions]
    try:
        return json.dumps({"captions": captions, **sample.facts}, ensure_ascii=False).encode()
    except (UnicodeEncodeError, TypeError) as error:
        raise ValueError(
            f"{sample.key}: JSON cannot hold its captions and facts: {error}"
        ) from error
