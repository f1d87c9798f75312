"""Plays an algorithm: stages of rounds of updates. Knows no method, no image, no caption."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from distgan.engine.clock import Clock
from distgan.engine.learner import Learner
from distgan.engine.stages import Batch, Loss, Moment, Prepared, Progress, Stage, Update
from distgan.engine.world import World


class Stream(Protocol):
    """An endless source of this rank's share of global batches."""

    rows: int  # of the global batch

    def __next__(self) -> Batch: ...

    def state_dict(self, total: Callable[[Tensor], Tensor]) -> dict[str, Any]:
        """The place in the stream, equal on every rank; `total` sums over ranks. Collective."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class Suspect(NamedTuple):
    """A number that must be finite, and where to look if it is not."""

    what: str
    value: Tensor
    update: int
    keys: list[str]


@dataclass
class Round:
    """What one round left behind. Tensors stay on the device until somebody logs them.

    `shares` add up over ranks; `facts` are equal on every rank. `suspects` are each update's
    loss on this rank and the norm of its gradient.
    """

    shares: dict[str, Tensor] = field(default_factory=dict)
    facts: dict[str, Tensor] = field(default_factory=dict)
    suspects: list[Suspect] = field(default_factory=list)


@dataclass(frozen=True)
class Players:
    """Everything a round needs: who learns, from what, where, under which seed."""

    learners: Mapping[str, Learner]
    streams: Mapping[str, Stream]
    world: World
    seed: int
    accumulate: int = 1
    clock: Clock = field(default_factory=Clock)


def play(
    stages: Sequence[Stage],
    players: Players,
    progress: Progress,
    after_round: Callable[[Stage, Round], bool],
) -> bool:
    """Play the stages from wherever `progress` stands; False if stopped before their end.

    `after_round` returns whether to stop.
    """
    while progress.stage < len(stages):
        stage = stages[progress.stage]
        if progress.round < stage.rounds:
            _begin(stage, players)
        while progress.round < stage.rounds:
            result = play_round(stage, players, progress)
            progress.round += 1
            progress.total_rounds += 1
            if after_round(stage, result):
                return stage is stages[-1] and progress.round == stage.rounds
        progress.stage, progress.round = progress.stage + 1, 0
    return True


def _begin(stage: Stage, players: Players) -> None:
    stage.enter()
    for name in {update.learner: None for update in stage.updates}:
        players.learners[name].wrap(stage.train.get(name))


def play_round(stage: Stage, players: Players, progress: Progress) -> Round:
    """Every update of the stage, in order, each `times` times."""
    result = Round()
    batches: tuple[Batch, ...] = ()
    for update in stage.updates:
        for _ in range(update.times):
            batches = learn(update, batches, players, progress, result)
    return result


def learn(
    update: Update,
    before: tuple[Batch, ...],
    players: Players,
    progress: Progress,
    result: Round,
) -> tuple[Batch, ...]:
    """Make one parameter update; every other network takes part as a fixed function."""
    learner, clock = players.learners[update.learner], players.clock
    moment = Moment(players.seed, progress.update)
    with clock.phase("data"):
        batches = before if update.reuse else _draw(update, players)
    with clock.phase("prepare"), torch.no_grad():
        prepared = _prepare(update, moment, batches)
    with clock.phase(update.learner), learner.only_learning(players.learners.values()):
        loss = _gradient_passes(update, prepared.batches, players, moment)
        norm = learner.step()
    _record(result, update, moment, prepared, loss, norm)
    progress.update += 1
    return _with_kept(prepared.batches, loss.keep)


def split(batch: Batch, parts: int) -> list[Batch]:
    """Cut a batch into `parts` of neighbouring samples, sizes differing by one at most."""
    rows = len(batch["weight"])
    cuts = [rows * part // parts for part in range(parts + 1)]
    return [
        {name: values[start:stop] for name, values in batch.items()}
        for start, stop in pairwise(cuts)
    ]


def to_device(batch: Batch, device: torch.device) -> Batch:
    """The batch with its tensors on `device`."""
    return {
        name: value.to(device, non_blocking=True) if isinstance(value, Tensor) else value
        for name, value in batch.items()
    }


def _draw(update: Update, players: Players) -> tuple[Batch, ...]:
    drawn = (next(players.streams[name]) for name in update.data)
    return tuple(to_device(batch, players.world.device) for batch in drawn)


def _prepare(update: Update, moment: Moment, batches: tuple[Batch, ...]) -> Prepared:
    return Prepared(batches) if update.prepare is None else update.prepare(moment, *batches)


def _gradient_passes(
    update: Update, batches: tuple[Batch, ...], players: Players, moment: Moment
) -> Loss:
    learner = players.learners[update.learner]
    parts = list(zip(*(split(batch, players.accumulate) for batch in batches), strict=True))
    losses = []
    for number, part in enumerate(parts):
        _reseed(moment, players.world.rank, number)
        losses.append(learner.backward(update.loss, part, last=number == len(parts) - 1))
    return Loss(
        torch.stack([loss.total for loss in losses]).sum(),
        {name: torch.stack([x.log[name] for x in losses]).sum() for name in losses[0].log},
        {name: torch.cat([x.keep[name] for x in losses]) for name in losses[0].keep},
    )


def _reseed(moment: Moment, rank: int, part: int) -> None:
    """Dropout is the only noise left to torch's generator; a resumed run draws the same."""
    key = ((moment.seed * 1_000_003 + moment.update) * 4099 + rank) * 257 + part
    torch.manual_seed(key % 2**63)


def _record(
    result: Round, update: Update, moment: Moment, prepared: Prepared, loss: Loss, norm: Tensor
) -> None:
    name = update.learner
    keys = [key for batch in prepared.batches for key in batch["key"]]
    result.suspects.append(Suspect(f"the loss of {name}", loss.total, moment.update, keys))
    result.suspects.append(Suspect(f"the gradient of {name}", norm, moment.update, keys))
    shares: dict[str, Any] = {"loss": loss.total, **loss.log}
    for what, value in shares.items():
        before = result.shares.get(f"{name}/{what}")
        share = value / update.times
        result.shares[f"{name}/{what}"] = share if before is None else before + share
    result.facts.update({f"{name}/{k}": v for k, v in prepared.facts.items()})
    result.facts[f"{name}/gradient_norm"] = norm


def _with_kept(batches: tuple[Batch, ...], kept: Mapping[str, Tensor]) -> tuple[Batch, ...]:
    return ({**batches[0], **kept}, *batches[1:]) if kept else batches
