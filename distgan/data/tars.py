"""Tar files down to the byte: writing them reproducibly, and reading where each member lies."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

BLOCK = tarfile.BLOCKSIZE  # bytes; headers and padded contents are multiples of it


class DamagedShard(ValueError):  # noqa: N818 (what it is, not that it is one)
    """A tar whose structure is wrong; the message names the file and the place."""


class Member(NamedTuple):
    """A file within a tar; `offset` and `size` are those of its contents, in bytes."""

    name: str
    offset: int
    size: int


def add(tar: tarfile.TarFile, name: str, data: bytes) -> Member:
    """Append a file whose header depends on nothing but its name and size."""
    info = tarfile.TarInfo(name)
    info.size = len(data)
    info.mode = 0o644
    tar.addfile(info, io.BytesIO(data))
    return Member(name, tar.offset - padded(len(data)), len(data))


def members(path: Path) -> Iterator[Member]:
    """Every file of the tar, in order. DamagedShard when the tar is cut or garbled, or when a
    member is anything but a plain file with an honest name, or a folder.

    `tarfile` takes a damaged later header for the end of the archive. Here a tar must end with
    the mark that the format demands: two blocks of zeros.
    """
    end, last = 0, "its beginning"
    try:
        with tarfile.open(path, "r:") as tar:
            for info in tar:
                if wrong := _fault_of(info):
                    raise DamagedShard(f"{path}: {info.name!r}: {wrong}")
                end, last = tar.offset, info.name
                if not info.isdir():
                    yield Member(info.name, info.offset_data, info.size)
    except DamagedShard:
        raise
    except (tarfile.TarError, OSError, ValueError) as error:
        raise DamagedShard(f"{path}: damaged after {last}: {error}") from error
    with path.open("rb") as file:
        file.seek(end)
        mark = file.read(2 * BLOCK)
    if len(mark) < 2 * BLOCK:
        raise DamagedShard(f"{path}: cut after {last}: the end-of-archive mark is missing")
    if any(mark):
        raise DamagedShard(f"{path}: damaged after {last}: neither a header nor the end follows")


def _fault_of(info: tarfile.TarInfo) -> str | None:
    """Why a member cannot be used."""
    if info.issym() or info.islnk():
        return f"a link to {info.linkname!r}, not a file"
    if info.ischr() or info.isblk() or info.isfifo():
        return "a device or a pipe, not a file"
    if info.issparse():
        return "a sparse file, whose bytes do not lie in one piece"
    if info.size < 0:
        return f"a size of {info.size} bytes"
    if info.name.startswith("/") or ".." in info.name.split("/"):
        return "its name leads out of the archive"
    try:
        info.name.encode()
    except UnicodeEncodeError:
        return "its name is not UTF-8"
    return None


def header_belongs(block: bytes, key: str, size: int) -> bool:
    """Is this block a sound header of a file of that key and size?

    Of names above 100 bytes, which PAX keeps elsewhere, only the size is compared.
    """
    try:
        info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.TarError:
        return False
    known = len(key.encode()) > 90 or info.name.removeprefix("./").startswith(f"{key}.")
    return known and info.size == size


def padded(size: int) -> int:
    """Bytes that contents of `size` bytes take up in a tar, without their header."""
    return -(-size // BLOCK) * BLOCK
