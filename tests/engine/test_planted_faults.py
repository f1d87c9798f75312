"""Mistakes that public code bases have made, planted one by one: the parity test sees each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from ranks import run_on_ranks
from tiny_methods import Captioner, ImageGAN, TinyConfig, TinyStream, Wasserstein
from tiny_runs import Case, build, complaints, copy_weights, play_case, play_cases, trespasses
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from distgan.config import OptimizerConfig
from distgan.engine.learner import Learner, LossForward
from distgan.engine.loop import Round, play, split
from distgan.engine.stages import Batch, Loss, Moment, Progress, Stage
from distgan.engine.world import World

pytestmark = pytest.mark.xdist_group("planted faults")  # they share the ranks' work

SGD = OptimizerConfig(name="sgd", lr=0.3, ema=0.9)
CLIPPED = OptimizerConfig(name="rmsprop", lr=0.05, clip_weights=0.1, ema=0.9)

SOUND = Case(Captioner, TinyConfig(rows=7, rounds=3, generator=SGD, discriminator=SGD))
STEEP = Case(Wasserstein, TinyConfig(rows=7, rounds=3, generator=SGD))
SQUEEZED = Case(Wasserstein, TinyConfig(rows=7, rounds=3, discriminator=CLIPPED))


def with_mean_of_this_rank(batch: Batch, size: int) -> Batch:
    rows = len(batch["weight"])
    return {**batch, "weight": torch.full((rows,), 1 / rows / size, dtype=torch.float64)}


class TwoBackwardsWithLocalMeans(Learner):
    """A backward for each half of the samples, as GAN code has one for real and one for fake."""

    def backward(self, loss: Callable[..., Loss], batches: Sequence[Batch], *, last: bool) -> Loss:
        parts = [split(with_mean_of_this_rank(b, self.world.size), 2) for b in batches]
        first, second = zip(*parts, strict=True)
        super().backward(loss, first, last=True)
        return super().backward(loss, second, last=True)


class LeaksIntoFrozen(Learner):
    """The other networks keep `requires_grad` and so collect gradients."""

    @contextmanager
    def only_learning(self, learners: Iterable[Learner]) -> Iterator[None]:
        with super().only_learning([self]):
            yield


class LeavesOthersTraining(Learner):
    """The other networks stay in training mode, so their running statistics move."""

    @contextmanager
    def only_learning(self, learners: Iterable[Learner]) -> Iterator[None]:
        learners = list(learners)
        with super().only_learning(learners):
            for learner in learners:
                learner.network.train()
            yield


class BypassesDDP(Learner):
    """The loss calls the raw network, so nobody exchanges gradients."""

    def wrap(self, groups: tuple[str, ...] | None = None) -> None:
        super().wrap(groups)
        self.unwrap()


class NotMultiplied(Learner):
    """DDP's average makes each share of the loss too small."""

    def backward(self, loss: Callable[..., Loss], batches: Sequence[Batch], *, last: bool) -> Loss:
        def too_small(*parts: Batch) -> Loss:
            result = loss(*parts)
            return result._replace(total=result.total / self.world.size)

        return super().backward(too_small, batches, last=last)


class ClipsByDefault(Learner):
    """DeepSpeed's `gradient_clipping`, where nothing is said about it."""

    def step(self) -> Tensor:
        self.config = replace(self.config, clip_norm=1.0)
        return super().step()


class ClampsAfterTheStep(Learner):
    """The module's weights are clamped when the step, and with it the average, is done."""

    def __init__(
        self, name: str, network: nn.Module, config: OptimizerConfig, world: World
    ) -> None:
        self._bound = config.clip_weights
        super().__init__(name, network, replace(config, clip_weights=None), world)

    @torch.no_grad()
    def step(self) -> Tensor:
        norm = super().step()
        if self._bound is not None:
            for parameter in self.trainable.values():
                parameter.clamp_(-self._bound, self._bound)
        return norm


class MeansOfThisRank(TinyStream):
    """Every rank's mean counts alike, though their shares differ by a sample."""

    def __next__(self) -> Batch:
        return with_mean_of_this_rank(super().__next__(), self.world.size)


class LocalMeans(Captioner):
    def streams(self) -> Mapping[str, TinyStream]:
        return {
            name: MeansOfThisRank(stream.data, stream.rows, stream.seed, self.world)
            for name, stream in super().streams().items()
        }


class NoiseOfThisRank(Captioner):
    def _write(self, purpose: str, moment: Moment, batch: Batch) -> Tensor:
        return super()._write(purpose, moment._replace(seed=moment.seed + self.world.rank), batch)


class PlacesOnThisRank(Captioner):
    """Noise keyed by a sample's row in the rank's own batch."""

    def _write(self, purpose: str, moment: Moment, batch: Batch) -> Tensor:
        return super()._write(
            purpose, moment, {**batch, "position": torch.arange(len(batch["id"]))}
        )


