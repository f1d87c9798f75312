"""Writes a dataset: WebDataset tars, their index, texts and manifest, atomically and restartably.

Everything is written into OUT.partial, shard by shard, each complete or absent; the last step
renames it to OUT. A second call takes up what is there. The same samples give the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import shutil
import signal
import tarfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from distgan.data.importers.options import option
from distgan.data.manifest import MANIFEST, Manifest, ShardFile, TextFile, parse_manifest
from distgan.data.manifest import file_sha256 as sha256_of
from distgan.data.samples import Sample
from distgan.data.shard_index import (
    EXTENSIONS,
    FACTUAL,
    SCHEMA,
    Row,
    check_keys,
    count_captions,
    index_path,
    index_shard,
    is_unseen,
    row,
    shard_file,
    split_of,
    write_index,
    write_manifest,
)
from distgan.data.tars import add
from distgan.data.texts import read_lines, words_of

_ROWS = "rows"  # folder of finished shards' index rows within OUT.partial
_PLAN = "plan.json"


class Importer(Protocol):
    """Where samples come from. Picklable: shards are written by several processes."""

    @property
    def splits(self) -> Sequence[str]: ...
    def num_samples(self, split: str, /) -> int: ...
    def sample(self, split: str, i: int, /) -> Sample: ...
    def texts(self) -> Mapping[str, Sequence[str]]:
        """Lines of a style that belong to no image."""
        ...


@dataclass(frozen=True, kw_only=True)
class WriteOptions:
    """How a dataset is laid out. All but `jobs` are part of what the dataset is."""

    shard_samples: int = option("samples of a shard", default=1000)
    min_count: int = option("occurrences a word needs to join the vocabulary", default=1)
    max_words: int | None = option("words of the vocabulary (default: no limit)", default=None)
    jobs: int = option("processes", default=1)

    def __post_init__(self) -> None:
        for name in ("shard_samples", "min_count", "jobs"):
            if vars(self)[name] < 1:
                raise ValueError(f"{name} must be at least 1, got {vars(self)[name]}")


class Piece(NamedTuple):
    """One shard to be written: samples [first, end) of a split."""

    split: str
    number: int
    first: int
    end: int

    @property
    def name(self) -> str:
        return f"{self.split}-{self.number:06d}.tar"


Progress = Callable[[int, int], None]
"""Told the samples written so far, and how many there will be."""


def write_dataset(
    importer: Importer,
    source: dict[str, Any],
    out: Path,
    options: WriteOptions,
    progress: Progress = lambda done, total: None,
) -> bool:
    """Write everything the importer has to `out`; False when `out` holds just that already.

    `source` (JSON) names the importer and all that its samples depend on. ValueError when `out`
    exists and is anything else, when a split is empty, when a caption has no words.
    """
    source = json.loads(json.dumps(source | {"layout": _layout(options)}))
    if already_there(out, source):
        return False
    pieces = _pieces(importer, options.shard_samples)
    partial = out.with_name(out.name + ".partial")
    _start_or_continue(partial, source)
    total = sum(piece.end - piece.first for piece in pieces)
    done = 0
    progress(done, total)
    for piece in _write_pieces(importer, partial, pieces, options.jobs):
        done += piece.end - piece.first
        progress(done, total)
    _finish(importer, source, partial, pieces, options)
    os.replace(partial, out)
    return True


def index_dataset(root: Path, *, min_count: int = 1, max_words: int | None = None) -> Manifest:
    """Give foreign shards under `root` an index and a manifest, in place.

    Lines in `text/STYLE.txt` join as unpaired text. Errors name the shard and the key.
    """
    if (root / MANIFEST).exists():
        raise ValueError(f"{root} has an index already ({MANIFEST}); remove it to index again")
    names = sorted(str(path.relative_to(root)) for path in root.rglob("*.tar"))
    if not names:
        raise ValueError(f"{root}: no shards (*.tar) found")
    rows = {name: index_shard(root / name, name, split_of(name)) for name in names}
    shards = [shard_file(root, name, split_of(name), len(rows[name])) for name in names]
    shards.sort(key=lambda shard: (shard.split, shard.name))
    table = pa.Table.from_pylist([r for s in shards for r in rows[s.name]], schema=SCHEMA)
    paths = {path.stem: path for path in sorted((root / "text").glob("*.txt"))}
    texts = {style: read_lines(path) for style, path in paths.items()}
    files = tuple(_text_file(root, style, texts[style]) for style in texts)
    options = WriteOptions(min_count=min_count, max_words=max_words)
    source = {"name": "index", "layout": {"min_count": min_count, "max_words": max_words}}
    return _describe(root, source, table, shards, files, texts, options)


def already_there(out: Path, source: dict[str, Any]) -> bool:
    """Is `out` a finished dataset made from just this source? ValueError if it is anything else."""
    if not out.exists():
        return False
    if not (out / MANIFEST).is_file():
        if out.is_dir() and not any(out.iterdir()):
            return False
        raise ValueError(f"{out} exists and is no dataset; choose another --out")
    present = parse_manifest((out / MANIFEST).read_text("utf-8"), str(out / MANIFEST)).source
    if present != source:
        differing = sorted(_differences(present, source))
        raise ValueError(
            f"{out} holds another dataset (differs in {', '.join(differing)}); "
            "choose another --out, or remove it first"
        )
    return True


def write_shard(path: Path, split: str, samples: Iterable[Sample]) -> list[Row]:
    """Write one tar of KEY.EXTENSION and KEY.json, atomically; returns its rows of the index."""
    temporary = path.with_suffix(".tmp")
    rows = []
    with temporary.open("wb") as file:
        with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
            for sample in samples:
                _check(sample)
                image = add(tar, f"{sample.key}.{sample.extension}", sample.image)
                content = _json(sample)
                words = add(tar, f"{sample.key}.json", content)
                where = (split, path.name, sample.key)
                pair = (image, sample.image), (words, content)
                rows.append(row(*where, *pair, sample.captions, sample.facts))
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    return rows


def vocabulary_words(
    texts: Iterable[str], min_count: int = 1, max_words: int | None = None
) -> list[str]:
    """Words that occur at least `min_count` times, most frequent first, then by the alphabet."""
    counts = Counter(word for text in texts for word in words_of(text))
    kept = sorted((-n, word) for word, n in counts.items() if n >= min_count)
    return [word for _, word in kept][:max_words]


def _layout(options: WriteOptions) -> dict[str, Any]:
    return {name: value for name, value in vars(options).items() if name != "jobs"}


def _pieces(importer: Importer, shard_samples: int) -> list[Piece]:
    pieces = []
    for split in importer.splits:
        count = importer.num_samples(split)
        if count == 0:
            raise ValueError(f"split {split} would be empty: no samples for it were found")
        for number, first in enumerate(range(0, count, shard_samples)):
            pieces.append(Piece(split, number, first, min(first + shard_samples, count)))
    return pieces


def _start_or_continue(partial: Path, source: dict[str, Any]) -> None:
    """Keep the finished shards of an interrupted call for the same source, else start anew."""
    plan = json.dumps(source, sort_keys=True)
    same = (partial / _PLAN).is_file() and (partial / _PLAN).read_text("utf-8") == plan
    if partial.exists() and not same:
        shutil.rmtree(partial)
    (partial / _ROWS).mkdir(parents=True, exist_ok=True)
    (partial / _PLAN).write_text(plan, encoding="utf-8")


def _write_pieces(
    importer: Importer, partial: Path, pieces: Sequence[Piece], jobs: int
) -> Iterator[Piece]:
    """Write what is missing, in several processes if asked; yields the pieces, in order."""
    with ExitStack() as stack:
        if jobs == 1:
            _receive(importer)
            written: Iterable[None] = map(_write_piece, [partial] * len(pieces), pieces)
        else:
            context = multiprocessing.get_context("spawn")
            pool = ProcessPoolExecutor(jobs, context, _receive_quietly, (importer,))
            stack.callback(pool.shutdown, cancel_futures=True)
            written = pool.map(_write_piece, [partial] * len(pieces), pieces)
        for piece, _ in zip(pieces, written, strict=True):
            yield piece


_importer: list[Importer] = []  # of this writing process: sent once, not with every piece


def _receive(importer: Importer) -> None:
    _importer[:] = [importer]


def _receive_quietly(importer: Importer) -> None:
    """In a process of the pool: Ctrl-C is for the first process, which then stops this one."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _receive(importer)


