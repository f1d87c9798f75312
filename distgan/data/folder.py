"""A dataset's folder, wherever it lies: local disk, S3, GCS and the like through pyarrow, HTTP.

Files are read by offset. Reading that fails for reasons that may pass is tried again.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar
from urllib.parse import parse_qs, urlsplit

import pyarrow as pa
import pyarrow.fs as pafs

from distgan.data.web_storage import WebStorage

T = TypeVar("T")

_OPEN_FILES = 64  # handles kept by each process
_READ_WAITS = (0.2, 1.0, 4.0)  # seconds between attempts to read
_SIZES_TOGETHER = 16  # files of a remote folder asked for their size at once


class Storage(Protocol):
    """Files under one root, named relative to it. Safe to use from several threads."""

    def read(self, name: str) -> bytes:
        """A whole file. FileNotFoundError; OSError when reading failed."""
        ...

    def read_at(self, name: str, offset: int, size: int) -> bytes:
        """Up to `size` bytes from `offset`; fewer when the file ends before."""
        ...

    def size(self, name: str) -> int | None:
        """In bytes; None when there is no such file."""
        ...

    def names(self) -> list[str] | None:
        """Every file under the root; None where that cannot be known."""
        ...

    def exists(self) -> bool: ...


class Extent(NamedTuple):
    """Bytes of a file."""

    folder: Folder
    name: str
    offset: int
    size: int


Read = Callable[[Extent], bytes]
"""Reads up to `size` bytes; FileNotFoundError, or OSError naming the file after some tries."""


def read_now(extent: Extent) -> bytes:
    """Read when asked, in the caller's thread."""
    return extent.folder.read_at(extent.name, extent.offset, extent.size)


class Folder:
    """A folder with retries. `place` names it in messages, without any secret; `local` is its
    path where it lies on a disk of this machine, else None."""

    def __init__(self, path: str) -> None:
        """`path`: a local folder or a URI. ValueError for one that cannot be understood."""
        self.place, self.storage = _open(path)
        self.local = _local(path, self.storage)
        self.remote = self.local is None

    def read(self, name: str) -> bytes:
        """A whole file. ValueError naming it when it does not exist."""
        try:
            return self._patiently(name, lambda: self.storage.read(name))
        except FileNotFoundError as error:
            raise ValueError(f"{self.place}/{name} is missing") from error

    def read_at(self, name: str, offset: int, size: int) -> bytes:
        """Up to `size` bytes from `offset`; fewer when the file ends before."""
        return self._patiently(name, lambda: self.storage.read_at(name, offset, size))

    def size(self, name: str) -> int | None:
        """In bytes; None when there is no such file."""
        return self._patiently(name, lambda: self.storage.size(name))

    def names(self) -> list[str] | None:
        """Every file under the folder, sorted; None where that cannot be known."""
        names = self._patiently("", self.storage.names)
        return None if names is None else sorted(names)

    def exists(self) -> bool:
        return self._patiently("", self.storage.exists)

    def wrong_sizes(self, sizes: dict[str, int]) -> list[str]:
        """What is wrong with these files, judged by their sizes alone."""
        with ThreadPoolExecutor(_SIZES_TOGETHER if self.remote else 1) as threads:
            found = list(threads.map(self.size, sizes))
        wrong = []
        for (name, size), there in zip(sizes.items(), found, strict=True):
            if there is None:
                wrong.append(f"shard {name} is missing")
            elif there != size:
                wrong.append(f"shard {name} has {there} bytes instead of {size}")
        return wrong

    def _patiently(self, name: str, act: Callable[[], T]) -> T:
        """`act`, tried again after a while; OSError naming the file in the end."""
        for wait in _READ_WAITS:
            try:
                return act()
            except (FileNotFoundError, PermissionError):
                raise
            except OSError:
                time.sleep(wait)
        try:
            return act()
        except OSError as error:
            tries = len(_READ_WAITS) + 1
            raise type(error)(
                f"{self.place}/{name}: not readable in {tries} tries: {error}"
            ) from error


class ArrowStorage:
    """A folder on any file system that pyarrow knows, with a few open files."""

    def __init__(self, filesystem: pafs.FileSystem, root: str) -> None:
        self.filesystem, self.root = filesystem, root
        self._files: dict[str, pa.NativeFile] = {}
        self._lock = threading.Lock()

    def read(self, name: str) -> bytes:
        with self.filesystem.open_input_file(f"{self.root}/{name}") as file:
            return file.read()

    def read_at(self, name: str, offset: int, size: int) -> bytes:
        file = self._file(name)
        try:
            there = max(0, min(size, file.size() - offset))
            return file.read_at(there, offset) if there else b""
        except OSError:
            with self._lock:
                self._files.pop(name, None)  # a retry opens it anew
            raise

    def _file(self, name: str) -> pa.NativeFile:
        with self._lock:
            if name in self._files:
                return self._files[name]
        opened = self.filesystem.open_input_file(f"{self.root}/{name}")
        with self._lock:
            while len(self._files) >= _OPEN_FILES:
                del self._files[next(iter(self._files))]  # closed once no thread reads it
            return self._files.setdefault(name, opened)

    def size(self, name: str) -> int | None:
        info = self.filesystem.get_file_info(f"{self.root}/{name}")
        return info.size if info.type == pafs.FileType.File else None

    def names(self) -> list[str] | None:
        infos = self.filesystem.get_file_info(pafs.FileSelector(self.root, recursive=True))
        files = (info.path for info in infos if info.type == pafs.FileType.File)
        return [path.removeprefix(self.root).strip("/") for path in files]

    def exists(self) -> bool:
        return self.filesystem.get_file_info(self.root).type == pafs.FileType.Directory


def _local(path: str, storage: Storage) -> Path | None:
    if "://" not in path:
        return Path(path).resolve()
    on_disk = isinstance(storage, ArrowStorage) and path.startswith("file://")
    return Path(storage.root) if on_disk else None


def _open(path: str) -> tuple[str, Storage]:
    if "://" not in path:
        place = str(Path(path).resolve())
        return place, ArrowStorage(pafs.LocalFileSystem(), place)
    parts = urlsplit(path)
    plain = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}".rstrip("/")
    if "@" in parts.netloc:
        raise ValueError(f"{plain}: keys and passwords belong into the environment, not the path")
    if parts.scheme in ("http", "https"):
        return plain, WebStorage(path)
    try:
        filesystem, root = pafs.FileSystem.from_uri(path)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{plain}: cannot be opened: {error}") from error
    host = parse_qs(parts.query).get("endpoint_override", [""])[0] or (
        os.environ.get("AWS_ENDPOINT_URL", "") if parts.scheme == "s3" else ""
    )
    return (f"{plain} (at {host})" if host else plain), ArrowStorage(filesystem, root.rstrip("/"))
