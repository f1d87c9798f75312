"""A web server of one folder that knows Range requests, counts them, and fails when told to."""

from __future__ import annotations

import re
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


class RangeServer:
    """`faults`: what to do to the next requests of a file's name, one each: a status, `reset`,
    `cut`, `short`, `elsewhere`, `garbled`. `delay`: seconds each answer takes."""

    def __init__(self, root: Path) -> None:
        self.root, self.delay, self.ranged = root, 0.0, True
        self.faults: dict[str, list[int | str]] = {}
        self.asked: Counter[str] = Counter()
        self.bytes_sent = 0
        self.busy = self.most_busy = 0
        self.lock = threading.Lock()

    @contextmanager
    def running(self) -> Iterator[str]:
        """The URL, while it listens on loopback."""
        server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            server.server_close()
            thread.join()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # else every answer waits for an acknowledgement

            def do_GET(self) -> None:
                with owner.lock:
                    owner.busy += 1
                    owner.most_busy = max(owner.most_busy, owner.busy)
                time.sleep(owner.delay)
                with owner.lock:
                    owner.busy -= 1
                owner.answer(self)

            def log_message(self, *_: Any) -> None:
                pass

        return Handler

    def answer(self, to: BaseHTTPRequestHandler) -> None:
        name = to.path.lstrip("/")
        with self.lock:
            self.asked[name] += 1
            waiting = self.faults.get(name)
            fault = waiting.pop(0) if waiting else None
        if isinstance(fault, int):
            self._send(to, fault, b"no", {})
            return
        if name.startswith("moved/"):
            self._send(to, 302, b"", {"Location": "/" + name.removeprefix("moved/")})
            return
        path = self.root / name
        if not path.is_file():
            self._send(to, 404, b"not here", {})
            return
        self._send_file(to, path.read_bytes(), fault)

    def _send_file(self, to: BaseHTTPRequestHandler, data: bytes, fault: str | None) -> None:
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", to.headers.get("Range", ""))
        if wanted is None or not self.ranged:
            self._send(to, 200, data, {}, fault)
            return
        first, last = int(wanted[1]), min(int(wanted[2]), len(data) - 1)
        if first >= len(data):
            self._send(to, 416, b"", {"Content-Range": f"bytes */{len(data)}"})
            return
        if fault == "short":  # an honest answer, but to less than was asked
            last = (first + last) // 2
        body = data[first : last + 1]
        shift = 7 if fault == "elsewhere" else 0
        said = f"bytes {first + shift}-{last + shift}/{len(data)}"
        if fault == "garbled":
            said = "apples 1-2"
        self._send(to, 206, body, {"Content-Range": said}, fault)

    def _send(
        self,
        to: BaseHTTPRequestHandler,
        status: int,
        body: bytes,
        headers: dict[str, str],
        fault: str | None = None,
    ) -> None:
        if fault == "reset":
            to.close_connection = True
            to.connection.close()
            return
        to.send_response(status)
        for key, value in (headers | {"Content-Length": str(len(body))}).items():
            to.send_header(key, value)
        to.end_headers()
        if fault == "cut":
            body = body[: len(body) // 2]
            to.close_connection = True
        with self.lock:
            self.bytes_sent += len(body)
        to.wfile.write(body)
