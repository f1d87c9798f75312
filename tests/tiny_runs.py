"""Plays tiny methods on some ranks and compares what came of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from tiny_methods import TinyConfig, TinyMethod
from torch import Tensor, nn

from distgan.config import CheckpointConfig, Config, EngineConfig, LogConfig
from distgan.engine.learner import Learner
from distgan.engine.loop import Players, Round, learn, play
from distgan.engine.stages import Progress, Stage, Update
from distgan.engine.world import World

Weights = dict[str, Tensor]

TOLERANCE = 1e-9
"""Of the movement of a network's weights: what adding in another sequence may change."""


@dataclass(frozen=True)
class Case:
    """A method with its settings, played on any number of ranks."""

    method: type[TinyMethod]
    tiny: TinyConfig
    accumulate: int = 1
    precision: str = "float64"
    learner: type[Learner] = Learner

    def config(self) -> Config:
        engine = EngineConfig(
            accumulate=self.accumulate, precision=self.precision, check_ranks_every=3, threads=1
        )
        return Config(
            method=self.tiny,
            engine=engine,
            checkpoint=CheckpointConfig(every=2),
            log=LogConfig(every=2, pictures_every=0, tensorboard=False),
            seed=5,
        )


@dataclass(frozen=True)
class Trace:
    """What one rank drew, and the weights it began and ended with, by network."""

    drawn: list[Tensor]
    start: dict[str, Weights]
    end: dict[str, Weights]


def play_cases(world: World, cases: Sequence[Case]) -> list[Trace]:
    """Play them one after another; for `run_on_ranks`, which makes the ranks once for all."""
    return [play_case(world, case) for case in cases]


def play_case(world: World, case: Case) -> Trace:
    method, players = build(world, case)
    start = copy_weights(players)
    play(method.algorithm(), players, Progress(), lambda stage, result: False)
    end = copy_weights(players)
    for learner in players.learners.values():
        learner.unwrap()
    return Trace(method.drawn, start, end)


def build(world: World, case: Case) -> tuple[Any, Players]:
    """A method from its seed, and its players."""
    config = case.config()
    torch.manual_seed(config.seed)
    method: Any = case.method(config, world)
    dtype = torch.float64 if case.precision == "float64" else torch.float32
    learners = {
        name: case.learner(name, network.to(dtype), method.optimizers[name], world)
        for name, network in method.networks.items()
    }
    players = Players(learners, method.streams(), world, config.seed, case.accumulate)
    return method, players


def copy_weights(players: Players) -> dict[str, Weights]:
    """Copies of every network's weights and, where there is one, of its average's."""
    copies = {}
    for name, learner in players.learners.items():
        copies[name] = {k: v.clone() for k, v in learner.network.state_dict().items()}
        if learner.average is not None:
            averages = learner.average.state_dict().items()
            copies[f"{name} average"] = {k: v.clone() for k, v in averages}
    return copies


def complaints(one: Trace, ranks: Sequence[Trace], tolerance: float = TOLERANCE) -> list[str]:
    """In what a run on several ranks differs from the same run on one; empty if in nothing.

    `tolerance` is a share of the movement of a network's weights.
    """
    found = []
    for rank, trace in enumerate(ranks):
        for name, weights in trace.end.items():
            if any(not torch.equal(w, ranks[0].end[name][k]) for k, w in weights.items()):
                found.append(f"rank {rank} has other bits of {name} than rank 0")
    for number, whole in enumerate(one.drawn):
        if not torch.equal(whole, torch.cat([trace.drawn[number] for trace in ranks])):
            found.append(f"draw {number} differs")
            break
    for name in one.end:
        gap = distance(one.end[name], ranks[0].end[name])
        moved = distance(one.end[name], one.start[name])
        if not gap <= tolerance * moved:
            found.append(f"{name} ends {gap:.1e} apart after moving {moved:.1e}")
    return found


def distance(a: Weights, b: Weights) -> float:
    """The largest difference of two networks' weights."""
    return max(float((a[name].double() - b[name].double()).abs().max()) for name in a)


def with_accumulate(cases: dict[str, Case], size: int) -> dict[str, Case]:
    """The cases accumulating 1 and 2, where every gradient pass on each rank has a sample."""
    return {
        f"{name}, accumulate {parts}": replace(case, accumulate=parts)
        for name, case in cases.items()
        for parts in (1, 2)
        if case.tiny.rows >= size * parts
    }


def trespasses(case: Case) -> list[str]:
    """Play a case and say where an update touched what it must not; empty if nowhere.

    After each update only weights and buffers under the stage's learning submodules may have
    moved, no network keeps a gradient, and whatever may learn moves in the course of its stage.
    """
    method, players = build(World.local(), case)
    networks = {**method.networks, **method.frozen}
    progress, found = Progress(), []
    for stage in method.algorithm():
        for name in {update.learner for update in stage.updates}:
            players.learners[name].wrap(stage.train.get(name))
        idle = {
            f"{update.learner}.{group}"
            for update in stage.updates
            for group in _may_move(stage, update, networks)
        }
        for _ in range(stage.rounds):
            batches: tuple[Any, ...] = ()
            for update in (u for u in stage.updates for _ in range(u.times)):
                before = _snapshot(networks)
                batches = learn(update, batches, players, progress, Round())
                moved = {k for k, v in _snapshot(networks).items() if not v.equal(before[k])}
                may = {f"{update.learner}.{k}" for k in _may_move(stage, update, networks)}
                found += [f"{stage.name}: {update.learner}'s update moved {k}" for k in moved - may]
                found += _gradients_left(networks, stage.name)
                idle -= moved
        found += [f"{stage.name}: {name} never moved" for name in idle]
    return found


def _may_move(stage: Stage, update: Update, networks: dict[str, nn.Module]) -> list[str]:
    groups = stage.train.get(update.learner, ("",))
    names = networks[update.learner].state_dict()
    return [name for name in names if name.startswith(groups)]


def _snapshot(networks: dict[str, nn.Module]) -> Weights:
    return {
        f"{name}.{key}": value.clone()
        for name, network in networks.items()
        for key, value in network.state_dict().items()
    }


def _gradients_left(networks: dict[str, nn.Module], stage: str) -> list[str]:
    return [
        f"{stage}: a gradient is left on {name}.{key}"
        for name, network in networks.items()
        for key, parameter in network.named_parameters()
        if parameter.grad is not None
    ]
