"""Fetches bytes before they are needed: the order of samples is known in advance."""

from __future__ import annotations

import bisect
import threading
from collections import Counter, defaultdict, deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

from distgan.data.folder import Extent, read_now

REQUESTS = 16  # at once, of each reading process
GAP = 32 * 1024  # bytes read in vain, at most, to spare a request
SPAN = 4 * 2**20  # bytes of one request, at most, where several extents are joined


class _Fetched(NamedTuple):
    """One request for one or more extents of a file."""

    first: int  # offset in the file
    size: int
    data: Future[bytes]


class ReadAhead:
    """Reads what was announced by `expect`, in that order, in background threads.

    What is held and under way stays within `most_bytes` (a single larger extent passes alone).
    Neighbours in a file are fetched together. `read` gives the bytes or raises what reading
    raised; what was not announced, or is not begun yet, it reads at once.
    """

    def __init__(self, most_bytes: int) -> None:
        self.most_bytes = most_bytes
        self._threads = ThreadPoolExecutor(REQUESTS, thread_name_prefix="read-ahead")
        self._lock = threading.Lock()
        self._queue: deque[Extent] = deque()
        self._waiting: dict[Any, list[tuple[int, int, Extent]]] = defaultdict(list)  # by file
        self._fetched: dict[Extent, _Fetched] = {}
        self._wanted: Counter[Extent] = Counter()
        self._users: dict[int, int] = {}  # extents still to be read, by the request's id
        self._held = 0  # bytes held or under way
        self._busy = 0  # requests under way

    def expect(self, extents: Sequence[Extent]) -> None:
        """Each will be read, or given up by `forget`, once for every time it is announced, in
        about this order."""
        with self._lock:
            for extent in extents:
                self._wanted[extent] += 1
                if self._wanted[extent] == 1:
                    self._queue.append(extent)
                    entry = (extent.offset, extent.size, extent)
                    bisect.insort(self._waiting[_file(extent)], entry, key=_place)
        self._pump()

    def read(self, extent: Extent) -> bytes:
        """The bytes, as `read_now` would give them."""
        with self._lock:
            fetched = self._fetched.get(extent)
            if fetched is None and self._wanted[extent]:
                self._take_from_waiting(extent)
        if fetched is None:
            self._let_go(extent)
            return read_now(extent)
        try:
            data = fetched.data.result()
            start = extent.offset - fetched.first
            return data[start : start + extent.size]
        finally:
            self._let_go(extent)

    def forget(self, extent: Extent) -> None:
        """What was announced will not be read after all, this once."""
        with self._lock:
            fetched = self._fetched.get(extent)
            if fetched is None and self._wanted[extent] == 1:
                self._take_from_waiting(extent)
        if fetched is None:
            self._let_go(extent)
        else:  # what is under way is held until it has come
            fetched.data.add_done_callback(lambda _: self._let_go(extent))

    def close(self) -> None:
        """Let go of everything; requests under way end by themselves."""
        with self._lock:
            self._queue.clear()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _let_go(self, extent: Extent) -> None:
        with self._lock:
            self._forget(extent)
        self._pump()

    def _forget(self, extent: Extent) -> None:
        self._wanted[extent] -= 1
        if self._wanted[extent] > 0:
            return
        del self._wanted[extent]
        fetched = self._fetched.pop(extent, None)
        if fetched is None:
            return
        self._users[id(fetched.data)] -= 1
        if self._users[id(fetched.data)] == 0:
            del self._users[id(fetched.data)]
            self._held -= fetched.size

    def _take_from_waiting(self, extent: Extent) -> None:
        if self._is_waiting(extent):
            waiting = self._waiting[_file(extent)]
            at = bisect.bisect_left(waiting, (extent.offset, extent.size), key=_place)
            self._take(extent, at, at)

    def _take(self, extent: Extent, first: int, last: int) -> list[Extent]:
        """The waiting ones of the extent's file from place `first` to `last`, that wait no more."""
        waiting = self._waiting[_file(extent)]
        taken = [entry[2] for entry in waiting[first : last + 1]]
        del waiting[first : last + 1]
        if not waiting:
            del self._waiting[_file(extent)]
        return taken

    def _pump(self) -> None:
        """Begin what the bounds allow."""
        with self._lock:
            while self._queue:
                extent = self._queue[0]
                if not self._is_waiting(extent):
                    self._queue.popleft()  # read already, or fetched with a neighbour
                    continue
                full = self._held and self._held + extent.size > self.most_bytes
                if full or self._busy >= REQUESTS:
                    return
                self._queue.popleft()
                self._begin(self._with_neighbours(extent))

    def _is_waiting(self, extent: Extent) -> bool:
        waiting = self._waiting.get(_file(extent), [])
        at = bisect.bisect_left(waiting, (extent.offset, extent.size), key=_place)
        return at < len(waiting) and waiting[at][2] == extent

    def _with_neighbours(self, extent: Extent) -> list[Extent]:
        """The extent and the waiting ones beside it, taken from those that wait."""
        waiting = self._waiting[_file(extent)]
        first = last = bisect.bisect_left(waiting, (extent.offset, extent.size), key=_place)
        start, end = extent.offset, extent.offset + extent.size
        most = min(SPAN, self.most_bytes - self._held)
        grows = True
        while grows:
            grows = False
            if first > 0 and start - _end(waiting[first - 1]) <= GAP:
                offset = min(start, waiting[first - 1][0])
                if end - offset <= most:
                    first, start, grows = first - 1, offset, True
            if last + 1 < len(waiting) and waiting[last + 1][0] - end <= GAP:
                after = max(end, _end(waiting[last + 1]))
                if after - start <= most:
                    last, end, grows = last + 1, after, True
        return self._take(extent, first, last)

    def _begin(self, extents: list[Extent]) -> None:
        first = extents[0].offset
        size = max(extent.offset + extent.size for extent in extents) - first
        whole = extents[0]._replace(offset=first, size=size)
        self._held += size
        self._busy += 1
        fetched = _Fetched(first, size, self._threads.submit(self._fetch, whole))
        self._users[id(fetched.data)] = len(extents)
        for extent in extents:
            self._fetched[extent] = fetched

    def _fetch(self, extent: Extent) -> bytes:
        try:
            return read_now(extent)
        finally:
            with self._lock:
                self._busy -= 1
            self._pump()


def _file(extent: Extent) -> tuple[int, str]:
    return id(extent.folder), extent.name


def _place(entry: tuple[int, int, Extent]) -> tuple[int, int]:
    return entry[0], entry[1]


def _end(entry: tuple[int, int, Extent]) -> int:
    return entry[0] + entry[1]
