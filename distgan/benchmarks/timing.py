"""Wall time and memory of one call."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch

GIB = 2**30


class Taken(NamedTuple):
    """The best of several calls."""

    wall: float  # s
    cpu: float  # s, of all threads: what other programs on the machine change least


def taken(work: Callable[[], object], device: torch.device, repeat: int = 1) -> Taken:
    """The least wall time and the least CPU time of `repeat` calls."""
    walls, cpus = [], []
    for _ in range(repeat):
        _wait(device)
        wall, cpu = time.perf_counter(), time.process_time()
        work()
        _wait(device)
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    return Taken(min(walls), min(cpus))


def seconds(work: Callable[[], object], device: torch.device, repeat: int = 1) -> float:
    """Wall time of one call, the best of `repeat`."""
    return taken(work, device, repeat).wall


def peak_gib(work: Callable[[], object], device: torch.device) -> float:
    """GiB that one call adds, at most, to what the process held before it."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        work()
        return (torch.cuda.max_memory_allocated(device) - before) / GIB
    Path("/proc/self/clear_refs").write_text("5")  # forget the highest mark
    before = _status("VmRSS")
    work()
    return (_status("VmHWM") - before) / GIB


def _status(name: str) -> int:
    """A line of /proc/self/status, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:")) * 1024


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
