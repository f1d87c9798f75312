"""WebDataset shards of others: read where they lie, and given an index and a manifest.

A sample is KEY.jpg|jpeg|png|webp with KEY.json, KEY.txt, both, or neither, and KEY.cls perhaps.
Captions come from the JSON's `captions`, `caption` or `text` (a string, a list of strings or of
{"text", "style"}), else from the lines of the text; where these are there and empty, the sample
has an empty caption, which is found damaged when it is read. `cls` becomes the fact `class`, and
so does everything else in the JSON under its own name.

Shards belong to the split that their names tell (train-0000.tar), or else their folders
(val/data-0000.tar), or to --split; `validation` is `val`.
Keys that are counted anew in each shard get the shard's name before them.

  prepare.py index downloaded_shards
  prepare.py index img2dataset_output --split train
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from distgan.data.layout import VocabularyOptions
from distgan.data.manifest import MANIFEST, Manifest, ShardFile
from distgan.data.progress import Progress, silent
from distgan.data.samples import Caption
from distgan.data.shard_index import EXTENSIONS, SCHEMA, Row, row, shard_file
from distgan.data.shards import describe, text_file
from distgan.data.tars import Member, members
from distgan.data.texts import lines_of, read_lines

_USUAL = re.compile(r"(training|train|validation|valid|val|dev|testing|test)(\d*)")  # splits
_ALIASES = {"training": "train", "validation": "val", "valid": "val", "testing": "test"}
_CAPTIONS = ("captions", "caption", "text")  # in the JSON, the first that says something


class _Shard(NamedTuple):
    file: ShardFile
    rows: list[Row]


def index_dataset(
    root: Path,
    options: VocabularyOptions | None = None,
    *,
    split: str | None = None,
    jobs: int = 1,
    progress: Progress = silent,
) -> Manifest:
    """Give foreign shards under `root` an index and a manifest, in place.

    Shards belong to `split`, else to the one their names tell. Lines in `text/STYLE.txt` join as
    unpaired text. Errors name the shard and the key.
    """
    options = options or VocabularyOptions()
    if (root / MANIFEST).exists():
        raise ValueError(f"{root} has an index already ({MANIFEST}); remove it to index again")
    names = _shards(root)
    with ThreadPoolExecutor(jobs) as threads:

        def read(name: str) -> _Shard:
            its_split = split or split_of(name)
            rows = index_shard(root / name, name, its_split)
            return _Shard(shard_file(root, name, its_split, len(rows)), rows)

        shards = []
        try:
            for done, shard in enumerate(threads.map(read, names), 1):
                shards.append(shard)
                progress(done, len(names))
        except BaseException:
            threads.shutdown(cancel_futures=True)
            raise
    shards.sort(key=lambda shard: (shard.file.split, shard.file.name))
    _tell_apart(shards)
    table = pa.Table.from_pylist([r for shard in shards for r in shard.rows], schema=SCHEMA)
    paths = {path.stem: path for path in sorted((root / "text").glob("*.txt"))}
    texts = {style: read_lines(path) for style, path in paths.items()}
    files = tuple(text_file(root, style, texts[style]) for style in texts)
    source = {"name": "index", "layout": vars(options)}
    return describe(root, source, table, [s.file for s in shards], files, texts, options)


def index_shard(path: Path, name: str, split: str) -> list[Row]:
    """The rows of a shard in the common layout. Errors name the shard and the key."""
    found = _samples(path)
    with path.open("rb") as file:

        def read(member: Member) -> bytes:
            file.seek(member.offset)
            return file.read(member.size)

        rows = []
        for key, parts in found.items():
            image = next((parts[e] for e in EXTENSIONS if e in parts), None)
            if image is None:
                raise ValueError(
                    f"{path}: {key}: no image ({', '.join(EXTENSIONS)}) among its members: "
                    f"{', '.join(parts)}"
                )
            words, captions, facts = _captions(path, key, parts, read)
            words = words or (image, read(image))
            content = (image._replace(name=image.name.lower().replace("jpeg", "jpg")), read(image))
            rows.append(row(split, name, key, content, words, captions, facts))
    if not rows:
        raise ValueError(f"{path}: an empty shard: no samples")
    return rows


def split_of(name: str) -> str:
    """The split a shard belongs to by its name: `val-000012.tar` and `val/12.tar` are of val.

    So are `coco-val-12.tar`, `validation-12.tar` and `val/data-12.tar`: the nearest name of a
    usual split counts, the shard's before its folders'. Without any, a shard's name is a
    split's own, and so is one that tells several.
    """
    path = Path(name)
    stem = re.sub(r"[-_.]*\d*$", "", path.name.removesuffix(".tar"))
    for place in (stem, *reversed(path.parent.parts)):
        found = [_USUAL.fullmatch(part) for part in re.split(r"[-_.]", place.lower())]
        usual = [_ALIASES.get(each[1], each[1]) + each[2] for each in found if each]
        if usual:
            return usual[0] if len(usual) == 1 else stem or path.parent.name
    return stem or path.parent.name or "train"


def _shards(root: Path) -> list[str]:
    names = sorted(str(path.relative_to(root)) for path in root.rglob("*.tar"))
    if names:
        return names
    packed = sorted(p.name for e in ("tar.gz", "tgz") for p in root.rglob(f"*.{e}"))
    hint = f"; {packed[0]} is compressed and cannot be read by offset: unpack it to a .tar"
    raise ValueError(f"{root}: no shards (*.tar) found{hint if packed else ''}")


def _samples(path: Path) -> dict[str, dict[str, Member]]:
    """The members of each sample by their extension, in the order of the tar."""
    found: dict[str, dict[str, Member]] = {}
    for member in members(path):
        folder, _, base = member.name.rpartition("/")
        if base.startswith("."):
            continue  # ._1.jpg and .DS_Store: macOS's own
        stem, _, extension = base.partition(".")
        key = f"{folder}/{stem}".strip("./") if folder else stem
        parts = found.setdefault(key, {})
        extension = extension.lower().replace("jpeg", "jpg")
        if extension in parts:
            raise ValueError(f"{path}: {key}: two members {key}.{extension}")
        parts[extension] = member
    return found


def _tell_apart(shards: Iterable[_Shard]) -> None:
    """Where shards count their keys anew, put each shard's name before them.

    ValueError when a sample is there twice, image and all.
    """
    rows = [row for shard in shards for row in shard.rows]
    first: dict[tuple[str, str], Row] = {}
    repeated = False
    for each in rows:
        other = first.setdefault((each["split"], each["key"]), each)
        if other is each:
            continue
        repeated = True
        if all(other[name] == each[name] for name in ("image_size", "image_crc32")):
            raise ValueError(
                f"{other['shard']} and {each['shard']} both hold {each['key']}, with the same "
                "image; is one a copy of the other?"
            )
    if repeated:
        for each in rows:
            each["key"] = f"{prefix_of(each['shard'])}{each['key']}"


def prefix_of(shard: str) -> str:
    """What keys of a shard begin with where shards count theirs anew."""
    return f"{shard.removesuffix('.tar')}:"


def _captions(
    path: Path, key: str, parts: Mapping[str, Member], read: Callable[[Member], bytes]
) -> tuple[tuple[Member, bytes] | None, list[Caption], dict[str, Any]]:
    """The member with the captions and its contents, the captions, and all other facts."""
    facts: dict[str, Any] = {}
    words: tuple[Member, bytes] | None = None
    captions: list[Caption] = []
    if "json" in parts:
        words = parts["json"], read(parts["json"])
        captions, facts = _from_json(f"{path}: {key}.json", words[1])
    if "txt" in parts and not _say_something(captions):
        words = parts["txt"], read(parts["txt"])
        captions = _from_text(f"{path}: {key}.txt", words[1]) or [Caption("")]
    if "cls" in parts:
        facts["class"] = _class(f"{path}: {key}.cls", read(parts["cls"]))
    return words, captions, facts


def _from_json(where: str, content: bytes) -> tuple[list[Caption], dict[str, Any]]:
    try:
        facts = json.loads(content)
        captions: list[Caption] = []
        for name in _CAPTIONS:
            if name == "text" and not isinstance(facts.get(name), (str, list)):
                continue  # a fact of that name
            if name in facts and not _say_something(captions):
                captions = _listed(facts.pop(name)) or captions
        json.dumps(facts, ensure_ascii=False).encode()  # half a surrogate pair is a ValueError
    except (ValueError, AttributeError, TypeError, KeyError, RecursionError) as error:
        raise ValueError(f"{where}: not captions and facts: {error!r}") from error
    return captions, facts


def _say_something(captions: Iterable[Caption]) -> bool:
    return any(caption.text.strip() for caption in captions)


def _listed(given: Any) -> list[Caption]:
    """ValueError, TypeError or KeyError for what is no caption and no list of them."""
    return [_caption(item) for item in (given if isinstance(given, list) else [given])]


def _from_text(where: str, content: bytes) -> list[Caption]:
    try:
        lines = lines_of(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise ValueError(f"{where}: not UTF-8: {error}") from error
    return [Caption(s.strip()) for s in lines if s.strip()]


def _class(where: str, content: bytes) -> int:
    try:
        return int(content)
    except ValueError as error:
        raise ValueError(f"{where}: not the number of a class: {content[:40]!r}") from error


def _caption(item: Any) -> Caption:
    text, style = (item["text"], item.get("style")) if isinstance(item, dict) else (item, None)
    if not isinstance(text, str | None) or not isinstance(style, str | None):
        raise TypeError(f"a caption and its style are texts, not {text!r}, {style!r}")
    for each in (text or "", style or ""):
        each.encode()  # half a surrogate pair is a UnicodeEncodeError, and that a ValueError
    return Caption(text or "", style)