def _write_piece(partial: Path, piece: Piece) -> None:
    rows_path = partial / _ROWS / f"{piece.name}.parquet"
    if rows_path.exists():
        return
    samples = (_importer[0].sample(piece.split, i) for i in range(piece.first, piece.end))
    rows = write_shard(partial / piece.name, piece.split, samples)
    temporary = rows_path.with_suffix(".tmp")
    write_index(pa.Table.from_pylist(rows, schema=SCHEMA), temporary)
    os.replace(temporary, rows_path)


def _finish(
    importer: Importer,
    source: dict[str, Any],
    partial: Path,
    pieces: Sequence[Piece],
    options: WriteOptions,
) -> None:
    tables = [pq.read_table(partial / _ROWS / f"{p.name}.parquet", schema=SCHEMA) for p in pieces]
    shards = [shard_file(partial, p.name, p.split, p.end - p.first) for p in pieces]
    texts = {style: list(lines) for style, lines in sorted(importer.texts().items())}
    files = tuple(_write_text(partial, style, lines) for style, lines in texts.items())
    _describe(partial, source, pa.concat_tables(tables), shards, files, texts, options)
    shutil.rmtree(partial / _ROWS)
    (partial / _PLAN).unlink()


def _describe(
    root: Path,
    source: dict[str, Any],
    table: pa.Table,
    shards: Sequence[ShardFile],
    files: tuple[TextFile, ...],
    texts: Mapping[str, Sequence[str]],
    options: WriteOptions,
) -> Manifest:
    """Write the index and the manifest of the shards and texts under `root`."""
    check_keys(table)
    captions = count_captions(table)
    styles = {style for counts in captions.values() for style in counts} | set(texts)
    temporary = index_path(root).with_suffix(".tmp")
    write_index(table, temporary)
    os.replace(temporary, index_path(root))
    manifest = Manifest(
        source=source,
        splits=dict(Counter(table["split"].to_pylist())),
        captions=captions,
        shards=tuple(shards),
        styles=tuple(sorted(styles - {FACTUAL})),
        words=tuple(
            vocabulary_words(_training_texts(table, texts), options.min_count, options.max_words)
        ),
        index_sha256=sha256_of(index_path(root)),
        texts=files,
    )
    write_manifest(root, manifest)
    return manifest


