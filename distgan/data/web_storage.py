"""A folder that a web server shares: files by http(s), parts of them by Range requests."""

from __future__ import annotations

import http.client
import re
import ssl
import threading
from typing import NamedTuple
from urllib.parse import quote, urljoin, urlsplit

_TIMEOUT = 60.0  # seconds of silence
_REDIRECTS = 5
_GONE = (404, 410)
_FORBIDDEN = (401, 403, 407)
_CONTENT_RANGE = re.compile(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)")


class _Answer(NamedTuple):
    status: int
    headers: http.client.HTTPMessage
    body: bytes


class WebStorage:
    """Read-only. Connections are kept alive, one for each thread and host."""

    def __init__(self, url: str) -> None:
        """ValueError for a URL with a query: file names could not be added to it."""
        if urlsplit(url).query or urlsplit(url).fragment:
            raise ValueError(f"{url}: a folder's URL has no ? and no #")
        self.url = url.rstrip("/") + "/"
        self._mine = threading.local()

    def read(self, name: str) -> bytes:
        return self._get(name, {}, wanted=(200,)).body

    def read_at(self, name: str, offset: int, size: int) -> bytes:
        if size == 0:
            return b""
        answer = self._get(name, {"Range": f"bytes={offset}-{offset + size - 1}"}, (206, 416))
        if answer.status == 416:  # the file ends before
            return b""
        first, end, total = _content_range(answer.headers, self._address(name))
        ends_there = total is not None and end + 1 == total
        if first != offset or end >= offset + size or not (end + 1 == offset + size or ends_there):
            raise OSError(
                f"{self._address(name)}: asked for {size} bytes from {offset}, "
                f"was given bytes {first} to {end}"
            )
        if len(answer.body) != end + 1 - first:
            raise OSError(
                f"{self._address(name)}: {len(answer.body)} of {end + 1 - first} bytes arrived"
            )
        return answer.body

    def size(self, name: str) -> int | None:
        try:
            answer = self._get(name, {"Range": "bytes=0-0"}, (206, 416))
        except FileNotFoundError:
            return None
        total = _content_range(answer.headers, self._address(name))[2]
        if total is None:
            raise OSError(f"{self._address(name)}: the server does not say how long it is")
        return total

    def names(self) -> list[str] | None:
        """Unknown: web servers have no common way to list a folder."""
        return None

    def exists(self) -> bool:
        """Unknown: a folder without an index page is there all the same."""
        return True

    def _address(self, name: str) -> str:
        return self.url + quote(name)

    def _get(self, name: str, headers: dict[str, str], wanted: tuple[int, ...]) -> _Answer:
        """The answer, of a status among `wanted`.

        FileNotFoundError, PermissionError, or OSError for what may pass; ValueError for a server
        that knows no Range requests.
        """
        url = self._address(name)
        for _ in range(_REDIRECTS):
            answer = self._ask(url, headers, wanted)
            if answer.status not in (301, 302, 303, 307, 308):
                break
            url = urljoin(url, answer.headers.get("Location", ""))
        said = f"{self._address(name)}: {answer.status} {http.client.responses.get(answer.status)}"
        if answer.status in wanted:
            return answer
        if answer.status in _GONE:
            raise FileNotFoundError(said)
        if answer.status in _FORBIDDEN:
            raise PermissionError(said)
        if answer.status == 200:
            raise ValueError(
                f"{self._address(name)}: the server sends whole files only; "
                "shards are read by Range requests"
            )
        raise OSError(said)

    def _ask(self, url: str, headers: dict[str, str], wanted: tuple[int, ...]) -> _Answer:
        parts = urlsplit(url)
        kept = self._kept()
        host = f"{parts.scheme}://{parts.netloc}"
        was_kept = host in kept
        try:
            return self._talk(host, url, headers, wanted)
        except (ConnectionError, http.client.BadStatusLine):
            if not was_kept:
                raise
        return self._talk(host, url, headers, wanted)  # the server had let go of the connection

    def _talk(
        self, host: str, url: str, headers: dict[str, str], wanted: tuple[int, ...]
    ) -> _Answer:
        kept, parts = self._kept(), urlsplit(url)
        connection = kept.pop(host, None) or _connect(parts.scheme, parts.netloc)
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        try:
            connection.request("GET", path, headers=headers | {"Accept-Encoding": "identity"})
            response = connection.getresponse()
            if response.status == 200 and 200 not in wanted:  # the whole of a shard: not for us
                connection.close()
                return _Answer(200, response.headers, b"")
            body = response.read()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            if isinstance(error, ConnectionError):
                raise type(error)(f"{url}: {error}") from error
            raise OSError(f"{url}: {error!r}") from error
        kept[host] = connection
        return _Answer(response.status, response.headers, body)

    def _kept(self) -> dict[str, http.client.HTTPConnection]:
        if "connections" not in vars(self._mine):
            self._mine.connections = {}
        kept: dict[str, http.client.HTTPConnection] = self._mine.connections
        return kept


def _connect(scheme: str, host: str) -> http.client.HTTPConnection:
    if scheme == "https":
        context = ssl.create_default_context()
        return http.client.HTTPSConnection(host, timeout=_TIMEOUT, context=context)
    if scheme != "http":
        raise ValueError(f"{scheme}://{host}: not http or https")
    return http.client.HTTPConnection(host, timeout=_TIMEOUT)


def _content_range(headers: http.client.HTTPMessage, url: str) -> tuple[int, int, int | None]:
    """First and last byte (-1 where unknown) and the length of the whole file, if it is said."""
    found = _CONTENT_RANGE.fullmatch(headers.get("Content-Range", "").strip())
    if found is None:
        raise OSError(f"{url}: garbled Content-Range {headers.get('Content-Range')!r}")
    first, end, total = found.groups()
    known = None if total == "*" else int(total)
    return int(first or -1), int(end or -1), known