class StockDDP(Learner):
    """DDP as it comes: after the first backward it sorts its buckets anew."""

    def wrap(self, groups: tuple[str, ...] | None = None) -> None:
        super().wrap(groups)
        with self.only_learning([self]):
            self._call = DistributedDataParallel(LossForward(self.network))


FAULTS: dict[str, tuple[Case, Case, str]] = {
    # what: the sound case, the faulty one, and what the complaint says
    "two backwards, local means": (
        SOUND,
        replace(SOUND, learner=TwoBackwardsWithLocalMeans),
        "generator ends",
    ),
    "leaks into the frozen": (
        STEEP,
        replace(STEEP, learner=LeaksIntoFrozen),
        "discriminator ends",
    ),
    "bypasses the wrapper": (SOUND, replace(SOUND, learner=BypassesDDP), "other bits"),
    "local means": (SOUND, replace(SOUND, method=LocalMeans), "generator ends"),
    "noise by rank": (SOUND, replace(SOUND, method=NoiseOfThisRank), "draw 0 differs"),
    "noise by row": (SOUND, replace(SOUND, method=PlacesOnThisRank), "draw 0 differs"),
    "clips by default": (STEEP, replace(STEEP, learner=ClipsByDefault), "discriminator ends"),
    "loss not multiplied": (SOUND, replace(SOUND, learner=NotMultiplied), "generator ends"),
    "clamps after the step": (
        SQUEEZED,
        replace(SQUEEZED, learner=ClampsAfterTheStep),
        "discriminator average ends",
    ),
}


@pytest.fixture(scope="module")
def faulty() -> dict[str, list]:
    """What two ranks made of every faulty case, played in one go."""
    ranks = run_on_ranks(2, play_cases, [case for _, case, _ in FAULTS.values()])
    return {name: [traces[n] for traces in ranks] for n, name in enumerate(FAULTS)}


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_seen(name, faulty):
    sound, _, said = FAULTS[name]
    found = complaints(play_case(World.local(), sound), faulty[name])
    assert any(said in complaint for complaint in found), found


@pytest.mark.parametrize(
    ("learner", "said"),
    [
        (LeaksIntoFrozen, "a gradient is left on discriminator"),
        (LeavesOthersTraining, "generator's update moved discriminator.0.1.running_mean"),
    ],
)
def test_a_planted_trespass_is_seen(learner, said):
    found = trespasses(Case(ImageGAN, TinyConfig(batch_norm=True, rounds=1), learner=learner))
    assert any(said in complaint for complaint in found), found


def test_without_a_fault_nobody_complains():
    cases = [SOUND, STEEP, SQUEEZED]
    ranks = run_on_ranks(2, play_cases, cases)
    for number, case in enumerate(cases):
        one = play_case(World.local(), case)
        assert complaints(one, [traces[number] for traces in ranks]) == []


def resumes_exactly(world: World, cases: Sequence[Case]) -> list[bool]:
    """Whether each case, cut after four rounds and gone on with, ends in the same bits."""
    return [_resumes_exactly(world, case) for case in cases]


def _resumes_exactly(world: World, case: Case) -> bool:
    method, players = build(world, case)
    progress, kept = Progress(), {}

    def keep(stage: Stage, result: Round) -> bool:
        if progress.round == 4:
            states = {name: x.state_dict() for name, x in players.learners.items()}
            streams = {name: x.state_dict(world.sum) for name, x in players.streams.items()}
            kept.update(deepcopy({"learners": states, "streams": streams, **vars(progress)}))
        return False

    play(method.algorithm()[:1], players, progress, keep)
    ends = copy_weights(players)
    other_method, others = build(world, case)
    for name, learner in others.learners.items():
        learner.load_state_dict(kept["learners"][name])
    for name, stream in others.streams.items():
        stream.load_state_dict(kept["streams"][name])
    place = Progress(**{key: kept[key] for key in vars(progress)})
    play(other_method.algorithm()[:1], others, place, lambda stage, result: False)
    for learner in (*players.learners.values(), *others.learners.values()):
        learner.unwrap()
    return all(
        torch.equal(value, ends[name][key])
        for name, weights in copy_weights(others).items()
        for key, value in weights.items()
    )


@pytest.mark.slow
def test_a_wrapper_that_sorts_its_buckets_anew_is_seen():
    """It takes three ranks: the sum of two numbers knows no sequence."""
    sound = Case(Captioner, TinyConfig(rows=7, rounds=8), precision="float32")
    cases = [sound, replace(sound, learner=StockDDP)]
    assert run_on_ranks(3, resumes_exactly, cases) == [[True, False]] * 3