def _training_texts(table: pa.Table, texts: Mapping[str, Sequence[str]]) -> Iterator[str]:
    columns = table["split"].to_pylist(), table["captions"].to_pylist()
    for split, captions in zip(*columns, strict=True):
        if not is_unseen(split):
            yield from (caption["text"] for caption in captions)
    for lines in texts.values():
        yield from lines


def _write_text(root: Path, style: str, lines: Sequence[str]) -> TextFile:
    for number, line in enumerate(lines, 1):
        if not words_of(line) or len(line.splitlines()) != 1:
            raise ValueError(f"text of style {style}: line {number} is no line of words: {line!r}")
    (root / "text").mkdir(exist_ok=True)
    text = "".join(f"{line}\n" for line in lines)
    (root / "text" / f"{style}.txt").write_text(text, encoding="utf-8", newline="\n")
    return _text_file(root, style, lines)


def _text_file(root: Path, style: str, lines: Sequence[str]) -> TextFile:
    path = root / "text" / f"{style}.txt"
    return TextFile(style, f"text/{style}.txt", len(lines), path.stat().st_size, sha256_of(path))


def _check(sample: Sample) -> None:
    key = sample.key
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
    return json.dumps({"captions": captions, **sample.facts}, ensure_ascii=False).encode()


def _differences(a: Any, b: Any, prefix: str = "") -> Iterator[str]:
    if isinstance(a, dict) and isinstance(b, dict):
        for key in sorted(a.keys() | b.keys()):
            yield from _differences(a.get(key), b.get(key), f"{prefix}.{key}".strip("."))
    elif a != b:
        yield f"{prefix}: {_short(a)} there, {_short(b)} asked for"


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else hashlib.sha256(text.encode()).hexdigest()[:12]
