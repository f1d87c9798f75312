"""ATTEND-GAN on a tiny dataset: its config, its players, and what it drew on some ranks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from tiny_runs import Trace, copy_weights
from torch import Tensor

from distgan.config import Config, load_config
from distgan.engine.loop import Players, Round, learn, play
from distgan.engine.stages import Batch, Moment, Prepared, Progress, Stage, Update
from distgan.engine.world import World
from distgan.methods import CONFIGS
from distgan.methods.attend_gan import AttendGAN
from distgan.methods.training import (
    build_learners,
    check_batches,
    choose_stages,
    prepare_torch,
)

TINY = Path(__file__).parent / "tiny.yaml"

TEXT_CRITIC = (  # the paper's, sees words alone
    "method.critic.network=textcnn",
    "method.critic.loss=wasserstein",
    "method.critic.sees_image=false",
    "method.critic.sees_style=false",
    "method.critic.heads=joint",
)
CLIPPED = (
    "method.critic.optimizer.name=rmsprop",
    "method.critic.optimizer.lr=0.001",
    "method.critic.optimizer.clip_weights=0.05",
)
JOINT = ("method.critic.heads=joint",)


def tiny(data: Path, *overrides: str) -> Config:
    """The config of tiny.yaml for the dataset at `data`, with dotted overrides."""
    return load_config(TINY, [f"data.path={data}", *overrides], methods=CONFIGS)


class Recorded(AttendGAN):
    """Remembers every word that was prepared, sampled or drawn, and what each word earned."""

    def __init__(self, config: Config, world: World) -> None:
        super().__init__(config, world)
        self.words: list[Tensor] = []
        self.earned: list[Tensor] = []

    def algorithm(self) -> tuple[Stage, ...]:
        return tuple(
            replace(stage, updates=tuple(map(self._recorded, stage.updates)))
            for stage in super().algorithm()
        )

    def _recorded(self, update: Update) -> Update:
        prepare = update.prepare
        if prepare is None:
            return update

        def recording(moment: Moment, *batches: Batch) -> Prepared:
            made = prepare(moment, *batches)
            self.words += [batch["words"] for batch in made.batches]
            self.earned += [b["advantages"] for b in made.batches if "advantages" in b]
            return made

        return replace(update, prepare=recording)


@dataclass(frozen=True)
class Outcome:
    """What one rank drew and how its networks moved; the advantages; the rounds' facts."""

    trace: Trace
    earned: list[Tensor]
    facts: list[dict[str, float]]


def play_configs(world: World, configs: Sequence[Config]) -> list[Outcome]:
    """Play all stages of each config; for `run_on_ranks`."""
    return [play_config(world, config) for config in configs]


def play_config(world: World, config: Config) -> Outcome:
    method, players, stages = build(world, config)
    facts: list[dict[str, float]] = []

    def after_round(stage: Stage, result: Round) -> bool:
        facts.append({name: float(value) for name, value in result.facts.items()})
        return False

    start = copy_weights(players)
    play(stages, players, Progress(), after_round)
    end = copy_weights(players)
    for learner in players.learners.values():
        learner.unwrap()
    return Outcome(Trace(method.words, start, end), method.earned, facts)


def build(
    world: World, config: Config, method: type[AttendGAN] = Recorded
) -> tuple[Any, Players, tuple[Stage, ...]]:
    """The method, its players and the stages to play, as `training.train` makes them."""
    prepare_torch(config)
    made = method(config, world)
    players = Players(
        build_learners(made, config, world),
        made.streams(),
        world,
        config.seed,
        config.engine.accumulate,
    )
    check_batches(players)
    return made, players, choose_stages(made.algorithm(), config.stages)


def prepared(players: Players, update: Update, moment: Moment | None = None) -> tuple[Batch, ...]:
    """The batches that an update's loss is given, drawn and prepared."""
    drawn = tuple(next(players.streams[name]) for name in update.data)
    if update.prepare is None:
        return drawn
    with torch.no_grad():
        return update.prepare(moment or Moment(players.seed, 0), *drawn).batches


def updates_of(stages: Sequence[Stage], stage: str, learner: str) -> Update:
    """The update of `learner` in the stage of that name."""
    (found,) = [s for s in stages if s.name == stage]
    return next(update for update in found.updates if update.learner == learner)


def play_update(players: Players, stage: Stage, update: Update, progress: Progress) -> Round:
    """One update alone, wrapped as its stage says."""
    players.learners[update.learner].wrap(stage.train.get(update.learner))
    result = Round()
    learn(update, (), players, progress, result)
    return result


def same_bits(a: Any, b: Any) -> bool:
    """Are two states equal to the bit, whatever they are made of?"""
    if isinstance(a, Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same_bits(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same_bits, a, b))
    return bool(a == b)
