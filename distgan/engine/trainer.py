"""What happens between rounds: log, watch, checkpoint, stop. Every rank does the same."""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from distgan.config import Config
from distgan.engine.checkpoint import Store
from distgan.engine.log import Log
from distgan.engine.loop import Players, Round, play
from distgan.engine.stages import Progress, Stage
from distgan.engine.watch import Watch, check_ranks

FORMAT = 1
"""Version of the checkpoint's layout."""


class Stateful(Protocol):
    """Anything whose progress a checkpoint must hold."""

    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any]) -> None: ...


def _never() -> bool:
    return False


def _as_they_are(metrics: dict[str, float]) -> tuple[dict[str, float], list[str]]:
    return metrics, []


def _ignore(_: dict[str, float]) -> None:
    """Nobody wants to know."""


@dataclass
class Trainer:
    """Plays an algorithm to its end, or to a stop, keeping everything a resume needs.

    `identity` holds what a checkpoint must agree with to be resumed (data digest, vocabulary,
    stage names) and the resolved config's text. `extra` is state beside learners and streams.
    `show` draws pictures; it runs on the first rank alone and must not be collective.
    `evaluate` measures on held-out data; every rank calls it, its numbers are logged as `val/...`
    and it must leave no trace in training. `until` is a round after which to save and stop.
    """

    config: Config
    stages: tuple[Stage, ...]
    players: Players
    store: Store
    log: Log
    identity: dict[str, Any]
    extra: Stateful
    progress: Progress = field(default_factory=Progress)
    show: Callable[[Log, Stage, int], None] | None = None
    evaluate: Callable[[], dict[str, float]] | None = None
    until: int | None = None
    interpret: Callable[[dict[str, float]], tuple[dict[str, float], list[str]]] = _as_they_are
    should_stop: Callable[[], bool] = _never
    on_checkpoint: Callable[[dict[str, float]], None] = _ignore

    def __post_init__(self) -> None:
        self.watch = Watch(self.players.world)
        self.tally = Tally(self.players)
        self.metrics: dict[str, float] = {}

    def run(self) -> bool:
        """Play to the end; False if stopped before. Every rank calls it."""
        try:
            return play(self.stages, self.players, self.progress, self._after_round)
        finally:
            for learner in self.players.learners.values():
                learner.unwrap()

    def _after_round(self, stage: Stage, result: Round) -> bool:
        progress, config = self.progress, self.config
        self.watch.add(f"stage {stage.name}, round {progress.total_rounds}", result.suspects)
        self.tally.add(result)
        step, ends = progress.total_rounds, progress.round == stage.rounds
        rests = ends or step == self.until
        evaluates = self._evaluation_due(step, rests)
        if step % config.log.every == 0 or rests or evaluates:
            self._log(stage, evaluates)
        if step % config.engine.check_ranks_every == 0:
            self.watch.check()  # first: ranks may differ because of a number that is not finite
            check_ranks(self.players.learners.values(), self.players.world)
        if self._pictures_due(step, ends):
            assert self.show is not None
            self.show(self.log, stage, step)
        stop = self.players.world.any(self.should_stop()) or step == self.until
        if step % config.checkpoint.every == 0 or ends or stop:
            self.save(milestone=ends)
        return stop

    def _pictures_due(self, step: int, ends: bool) -> bool:
        if self.show is None or not self.players.world.is_first:
            return False
        every = self.config.log.pictures_every
        return every > 0 and (step % every == 0 or ends)

    def _evaluation_due(self, step: int, rests: bool) -> bool:
        every = self.config.log.evaluate_every
        return self.evaluate is not None and every > 0 and (step % every == 0 or rests)

    def _log(self, stage: Stage, evaluates: bool) -> None:
        self.watch.check()
        self.metrics, remarks = self.interpret(self.tally.read())
        if evaluates:
            assert self.evaluate is not None
            with self.players.clock.phase("evaluation"):
                self.metrics |= {f"val/{name}": value for name, value in self.evaluate().items()}
        if self.players.world.is_first:
            self.log.round(
                stage.name, self.progress.total_rounds, self.progress.update, self.metrics
            )
            for line in remarks:
                self.log.say(line)

    def save(self, *, milestone: bool = False) -> None:
        """Write a checkpoint on the first rank. Every rank calls it."""
        self.watch.check()
        with self.players.clock.phase("checkpoint"):
            state = self.state_dict()
            if self.players.world.is_first:
                self.store.save(self.progress.total_rounds, state, milestone=milestone)
            self.players.world.barrier()
        self.on_checkpoint(self.metrics)

    def state_dict(self) -> dict[str, Any]:
        """Everything a resume needs, on every rank. Collective (streams add up their counts)."""
        world = self.players.world
        return {
            "format": FORMAT,
            "identity": self.identity,
            "progress": self.progress.state_dict(),
            "learners": {n: x.state_dict() for n, x in self.players.learners.items()},
            "streams": {n: x.state_dict(world.sum) for n, x in self.players.streams.items()},
            "extra": self.extra.state_dict(),
            "versions": {"python": platform.python_version(), "torch": str(torch.__version__)},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint of the same run; ValueError where it is not the same."""
        if state["format"] != FORMAT:
            raise ValueError(f"checkpoint format {state['format']}, this version reads {FORMAT}")
        for key in ("stages", "data", "vocabulary"):
            if state["identity"][key] != self.identity[key]:
                raise ValueError(
                    f"cannot resume: the checkpoint's {key} is {state['identity'][key]!r:.200}, "
                    f"this run's is {self.identity[key]!r:.200}"
                )
        self.progress.load_state_dict(state["progress"])
        for name, learner in self.players.learners.items():
            learner.load_state_dict(state["learners"][name])
        for name, stream in self.players.streams.items():
            stream.load_state_dict(state["streams"][name])
        self.extra.load_state_dict(state["extra"])


class Tally:
    """Means of the rounds' numbers since they were last read, kept on the device."""

    def __init__(self, players: Players) -> None:
        self._players = players
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}

    def add(self, result: Round) -> None:
        size = self._players.world.size
        facts = {name: value / size for name, value in result.facts.items()}
        for name, value in {**result.shares, **facts}.items():
            value = value.detach().to(torch.float64)
            self._sums[name] = self._sums[name] + value if name in self._sums else value
            self._counts[name] = self._counts.get(name, 0) + 1

    def read(self) -> dict[str, float]:
        """Means over rounds and ranks, one exchange for all; then starts anew. Collective."""
        names = list(self._sums)
        values: dict[str, float] = {}
        if names:
            stacked = torch.stack([self._sums[n].reshape(()) / self._counts[n] for n in names])
            values = dict(zip(names, self._players.world.sum(stacked).tolist(), strict=True))
        self._sums, self._counts = {}, {}
        seconds = self._players.clock.read()
        return values | {f"seconds/{name}": value for name, value in seconds.items()}
