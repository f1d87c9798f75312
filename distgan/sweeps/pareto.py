"""Which of several points nobody beats."""

from __future__ import annotations

from collections.abc import Sequence

from distgan.sweeps.plan import Objective


def front(points: Sequence[Sequence[float]], objectives: Sequence[Objective]) -> list[int]:
    """The points that no other one equals or beats in everything and beats in something.

    `points` are values in the objectives' order; returns their places, in order. Of equal points
    all stay.
    """
    turned = [
        [o.better(value) for o, value in zip(objectives, point, strict=True)] for point in points
    ]
    return [i for i, mine in enumerate(turned) if not any(_beats(other, mine) for other in turned)]


def _beats(one: Sequence[float], other: Sequence[float]) -> bool:
    pairs = list(zip(one, other, strict=True))
    return all(a >= b for a, b in pairs) and any(a > b for a, b in pairs)
