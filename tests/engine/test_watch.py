"""What stops a run that has gone wrong, and what it says, on every rank."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from ranks import run_on_ranks
from tiny_methods import SAMPLES, Captioner, TinyConfig, TinyStream, order
from tiny_runs import Case, build
from torch import nn

from distgan.config import OptimizerConfig
from distgan.engine.learner import Learner
from distgan.engine.loop import Players, Suspect, play
from distgan.engine.stages import Loss, Progress, Stage, Update
from distgan.engine.watch import NonFiniteLoss, RanksDiffer, Watch, check_ranks
from distgan.engine.world import World
from distgan.methods.training import train

ROWS, BAD = 7, 11


class Poisoned(Captioner):
    """One image is not a number."""

    def streams(self) -> Mapping[str, TinyStream]:
        streams = super().streams()
        streams["captions"].data["image"][BAD] = torch.nan
        return streams


def train_on_poison(world: World, case: Case, folder: Path) -> str:
    with pytest.raises(NonFiniteLoss) as caught:
        train(case.config(), folder, world, resume=False, build=case.method)
    return str(caught.value)


def test_every_rank_names_the_loss_the_update_the_rank_and_the_samples(tmp_path):
    case = Case(Poisoned, TinyConfig(rows=ROWS, rounds=6))
    said = run_on_ranks(3, train_on_poison, case, tmp_path)
    seed = case.config().seed
    place = next(p for p in range(SAMPLES) if order(seed, SAMPLES, p) == BAD)
    update, row = divmod(place, ROWS)
    cuts = [ROWS * rank // 3 for rank in range(4)]
    rank = next(r for r in range(3) if cuts[r] <= row < cuts[r + 1])
    mine = range(update * ROWS + cuts[rank], update * ROWS + cuts[rank + 1])
    keys = ", ".join(f"sample-{order(seed, SAMPLES, p)}" for p in mine)
    assert (
        said
        == [
            f"the loss of generator is nan on rank {rank} in update {update} (stage mle, round "
            f"{update + 1}); the samples of rank {rank}: {keys}"
        ]
        * 3
    )
    checkpoints = tmp_path / "checkpoints"
    assert all(int(path.name[5:13]) <= update for path in checkpoints.glob("step-*"))


def test_a_gradient_that_is_not_finite_is_found_before_it_is_saved():
    """The square root of zero is finite, its slope is not."""
    network = nn.Linear(2, 1, bias=False)
    learner = Learner("net", network, OptimizerConfig(), World.local())

    class Zeros:
        rows = 2

        def __next__(self):
            weight = torch.full((2,), 0.5, dtype=torch.float64)
            return {"key": ["a", "b"], "x": torch.zeros(2, 2), "weight": weight}

    def root(batch):
        return Loss((batch["weight"] * network(batch["x"])[:, 0].square().sqrt()).sum())

    watch, world = Watch(World.local()), World.local()
    players = Players({"net": learner}, {"zeros": Zeros()}, world, seed=0)
    stages = (Stage("only", 1, (Update("net", root, data=("zeros",)),)),)
    play(stages, players, Progress(), lambda stage, result: watch.add("r", result.suspects))
    with pytest.raises(NonFiniteLoss, match="the gradient of net is nan on rank 0 in update 0"):
        watch.check()
    watch.check()


def test_long_lists_of_samples_are_cut():
    watch = Watch(World.local())
    keys = [f"k{n}" for n in range(21)]
    watch.add("r", [Suspect("the loss of x", torch.tensor(1.0), 0, keys)])
    watch.check()
    watch.add("r", [Suspect("the loss of x", torch.tensor(torch.inf), 4, keys)])
    with pytest.raises(NonFiniteLoss, match=r"is inf .* update 4 .* k0, k1,.* k19 \.\.\.$"):
        watch.check()


def nudge(network: nn.Module) -> None:
    first = next(network.parameters()).view(-1)
    first[0] = torch.nextafter(first[0], first[0] + 1)


def swap(network: nn.Module) -> None:
    first = next(network.parameters()).view(-1)
    first[:2] = first[:2].flip(0)


def flip_sign_of_zero(network: nn.Module) -> None:
    last = list(network.parameters())[-1].view(-1)
    last[0] = -0.0


def move_a_buffer(network: nn.Module) -> None:
    network.register_buffer("seen", torch.tensor([3, 4]))


DIVERGENCES = (nudge, swap, flip_sign_of_zero, move_a_buffer)


@torch.no_grad()
def plant_divergences(world: World) -> list[str]:
    """What is said of each divergence, planted on rank 1; first of none."""
    said = []
    for change in (None, *DIVERGENCES):
        _, players = build(world, Case(Captioner, TinyConfig()))
        network = players.learners["discriminator"].network
        list(network.parameters())[-1].zero_()
        network.register_buffer("seen", torch.tensor([4, 3]))
        if change is not None and world.rank == 1:
            change(network)
        try:
            check_ranks(players.learners.values(), world)
            said.append("")
        except RanksDiffer as error:
            said.append(str(error))
    return said


def test_a_planted_divergence_is_found_on_every_rank():
    expected = ["the weights of discriminator on ranks [1] differ from rank 0's"] * len(DIVERGENCES)
    assert run_on_ranks(3, plant_divergences) == [["", *expected]] * 3


def test_one_rank_cannot_differ():
    _, players = build(World.local(), Case(Captioner, TinyConfig()))
    check_ranks(players.learners.values(), World.local())
