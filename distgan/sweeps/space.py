"""What a setting may be, and how it is drawn and nudged. Draws are functions of their key."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from random import Random
from typing import Any

from distgan.settings import require

NUDGES = (0.8, 1.25)


@dataclass(frozen=True, kw_only=True)
class Domain:
    """Values of one setting; exactly one of these is given. Ranges include both ends."""

    grid: tuple[Any, ...] | None = None
    choice: tuple[Any, ...] | None = None
    uniform: tuple[float, float] | None = None
    loguniform: tuple[float, float] | None = None
    integer: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        given = {f.name: vars(self)[f.name] for f in fields(self)}
        given = {name: value for name, value in given.items() if value is not None}
        if not given:
            return  # only while a file is read: `check` refuses it
        names = " or ".join(f.name for f in fields(self))
        require(len(given) == 1, "values", list(given), f"one of {names}")
        ((name, values),) = given.items()
        require(len(values) > 0, name, values, "at least one value")
        if name in ("uniform", "loguniform", "integer"):
            require(values[0] < values[1], name, values, "[low, high]")
        if name == "loguniform":
            require(values[0] > 0, name, values, "above 0")

    @property
    def values(self) -> tuple[Any, ...]:
        """All of them where they can be listed, else ()."""
        return self.grid or self.choice or ()

    def draw(self, random: Random) -> Any:
        """One value."""
        if self.values:
            return random.choice(self.values)
        if self.integer:
            return random.randint(*self.integer)
        if self.loguniform:
            low, high = map(math.log, self.loguniform)
            drawn = math.exp(random.uniform(low, high))
            return min(max(drawn, self.loguniform[0]), self.loguniform[1])
        assert self.uniform is not None
        return random.uniform(*self.uniform)

    def nudge(self, value: Any, random: Random) -> Any:
        """A neighbour of the value: the next in the list, or a fifth less or a quarter more."""
        if self.values:
            at = self.values.index(value) if value in self.values else 0
            near = [i for i in (at - 1, at + 1) if 0 <= i < len(self.values)] or [at]
            return self.values[random.choice(near)]
        bounds = self.integer or self.loguniform or self.uniform
        assert bounds is not None
        factor = random.choice(NUDGES)
        moved = value * factor
        if self.integer:
            step = max(1, round(abs(moved - value)))
            moved = value + (step if factor > 1 else -step)
        kept = min(max(moved, bounds[0]), bounds[1])
        return int(kept) if self.integer else float(kept)


Space = Mapping[str, Domain]


def check(space: Space) -> None:
    """Raise a ValueError that names the first key without a domain."""
    names = ", ".join(f.name for f in fields(Domain))
    for key, domain in space.items():
        if all(value is None for value in vars(domain).values()):
            raise ValueError(f"search.{key} needs one of {names}")


def grid(space: Space) -> list[dict[str, Any]]:
    """Every combination, the last key running fastest."""
    product = itertools.product(*(domain.values for domain in space.values()))
    return [dict(zip(space, values, strict=True)) for values in product]


def draw(space: Space, seed: int, number: int) -> dict[str, Any]:
    """The settings of trial `number`: the same whatever was drawn before."""
    random = Random(f"{seed}/{number}")
    return {key: domain.draw(random) for key, domain in space.items()}


def explore(space: Space, settings: Mapping[str, Any], resample: float, random: Random) -> dict:
    """A donor's settings with every searched one drawn anew (chance `resample`) or nudged."""
    return {
        key: domain.draw(random) if random.random() < resample else domain.nudge(value, random)
        for (key, domain), value in zip(
            space.items(), (settings[key] for key in space), strict=True
        )
    }


def exploit(
    scores: Mapping[int, float], quantile: float, randoms: Mapping[int, Random]
) -> dict[int, int]:
    """Who takes whose place: the lowest scores each get one of the highest, by number.

    Equal scores are told apart by number; one member alone stays as it is. Nobody takes the place
    of a member without a score (-inf). `randoms` holds each member's own.
    """
    ranked = sorted(scores, key=lambda number: (scores[number], -number))
    count = min(math.ceil(len(ranked) * quantile), len(ranked) // 2)
    donors = [n for n in ranked[len(ranked) - count :] if scores[n] > -math.inf]
    return {loser: randoms[loser].choice(donors) for loser in ranked[:count] if donors}
