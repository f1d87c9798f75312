"""What goes wrong in silence with two networks under DeepSpeed or DDP, planted: parity sees it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
from ranks import run_on_ranks
from tiny_backends import under
from tiny_methods import Captioner, TinyConfig, Wasserstein
from tiny_runs import Case, Trace, complaints, play_case, play_cases
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from distgan.config import OptimizerConfig
from distgan.engine.deepspeed import DeepSpeedLearner
from distgan.engine.learner import Learner
from distgan.engine.loop import split
from distgan.engine.stages import Batch, Loss
from distgan.engine.world import World

pytest.importorskip("deepspeed", reason="deepspeed is not installed")
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("deepspeed")]

TOLERANCE = 1e-5
SGD = OptimizerConfig(name="sgd", lr=0.3)
CLIPPED = OptimizerConfig(name="rmsprop", lr=0.05, clip_weights=0.1, ema=0.9)

SOUND = Case(Captioner, TinyConfig(rows=7, rounds=2, generator=SGD, discriminator=SGD))
STEEP = Case(Wasserstein, TinyConfig(rows=7, rounds=3, generator=SGD))
SQUEEZED = Case(Wasserstein, TinyConfig(rows=7, rounds=3, discriminator=CLIPPED))


class TwoBackwards(DeepSpeedLearner):
    """A backward for each half of the samples, as GAN code has one for real and one for fake."""

    def backward(self, loss: Callable[..., Loss], batches: Sequence[Batch], *, last: bool) -> Loss:
        first, second = zip(*(split(batch, 2) for batch in batches), strict=True)
        super().backward(loss, first, last=True)
        return super().backward(loss, second, last=True)


class LeaksIntoFrozen(DeepSpeedLearner):
    """The network uses the engine's own parameters, and the other ones are not frozen."""

    def _refresh(self) -> None:
        super()._refresh()
        for name, held in zip(self._names, self._held.parameters(), strict=True):
            owner, _, leaf = name.rpartition(".")
            self.network.get_submodule(owner)._parameters[leaf] = held

    @contextmanager
    def only_learning(self, learners: Iterable[Learner]) -> Iterator[None]:
        with super().only_learning([self]):
            if self._engine is not None:
                self._held.requires_grad_(True)  # they were the network's, and frozen with it
            yield


class ThroughTheRawModule(DeepSpeedLearner):
    """The loss, with its log-probabilities, is of the raw module, not of the engine's forward."""

    def backward(self, loss: Callable[..., Loss], batches: Sequence[Batch], *, last: bool) -> Loss:
        raw = loss(*batches)

        def around() -> Loss:
            tie = sum(p.sum() for p in self.network.parameters() if p.requires_grad)
            return raw._replace(total=raw.total + 0 * tie)

        return super().backward(around, [], last=last)


class ClipsByDefault(DeepSpeedLearner):
    """Nothing is said about clipping, and DeepSpeed bounds the gradient's norm by one."""

    def _settings(self) -> dict[str, Any]:
        return {k: v for k, v in super()._settings().items() if k != "gradient_clipping"}


class ClampsAfterTheStep(DeepSpeedLearner):
    """The module's weights are clamped, and the next step overwrites them from the masters."""

    def __init__(self, name: str, network: Any, config: OptimizerConfig, *rest: Any, **more: Any):
        self._bound = config.clip_weights
        super().__init__(name, network, replace(config, clip_weights=None), *rest, **more)

    @torch.no_grad()
    def step(self) -> Tensor:
        norm = super().step()
        if self._bound is not None:
            for parameter in self._held.parameters():
                parameter.clamp_(-self._bound, self._bound)
            self._refresh()
        return norm


class NotMultiplied(DeepSpeedLearner):
    """DeepSpeed's average makes each share of the loss too small."""

    def backward(self, loss: Callable[..., Loss], batches: Sequence[Batch], *, last: bool) -> Loss:
        def too_small() -> Loss:
            result = loss(*batches)
            return result._replace(total=result.total / self.world.size)

        return super().backward(too_small, [], last=last)


