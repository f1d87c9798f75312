"""What the engine asks of a method."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from torch import nn

from distgan.config import Config, OptimizerConfig
from distgan.engine.log import Log
from distgan.engine.loop import Stream
from distgan.engine.stages import Stage
from distgan.engine.world import World


class Method(Protocol):
    """One paper: its networks, its losses, its algorithm.

    Built from the whole config in every process; it reads no rank but `world`'s, and its
    networks are made from torch's generator, seeded alike everywhere.
    """

    networks: Mapping[str, nn.Module]
    optimizers: Mapping[str, OptimizerConfig]

    def __init__(self, config: Config, world: World) -> None: ...

    def algorithm(self) -> tuple[Stage, ...]: ...

    def streams(self) -> Mapping[str, Stream]:
        """This rank's streams, by the names that updates use. Called once, after `__init__`."""
        ...

    def identity(self) -> dict[str, Any]:
        """What a checkpoint must agree with: at least `data` and `vocabulary` digests."""
        ...

    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any]) -> None: ...

    def show(self, log: Log, stage: Stage, step: int) -> None:
        """Draw pictures for the log, on the first rank alone."""
        ...

    def interpret(self, metrics: dict[str, float]) -> tuple[dict[str, float], list[str]]:
        """The logged numbers with what follows from them, and lines in plain words about what
        looks wrong; called alike on every rank."""
        ...


@runtime_checkable
class Evaluates(Protocol):
    """A method that can measure itself on held-out data."""

    def evaluate(self, *, temperature: float = 1.0) -> dict[str, float]:
        """Numbers of the networks as they are, the same on every rank, which all call it.

        `temperature` is how boldly anything is sampled. It draws from no generator that training
        draws from and changes nothing that training sees.
        """
        ...


@runtime_checkable
class Replaces(Protocol):
    """A method that goes on where samples are damaged."""

    def bad_samples(self) -> list[str]:
        """The damaged ones this rank met, each once: where, in which shard, which key, and why."""
        ...
