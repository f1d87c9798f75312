"""What a run tells at its end of the damaged samples it met."""

from __future__ import annotations

from pathlib import Path

from distgan.engine.log import Log
from distgan.engine.world import World
from distgan.methods.method import Method, Replaces

FILE = "bad_samples.txt"
METRIC = "data/bad_samples"
_SAID = 10


def report_bad_samples(method: Method, world: World, log: Log, run: Path) -> dict[str, float]:
    """Say and write down, in `bad_samples.txt` of the run, every damaged sample that any rank
    met, in this attempt or in one before it that ended in order. Collective.

    The metric: how many there are.
    """
    if not isinstance(method, Replaces):
        return {}
    every: set[str] = set()
    mine = method.bad_samples()
    for rank in range(world.size):
        met = world.share(mine, rank)
        assert isinstance(met, list)
        every.update(met)
    if world.is_first:
        every = _with_earlier(every, run / FILE)
        for line in _sentences(sorted(every), run / FILE):
            log.say(line)
    return {METRIC: float(str(world.share(len(every))))}


def _with_earlier(every: set[str], path: Path) -> set[str]:
    """With those of the file, which then has them all."""
    if path.is_file():
        every = every.union(path.read_text(encoding="utf-8").splitlines())
    if every:
        path.write_text("".join(f"{line}\n" for line in sorted(every)), encoding="utf-8")
    return every


def _sentences(names: list[str], path: Path) -> list[str]:
    if not names:
        return []
    first = f"{len(names)} damaged samples were replaced by others; all are named in {path}"
    return [first, *(f"  {name}" for name in names[:_SAID])]
