"""Images a second from a dataset: our stream beside the forms a user would write."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from distgan.benchmarks.sizes import add_json

EPOCHS = 10  # over which memory is watched
FORMS = ("ours", "bare", "webdataset", "pil")


def add_to(commands: Any) -> None:
    """Add the subcommand `loader`."""
    parser = commands.add_parser("loader", help="images a second: ours, bare, webdataset, PIL")
    parser.add_argument("data", help="a dataset made by launch/prepare.py")
    parser.add_argument("--split", default="train", help="its split (train)")
    parser.add_argument("--image-size", type=int, default=224, help="pixels, square (224)")
    parser.add_argument("--batch", type=int, default=64, help="images (64)")
    parser.add_argument("--images", type=int, default=512, help="images a measurement (512)")
    parser.add_argument("--loaders", type=int, default=0, help="processes; 0: this one alone (0)")
    parser.add_argument("--repeat", type=int, default=5, help="the best of so many counts (5)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (1)")
    add_json(parser)
    parser.set_defaults(run=bench_loader)


def bench_loader(args: argparse.Namespace) -> dict[str, object]:
    """Images a second and core of each form, best of interleaved repeats, and memory over epochs.

    `ours`: our stream. `bare`: the decode and resize it cannot do without, of files in memory.
    `webdataset`: the pipeline its users write. `pil`: a DataLoader over loose files with Pillow
    and torchvision. All but `bare` also turn a caption into word ids. NAME_by_cpu: images by
    seconds of CPU time instead, which a busy machine disturbs less.
    """
    from distgan.benchmarks.image_pipelines import Pipelines

    sizes = {"size": args.image_size, "batch": args.batch, "loaders": args.loaders}
    with Pipelines(args.data, args.split, **sizes) as pipelines:
        forms = {name: getattr(pipelines, name)() for name in FORMS}
        best = best_rates(forms, args)
        forms.clear()
        memory = list(watch(pipelines.epochs(EPOCHS)))
        return {
            **{name: wall for name, (wall, _) in best.items()},
            **{f"{name}_by_cpu": cpu for name, (_, cpu) in best.items()},
            **{f"ours_over_{name}": best["ours"][0] / best[name][0] for name in FORMS[1:]},
            **{f"ours_over_{name}_by_cpu": best["ours"][1] / best[name][1] for name in FORMS[1:]},
            "memory_first_mib": memory[0],
            "memory_last_mib": memory[-1],
            "memory_mib": memory,
            **pipelines.facts(),
        }


def best_rates(
    forms: dict[str, Iterator[int]], args: argparse.Namespace
) -> dict[str, tuple[float, float]]:
    """Each form's best images per second and core, and per second of CPU time."""
    count, cores = max(1, args.images // args.batch), max(1, args.loaders)
    best = dict.fromkeys(forms, (0.0, 0.0))
    for _ in range(args.repeat):
        for name in forms:
            wall, cpu = rates(forms[name], count, 2 * args.loaders + 1)
            best[name] = max(best[name][0], wall / cores), max(best[name][1], cpu)
    return best


def rates(batches: Iterator[int], count: int, skipped: int) -> tuple[float, float]:
    """Images by seconds, and by seconds of CPU time of this process and those it started, over
    `count` batches after those that were prepared before."""
    for _ in range(skipped):
        next(batches)
    cpu, start = cpu_seconds(), time.perf_counter()
    images = sum(next(batches) for _ in range(count))
    return images / (time.perf_counter() - start), images / (cpu_seconds() - cpu)


def cpu_seconds() -> float:
    """CPU time of this process and of the living ones it started (those on Linux only)."""
    others = 0
    for process in descendants(os.getpid()):
        facts = stat(Path(f"/proc/{process}/stat"))
        others += int(facts[11]) + int(facts[12]) if facts else 0
    return time.process_time() + others / os.sysconf("SC_CLK_TCK")


def watch(epochs: Iterator[None]) -> Iterator[float]:
    """MiB held by this process and those it started, after each epoch; shared pages count once."""
    for _ in epochs:
        yield sum(held(process) for process in (os.getpid(), *descendants(os.getpid())))


def held(process: int) -> float:
    """MiB of a process's memory, its share of what it shares. 0 where the system does not say."""
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("Pss:"))


def descendants(process: int) -> list[int]:
    """The processes started by a process and by those it started."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        facts = stat(path)
        if facts:
            children.setdefault(int(facts[1]), []).append(int(path.parent.name))
    found = list(children.get(process, []))
    for child in found:
        found += children.get(child, [])
    return found


def stat(path: Path) -> list[str]:
    """What a /proc/N/stat says after the name; empty when the process has ended."""
    try:
        return path.read_text().rpartition(")")[2].split()
    except OSError:
        return []