class StaticGraph(Learner):
    """DDP around the network, as most code has it, told that every backward is as the first.

    A penalty's second derivatives then pass by its exchange.
    """

    def wrap(self, groups: tuple[str, ...] | None = None) -> None:
        self._choose(groups)
        with self.only_learning([self]):
            self._outer = DistributedDataParallel(Twin(self.network), static_graph=True)

    def backward(self, loss: Callable[..., Loss], batches: Sequence[Batch], *, last: bool) -> Loss:
        self.network.forward = lambda *given: self._outer(*given)
        try:
            result = loss(*batches)
            (result.total * self.world.size).backward()
        finally:
            del self.network.forward
        return result._replace(total=result.total.detach())

    def unwrap(self) -> None:
        super().unwrap()
        self._outer: Any = None


class Twin(nn.Module):
    """The network under another name, so that the network itself can call DDP."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, *given: Tensor) -> Tensor:
        return type(self.network).forward(self.network, *given)


class NotStatic(StaticGraph):
    """The same, and DDP looks at every backward anew."""

    def wrap(self, groups: tuple[str, ...] | None = None) -> None:
        self._choose(groups)
        with self.only_learning([self]):
            self._outer = DistributedDataParallel(Twin(self.network))


FAULTS: dict[str, tuple[Case, Any, str]] = {
    # what: the sound case, the faulty learner, and what the complaint says
    "two backwards, ZeRO-1": (SOUND, under(1, TwoBackwards), "generator ends"),
    "two backwards, ZeRO-2": (SOUND, under(2, TwoBackwards), "generator ends"),
    "leaks into the frozen, ZeRO-0": (STEEP, under(0, LeaksIntoFrozen), "discriminator ends"),
    "raw module, ZeRO-0": (SOUND, under(0, ThroughTheRawModule), "generator ends"),
    "raw module, ZeRO-2": (SOUND, under(2, ThroughTheRawModule), "generator ends"),
    **{
        f"clips by default, ZeRO-{zero}": (
            STEEP,
            under(zero, ClipsByDefault),
            "discriminator ends",
        )
        for zero in range(4)
    },
    "clamps after the step, ZeRO-1": (SQUEEZED, under(1, ClampsAfterTheStep), "discriminator ends"),
    "clamps after the step, ZeRO-2": (SQUEEZED, under(2, ClampsAfterTheStep), "discriminator ends"),
    "loss not multiplied, ZeRO-1": (SOUND, under(1, NotMultiplied), "generator ends"),
}
SOUND_ONES = {
    f"{kind}, ZeRO-{zero}": (case, under(zero), "")
    for kind, case in {"sound": SOUND, "steep": STEEP, "squeezed": SQUEEZED}.items()
    for zero in range(4)
}


@pytest.fixture(scope="module")
def played() -> dict[str, list[Trace]]:
    """What two ranks made of every sound and faulty case, played in one go."""
    both = FAULTS | SOUND_ONES
    cases = [replace(c, precision="float32", learner=learner) for c, learner, _ in both.values()]
    ranks = run_on_ranks(2, play_cases, cases, seconds=500)
    return {name: [traces[n] for traces in ranks] for n, name in enumerate(both)}


def found_in(case: Case, ranks: list[Trace]) -> list[str]:
    return complaints(
        play_case(World.local(), replace(case, precision="float32")), ranks, TOLERANCE
    )


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_seen(name, played):
    case, _, said = FAULTS[name]
    found = found_in(case, played[name])
    assert any(said in complaint for complaint in found), found


def test_without_a_fault_nobody_complains(played):
    for name, (case, _, _) in SOUND_ONES.items():
        assert found_in(case, played[name]) == [], name


def test_a_penalty_in_a_static_graph_is_seen():
    cases = [replace(STEEP, learner=learner) for learner in (StaticGraph, NotStatic)]
    ranks = run_on_ranks(2, play_cases, cases)
    one = play_case(World.local(), STEEP)
    assert any("other bits" in said for said in complaints(one, [traces[0] for traces in ranks]))
    assert complaints(one, [traces[1] for traces in ranks]) == []
