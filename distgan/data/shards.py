"""Writes a dataset: WebDataset tars, their index, texts and manifest, atomically and restartably.

Everything is written into OUT.partial, shard by shard, each complete or absent; the last step
renames it to OUT. A second call takes up what is there. The same samples give the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from distgan.data.layout import LaidOut, VocabularyOptions, WriteOptions
from distgan.data.manifest import MANIFEST, Manifest, ShardFile, TextFile, parse_manifest
from distgan.data.manifest import file_sha256 as sha256_of
from distgan.data.pieces import (
    ROWS,
    Importer,
    Piece,
    WritePieces,
    in_processes,
    is_written,
    plan_pieces,
    remove_temporaries,
    rows_path,
)
from distgan.data.progress import Progress, silent
from distgan.data.shard_index import (
    FACTUAL,
    check_keys,
    count_captions,
    index_path,
    is_unseen,
    read_index,
    shard_file,
    write_index,
    write_manifest,
)
from distgan.data.texts import words_of

__all__ = ["Importer", "WriteOptions", "write_dataset"]

_PLAN = "plan.json"


def write_dataset(
    importer: Importer,
    source: dict[str, Any],
    out: Path,
    options: WriteOptions,
    progress: Progress = silent,
    write_pieces: WritePieces | None = None,
) -> bool:
    """Write everything the importer has to `out`; False when `out` holds just that already.

    `source` (JSON) names the importer and all that its samples depend on. `write_pieces` writes
    the shards, by default `options.jobs` processes do. ValueError when `out` exists and is
    anything else, when a split is empty, when a caption has no words.
    """
    source = json.loads(json.dumps(source | {"layout": options.told()}))
    if already_there(out, source):
        return False
    laid_out = LaidOut(importer, options)
    pieces = plan_pieces(laid_out, laid_out.shard_samples())
    partial = out.with_name(out.name + ".partial")
    if _is_finished(partial, source):
        _move(partial, out)
        return True
    _start_or_continue(partial, source)
    missing = [piece for piece in pieces if not is_written(partial, piece)]
    total = sum(piece.samples for piece in pieces)
    done = total - sum(piece.samples for piece in missing)
    progress(done, total)
    if missing:
        write = write_pieces or in_processes(options.jobs)
        for piece in write(laid_out, partial, missing):
            done += piece.samples
            progress(done, total)
    _finish(importer, source, partial, pieces, options)
    _move(partial, out)
    return True


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


def vocabulary_words(
    texts: Iterable[str], min_count: int = 1, max_words: int | None = None
) -> list[str]:
    """Words that occur at least `min_count` times, most frequent first, then by the alphabet."""
    return _most_frequent(_count_words(texts), min_count, max_words)


def _start_or_continue(partial: Path, source: dict[str, Any]) -> None:
    """Keep the finished shards of an interrupted call for the same source, else start anew."""
    plan = json.dumps(source, sort_keys=True)
    same = (partial / _PLAN).is_file() and (partial / _PLAN).read_text("utf-8") == plan
    if partial.exists() and not same:
        shutil.rmtree(partial)
    (partial / ROWS).mkdir(parents=True, exist_ok=True)
    (partial / _PLAN).write_text(plan, encoding="utf-8")


def _finish(
    importer: Importer,
    source: dict[str, Any],
    partial: Path,
    pieces: Sequence[Piece],
    options: WriteOptions,
) -> None:
    tables = [read_index(rows_path(partial, piece).read_bytes()) for piece in pieces]
    shards = [shard_file(partial, p.name, p.split, p.samples) for p in pieces]
    texts = {style: list(lines) for style, lines in sorted(importer.texts().items())}
    files = tuple(_write_text(partial, style, lines) for style, lines in texts.items())
    describe(partial, source, pa.concat_tables(tables), shards, files, texts, options)


def _is_finished(partial: Path, source: dict[str, Any]) -> bool:
    """Is everything written, the manifest last, and only the move is missing?"""
    try:
        text = (partial / MANIFEST).read_text("utf-8")
        return parse_manifest(text, str(partial / MANIFEST)).source == source
    except (FileNotFoundError, ValueError):
        return False


def _move(partial: Path, out: Path) -> None:
    if (partial / ROWS).exists():
        shutil.rmtree(partial / ROWS)
    (partial / _PLAN).unlink(missing_ok=True)
    remove_temporaries(partial)
    os.replace(partial, out)


def describe(
    root: Path,
    source: dict[str, Any],
    table: pa.Table,
    shards: Sequence[ShardFile],
    files: tuple[TextFile, ...],
    texts: Mapping[str, Sequence[str]],
    options: VocabularyOptions,
) -> Manifest:
    """Write the index and the manifest of the shards and texts under `root`."""
    check_keys(table)
    captions = count_captions(table)
    styles = {style for counts in captions.values() for style in counts} | set(texts)
    temporary = index_path(root).with_suffix(".tmp")
    write_index(table, temporary)
    os.replace(temporary, index_path(root))
    said = {split: _count_words(captions) for split, captions in _texts_by_split(table).items()}
    learned = sum((n for split, n in said.items() if not is_unseen(split)), Counter[str]())
    learned += _count_words(line for lines in texts.values() for line in lines)
    words = _most_frequent(learned, options.min_count, options.max_words)
    manifest = Manifest(
        source=source,
        splits=dict(Counter(table["split"].to_pylist())),
        captions=captions,
        shards=tuple(shards),
        styles=tuple(sorted(styles - {FACTUAL})),
        words=tuple(words),
        index_sha256=sha256_of(index_path(root)),
        texts=files,
        said={split: counts.total() for split, counts in said.items()},
        unknown={split: _total_beside(counts, set(words)) for split, counts in said.items()},
    )
    write_manifest(root, manifest)
    return manifest


def _texts_by_split(table: pa.Table) -> dict[str, list[str]]:
    texts: dict[str, list[str]] = {}
    columns = table["split"].to_pylist(), table["captions"].to_pylist()
    for split, captions in zip(*columns, strict=True):
        texts.setdefault(split, []).extend(caption["text"] for caption in captions)
    return texts


def _count_words(texts: Iterable[str]) -> Counter[str]:
    return Counter(word for text in texts for word in words_of(text))


def _most_frequent(counts: Counter[str], min_count: int, max_words: int | None) -> list[str]:
    kept = sorted((-n, word) for word, n in counts.items() if n >= min_count)
    return [word for _, word in kept][:max_words]


def _total_beside(counts: Counter[str], words: set[str]) -> int:
    return sum(n for word, n in counts.items() if word not in words)


def _write_text(root: Path, style: str, lines: Sequence[str]) -> TextFile:
    for number, line in enumerate(lines, 1):
        if not words_of(line) or len(line.splitlines()) != 1:
            raise ValueError(f"text of style {style}: line {number} is no line of words: {line!r}")
    (root / "text").mkdir(exist_ok=True)
    text = "".join(f"{line}\n" for line in lines)
    (root / "text" / f"{style}.txt").write_text(text, encoding="utf-8", newline="\n")
    return text_file(root, style, lines)


def text_file(root: Path, style: str, lines: Sequence[str]) -> TextFile:
    path = root / "text" / f"{style}.txt"
    return TextFile(style, f"text/{style}.txt", len(lines), path.stat().st_size, sha256_of(path))


def _differences(a: Any, b: Any, prefix: str = "") -> Iterator[str]:
    if isinstance(a, dict) and isinstance(b, dict):
        for key in sorted(a.keys() | b.keys()):
            yield from _differences(a.get(key), b.get(key), f"{prefix}.{key}".strip("."))
    elif a != b:
        yield f"{prefix}: {_short(a)} there, {_short(b)} asked for"


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else hashlib.sha256(text.encode()).hexdigest()[:12]
