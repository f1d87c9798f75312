"""Kinds of damage, one by one: where each is caught, what is said, and that a run survives it.

in foreign tars            `index_dataset` names the shard and the member
in sound bytes             `verify --contents` names shard and key, a stream puts another there
to a prepared dataset      `verify` names it; opening refuses, or a stream puts another there
harmless                   read like any other
"""

from __future__ import annotations

import gzip
import io
import json
import re
import struct
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from damaging import flipped, stream, survived
from made_up_samples import picture
from PIL import Image, PngImagePlugin

from distgan.data.damage import TooManyBadSamples
from distgan.data.foreign import index_dataset
from distgan.data.verify import verify

SHARD = "train-0.tar"
GOOD = json.dumps({"captions": ["a good dog"]}).encode()
JPEG, PNG = picture(1, (64, 48)), picture(1, (64, 48), "PNG")


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distgan.data.folder._READ_WAITS", (0.0,))


def add(tar: tarfile.TarFile, name: str, data: bytes, **fields: Any) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for field, value in fields.items():
        setattr(info, field, value)
    tar.addfile(info, io.BytesIO(data) if data else None)


def shard(members: dict[str, bytes], good: int = 4) -> bytes:
    """A tar of good samples and of these members."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        for i in range(good):
            add(tar, f"good{i}.jpg", picture(i))
            add(tar, f"good{i}.json", GOOD)
        for name, content in members.items():
            add(tar, name, content)
    return data.getvalue()


def folder_of(tmp_path: Path, content: bytes) -> Path:
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / SHARD).write_bytes(content)
    return tmp_path / "x"


# In foreign tars: found when they are indexed


def with_member(name: str, data: bytes = b"", **fields: Any) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        add(tar, "a.jpg", JPEG)
        add(tar, "a.json", GOOD)
        add(tar, name, data, **fields)
    return made.getvalue()


def with_pax(headers: dict[str, str]) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=tarfile.PAX_FORMAT) as tar:
        add(tar, "a.jpg", JPEG)
        add(tar, "a.json", GOOD, pax_headers=headers)
        add(tar, "b.jpg", JPEG)
        add(tar, "b.json", GOOD)
    return made.getvalue()


WHOLE = shard({})
SECOND = 512 + -(-len(picture(0)) // 512) * 512  # where the second member's header begins

AT_INDEX: dict[str, tuple[Callable[[], bytes], str]] = {
    "cut at a member's boundary": (lambda: WHOLE[:SECOND], "cut after good0.jpg"),
    "cut inside a header": (lambda: WHOLE[: SECOND + 200], r"(cut|damaged) after good0\.jpg"),
    "cut inside a file": (lambda: WHOLE[:700], r"(cut|damaged) after"),
    "without its end mark": (lambda: WHOLE[: WHOLE.rindex(b"dog") + 900], "(cut|damaged) after"),
    "flipped bit in a header": (lambda: flipped(WHOLE, SECOND + 20), r"damaged after good0\.jpg"),
    "zero-length shard": (lambda: b"", "damaged after its beginning"),
    "empty tar": (lambda: shard({}, good=0), "an empty shard"),
    "not a tar": (lambda: b"PK\x03\x04" + bytes(2000), "damaged after its beginning"),
    "compressed tar": (lambda: gzip.compress(WHOLE), "damaged after its beginning"),
    "image without an end": (lambda: with_pax({"size": "999999999999"}), r"(cut|damaged) after a"),
    "negative size": (lambda: with_pax({"size": "-512"}), r"a\.json': a size of -512|damaged"),
    "size that is no number": (lambda: with_pax({"size": "many"}), r"damaged|cut|a\.json"),
    "path traversal": (lambda: with_member("../../b.jpg", JPEG), r"'\.\./\.\./b\.jpg': its name"),
    "absolute path": (lambda: with_member("/etc/b.jpg", JPEG), r"'/etc/b\.jpg': its name leads"),
    "symbolic link": (
        lambda: with_member("b.jpg", type=tarfile.SYMTYPE, linkname="/etc/passwd"),
        "'b.jpg': a link to '/etc/passwd'",
    ),
    "hard link": (
        lambda: with_member("b.jpg", type=tarfile.LNKTYPE, linkname="a.jpg"),
        "'b.jpg': a link to 'a.jpg'",
    ),
    "device": (lambda: with_member("b.jpg", type=tarfile.CHRTYPE), "'b.jpg': a device"),
    "pipe": (lambda: with_member("b.jpg", type=tarfile.FIFOTYPE), "'b.jpg': a device or a pipe"),
    "sparse file": (
        lambda: with_pax({"GNU.sparse.map": "0,1", "GNU.sparse.size": "9"}),
        "'a.json': a sparse file",
    ),
    "name not UTF-8": (lambda: with_member("b\udcff.jpg", JPEG), "name is not UTF-8"),
    "caption file without its image": (lambda: shard({"b.json": GOOD}), "b: no image"),
    "image of another kind": (lambda: shard({"b.bmp": b"BM"}), r"b: no image.*: bmp"),
    "two images of one name": (lambda: shard({"b.jpg": JPEG, "b.JPEG": JPEG}), "b: two members"),
    "key twice in a shard": (lambda: shard({"good1.json": GOOD}), "good1: two members good1.json"),
    "JSON not UTF-8": (lambda: pair(b'{"captions": ["caf\xe9"]}'), r"bad\.json: not captions"),
    "JSON cut": (lambda: pair(GOOD[:-4]), r"bad\.json: not captions and facts"),
    "JSON a list": (lambda: pair(b'["a dog"]'), r"bad\.json: not captions and facts"),
    "JSON a number": (lambda: pair(b"7"), r"bad\.json: not captions and facts"),
    "JSON without an end in depth": (lambda: pair(b"[" * 200_000), r"bad\.json: not captions"),
    "caption a number": (lambda: pair(b'{"caption": 7}'), r"bad\.json: .*not 7"),
    "captions of numbers": (lambda: pair(b'{"captions": [7]}'), r"bad\.json: .*not 7"),
    "captions a mapping": (lambda: pair(b'{"captions": {"a": 1}}'), r"bad\.json: not captions"),
    "style a number": (
        lambda: pair(b'{"captions": [{"text": "a dog", "style": 3}]}'),
        r"bad\.json: .*'a dog', 3",
    ),
    "half a surrogate pair": (
        lambda: pair(rb'{"caption": "a \ud800 dog"}'),
        r"bad\.json: .*surrog",
    ),
    "text not UTF-8": (lambda: shard({"b.jpg": JPEG, "b.txt": b"caf\xe9"}), r"b\.txt: not UTF-8"),
}


def pair(words: bytes, image: bytes = JPEG, extension: str = "jpg") -> bytes:
    """A shard with a sample `bad`."""
    return shard({f"bad.{extension}": image, "bad.json": words})


@pytest.mark.parametrize("kind", AT_INDEX)
def test_damage_in_foreign_tars_is_named_by_the_index(kind: str, tmp_path: Path) -> None:
    make, said = AT_INDEX[kind]
    root = folder_of(tmp_path, make())
    with pytest.raises(ValueError, match=rf"(?s){SHARD}: .*{said}|{SHARD}: {said}"):
        index_dataset(root)
    assert not (root / "dataset.json").exists() and not (root / "index.parquet").exists()


# In sound bytes: found when contents are verified, survived by a stream


def png_header(width: int, height: int) -> bytes:
    """A PNG that says it is so large, and has nothing more."""
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def text_bomb() -> bytes:
    data = b"k\0\0" + zlib.compress(bytes(100_000_000), 9)
    return PNG[:33] + chunk(b"zTXt", data) + PNG[33:]


def saved(kind: str, mode: str = "RGB", size: tuple[int, int] = (64, 48), **options: Any) -> bytes:
    data = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(data, kind, **options)
    return data.getvalue()


def enormous() -> bytes:
    data = io.BytesIO()
    Image.new("1", (9_000, 9_000)).save(data, "PNG")
    return data.getvalue()


def animation(kind: str) -> bytes:
    data = io.BytesIO()
    frames = [Image.new("RGB", (20, 20), colour) for colour in ("red", "green", "blue")]
    frames[0].save(data, kind, save_all=True, append_images=frames[1:])
    return data.getvalue()


def said(*captions: Any) -> bytes:
    return json.dumps({"captions": captions}).encode()


IMAGES: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty image": (lambda: b"", "undecodable image of 0 bytes"),
    "image of zeros": (lambda: bytes(900), "undecodable image"),
    "text named .jpg": (lambda: b"404: not found\n" * 9, "undecodable image"),
    "SVG named .jpg": (lambda: b"<svg xmlns='http://www.w3.org/2000/svg'/>", "undecodable image"),
    "animated GIF named .jpg": (lambda: animation("GIF"), "undecodable image"),
    "HEIC named .jpg": (lambda: b"\0\0\0\x18ftypheic" + bytes(99), "undecodable image"),
    "TIFF named .jpg": (lambda: saved("TIFF"), "undecodable image"),
    "cut JPEG": (lambda: JPEG[: len(JPEG) * 2 // 3], "undecodable image"),
    "JPEG of a header alone": (lambda: JPEG[:200], "undecodable image"),
    "cut PNG": (lambda: PNG[: len(PNG) - 40], "undecodable image"),
    "PNG with a wrong checksum": (lambda: flipped(PNG, 30), "undecodable image"),
    "cut WebP": (lambda: saved("WEBP")[:300], "undecodable image"),
    "enormous image": (enormous, "9000 x 9000 pixels are more than"),
    "decompression bomb": (lambda: png_header(60_000, 60_000), "pixels"),
    "bomb of text": (text_bomb, "undecodable image"),
    "no pixels at all": (lambda: png_header(0, 0), "image"),
}
CAPTIONS: dict[str, tuple[bytes, str]] = {
    "empty caption": (said(""), "a caption has no words: ''"),
    "caption of spaces": (said(" \t "), "a caption has no words"),
    "caption of punctuation": (said("?!"), r"a caption has no words: '\?!'"),
    "caption of an image sign": (said("\u2764"), "a caption has no words"),
    "caption null": (b'{"caption": null}', "a caption has no words: ''"),
    "captions of null": (said(None), "a caption has no words: ''"),
    "text of a caption null": (said({"text": None}), "a caption has no words: ''"),
    "10,000 words": (said("dog " * 10_000), "a caption has 10,000 words, more than 1,000"),
    "NUL bytes": (said("a\0dog"), r"a caption has NUL bytes: 'a\\x00dog'"),
}
IN_SOUND_BYTES = {
    **{kind: (lambda make=make: pair(GOOD, make()), text) for kind, (make, text) in IMAGES.items()},
    **{kind: (lambda words=words: pair(words), text) for kind, (words, text) in CAPTIONS.items()},
    "empty text file": (
        lambda: shard({"bad.jpg": JPEG, "bad.txt": b"\n \n"}),
        "a caption has no words: ''",
    ),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("kind", IN_SOUND_BYTES)
def test_damage_in_sound_bytes_is_named_and_survived(kind: str, tmp_path: Path) -> None:
    make, text = IN_SOUND_BYTES[kind]
    root = folder_of(tmp_path, make())
    index_dataset(root)
    assert verify(root) == []
    (problem,) = verify(root, contents=True)
    assert problem.startswith(f"{SHARD}: bad: ")
    assert re.search(text, problem), problem
    with pytest.raises(TooManyBadSamples, match=rf"{SHARD}: bad: .*{text}"):
        next(stream(root, 0))
    survived(root, {"bad"}, bound=1)


def exif(orientation: int) -> bytes:
    made = Image.Exif()
    made[0x0112] = orientation
    return made.tobytes()


def apng_text() -> bytes:
    info = PngImagePlugin.PngInfo()
    info.add_text("Comment", "\u00e9" * 100)
    return saved("PNG", pnginfo=info)


HARMLESS: dict[str, Callable[[], bytes]] = {
    "CMYK": lambda: saved("JPEG", "CMYK"),
    "greyscale": lambda: saved("JPEG", "L"),
    "16 bits": lambda: saved("PNG", "I;16"),
    "one bit": lambda: saved("PNG", "1"),
    "palette with transparency": lambda: saved("PNG", "P", transparency=3),
    "grey with transparency": lambda: saved("PNG", "LA"),
    "1 x 1": lambda: saved("PNG", size=(1, 1)),
    "1 x 3000": lambda: saved("PNG", size=(1, 3000)),
    "3000 x 2": lambda: saved("JPEG", size=(3000, 2)),
    "progressive": lambda: saved("JPEG", progressive=True),
    "rotated by EXIF": lambda: saved("JPEG", exif=exif(6)),
    "garbled EXIF": lambda: saved("JPEG", exif=b"Exif\0\0garbage" * 9),
    "wrong EXIF orientation": lambda: saved("JPEG", exif=exif(77)),
    "garbled colour profile": lambda: saved("JPEG", icc_profile=b"no profile" * 50),
    "garbage after the end": lambda: JPEG + b"\0garbage" * 99,
    "animated WebP": lambda: animation("WEBP"),
    "animated PNG": lambda: animation("PNG"),
    "comments": apng_text,
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("kind", HARMLESS)
def test_odd_images_are_read_like_any_other(kind: str, tmp_path: Path) -> None:
    data = HARMLESS[kind]()
    extension = "webp" if data[:4] == b"RIFF" else "png" if data[1:4] == b"PNG" else "jpg"
    root = folder_of(tmp_path, pair(GOOD, data, extension))
    index_dataset(root)
    assert verify(root, contents=True) == []
    batch = next(stream(root, 0))
    assert "bad" in batch["key"] and batch["image"].shape == (5, 3, 16, 16)


def test_a_wrong_extension_is_named_and_does_no_harm(tmp_path: Path) -> None:
    root = folder_of(tmp_path, pair(GOOD, PNG, "jpg"))
    index_dataset(root)
    assert verify(root, contents=True) == [f"{SHARD}: bad: its name says jpg, but it is a png"]
    assert "bad" in next(stream(root, 0))["key"]


def test_a_wrong_checksum_of_pixels_is_named_and_does_no_harm(tmp_path: Path) -> None:
    """Decoders do not look at it."""
    root = folder_of(tmp_path, pair(GOOD, flipped(PNG, len(PNG) - 14), "png"))
    index_dataset(root)
    (problem,) = verify(root, contents=True)
    assert problem.startswith(f"{SHARD}: bad: a chunk of the PNG has a wrong checksum")
    assert "bad" in next(stream(root, 0))["key"]


def test_there_are_forty_kinds_and_more() -> None:
    kinds = [*AT_INDEX, *IN_SOUND_BYTES, *HARMLESS]
    assert len(set(kinds)) == len(kinds) >= 75
