"""DeepSpeed's learner: trains as the plain one, resumes to the bit, and goes on from any other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from ranks import run_on_ranks
from tiny_backends import BackendCase, under
from tiny_methods import Captioner, ImageGAN, TinyConfig, Wasserstein
from tiny_runs import Case, Trace, build, complaints, distance, play_case, play_cases
from torch import nn

from distgan.config import BackendConfig, OptimizerConfig
from distgan.engine.checkpoint import find, load
from distgan.engine.loop import play
from distgan.engine.stages import Loss, Progress
from distgan.engine.world import World
from distgan.methods.training import train

pytest.importorskip("deepspeed", reason="deepspeed is not installed")
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("deepspeed")]

ADAM = OptimizerConfig(lr=0.01, ema=0.9, warmup_updates=3)
SGD = OptimizerConfig(name="sgd", lr=0.3, momentum=0.9, clip_norm=0.5)
CLIPPED = OptimizerConfig(name="rmsprop", lr=0.01, clip_weights=0.1)
TOLERANCE = 1e-5
"""Of a network's movement, in float32."""

METHODS = {
    "captioner": (Captioner, TinyConfig(rows=7, rounds=2, generator=ADAM, discriminator=SGD)),
    # Parts of the painter are used by no sample of some rank, another part on each.
    "image gan": (ImageGAN, TinyConfig(rows=10, rounds=3, generator=ADAM)),
    "penalty": (Wasserstein, TinyConfig(rows=7, rounds=3, generator=ADAM)),
    "clipped": (Wasserstein, TinyConfig(rows=10, rounds=3, discriminator=CLIPPED)),
}
BACKENDS: dict[str, dict[str, Any]] = {
    **{f"ZeRO-{zero}": {"learner": under(zero)} for zero in range(4)},
    **{f"ZeRO-{z}, accumulate 2": {"learner": under(z), "accumulate": 2} for z in range(4)},
    "ZeRO-2 on the host": {"learner": under(2, offload=True)},
    "ZeRO-3 on the host": {"learner": under(3, offload=True)},
}


@pytest.fixture(scope="module")
def played() -> dict[tuple[str, str], list[Trace]]:
    """What each of two ranks made of every method on every backend, by (method, backend)."""
    names = [(method, backend) for method in METHODS for backend in BACKENDS]
    cases = [Case(*METHODS[m], precision="float32", **BACKENDS[b]) for m, b in names]
    ranks = run_on_ranks(2, play_cases, [replace(c) for c in cases])
    return {name: [traces[n] for traces in ranks] for n, name in enumerate(names)}


@pytest.mark.parametrize("method", METHODS)
def test_every_stage_trains_as_one_process(method, played):
    one = play_case(World.local(), Case(*METHODS[method], precision="float32"))
    for backend in BACKENDS:
        found = complaints(one, played[method, backend], TOLERANCE)
        assert found == [], (method, backend)


def the_whole_and_the_cut(
    world: World, cases: Sequence[Case], folders: Sequence[Path], ends: Sequence[int]
) -> None:
    """Each case twice from start to end, and once stopped after each of `ends` rounds."""
    for case, folder in zip(cases, folders, strict=True):
        for name, stops in (("whole", ()), ("again", ()), ("cut", ends)):
            for stop in (*stops, None):
                start(world, case, folder / name, stop)


def start(world: World, case: Case, folder: Path, until: int | None) -> bool:
    return train(case.config(), folder, world, resume=True, until=until, build=case.method).finished


def same_bits(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same_bits(a[key], b[key]) for key in a)
    return bool(a == b)


RESUMED = TinyConfig(rows=7, rounds=3, dropout=0.3, generator=ADAM, discriminator=ADAM)


def test_reruns_and_resumed_runs_end_in_the_same_bits_at_three_ranks(tmp_path):
    """Stopped in each of the three stages, at a stage's end and between checkpoints."""
    cases = [BackendCase(Captioner, RESUMED, zero=zero) for zero in range(4)]
    cases.append(replace(cases[0], zero=None, discriminator=BackendConfig(backend="deepspeed")))
    cases.append(replace(cases[2], offload="cpu"))
    folders = [tmp_path / str(number) for number in range(len(cases))]
    run_on_ranks(3, the_whole_and_the_cut, cases, folders, [2, 3, 5, 7])
    for case, folder in zip(cases, folders, strict=True):
        whole, again, cut = (
            load(find(folder / name))["learners"] for name in ("whole", "again", "cut")
        )
        assert same_bits(whole, again), case
        assert same_bits(whole, cut), case


def starts(world: World, cases: Sequence[Case], folder: Path, ends: Sequence[int | None]) -> None:
    for case, end in zip(cases, ends, strict=True):
        start(world, case, folder, end)


def test_any_backend_goes_on_from_any_other_and_any_number_of_workers(tmp_path):
    """Weights, averages and optimizer state are saved whole, in one form."""
    tiny = replace(RESUMED, dropout=0.0)
    plain, *deep = (BackendCase(Captioner, tiny, zero=zero) for zero in (None, 0, 1, 2, 3))
    zero_0, zero_1, zero_2, zero_3 = deep
    whole, passed = tmp_path / "whole", tmp_path / "passed"
    start(World.local(), plain, whole, None)
    start(World.local(), plain, passed, 1)
    run_on_ranks(2, starts, [zero_3, zero_1, plain], passed, [2, 4, 5])
    run_on_ranks(3, starts, [zero_2, zero_0, zero_3], passed, [6, 7, 8])
    start(World.local(), plain, passed, None)
    one, other = load(find(whole)), load(find(passed))
    assert one["streams"] == other["streams"]
    _, players = build(World.local(), Case(Captioner, tiny, precision="float32"))
    for name, learner in one["learners"].items():
        theirs, begun = other["learners"][name], players.learners[name].network.state_dict()
        assert learner.keys() <= theirs.keys()
        for part in ("network", "average"):
            gap = distance(learner[part], theirs[part])
            assert gap <= TOLERANCE * distance(learner[part], begun), (name, part, gap)
        mine, its = learner["optimizer"]["state"], theirs["optimizer"]["state"]
        assert mine.keys() == its.keys()
        for number, state in mine.items():
            for key, value in state.items():
                torch.testing.assert_close(its[number][key], value, rtol=1e-3, atol=1e-6)


def one_layer(world: World, config: OptimizerConfig, **settings: Any) -> Any:
    torch.manual_seed(0)
    learner = under(settings.pop("zero", 1), **settings)("net", nn.Linear(3, 2), config, world)
    learner.wrap()
    return learner


def push(learner: Any, factor: float) -> float:
    """One step with every gradient entry `factor`; the norm that the step says."""

    def loss() -> Loss:
        return Loss(sum(p.sum() for p in learner.network.parameters()) * factor / 2)

    with learner.only_learning([learner]):
        learner.backward(loss, [], last=True)
        return float(learner.step())


def small_things(world: World) -> dict[str, Any]:
    """Norms, bounds, schedules, what is refused, and fp16, on two ranks."""
    found: dict[str, Any] = {}
    for zero in range(4):
        sgd = OptimizerConfig(name="sgd", lr=0.1, warmup_updates=2, clip_norm=1.0)
        learner = one_layer(world, sgd, zero=zero)
        before = learner.network.bias.detach().clone()
        found[f"norm {zero}"] = push(learner, 5.0)
        found[f"moved {zero}"] = before - learner.network.bias.detach()
        found[f"wild {zero}"] = push(learner, math.inf)
        learner.unwrap()
        try:
            learner.state_dict()
        except RuntimeError as error:
            found["lost"] = str(error)
    from deepspeed.accelerator import get_accelerator

    get_accelerator().is_fp16_supported = lambda: True  # of the CPU it says no, for its slowness
    for zero in (1, 2, 3):
        half = {"zero": zero, "autocast": torch.float16}
        learner = one_layer(world, OptimizerConfig(name="sgd", lr=1e-4, ema=0.5), **half)
        learner._engine.optimizer.loss_scaler.cur_scale = 2.0**8
        found[f"half {zero}"] = [push(learner, 1.0) for _ in range(3)]
        found[f"overflow {zero}"] = push(learner, 6e4)
        kept = learner.state_dict()
        found[f"masters {zero}"] = kept["network"]["bias"]
        found[f"rounded {zero}"] = learner.network.bias.detach().clone()
        other = one_layer(world, OptimizerConfig(name="sgd", lr=1e-4, ema=0.5), **half)
        other.load_state_dict(kept)
        other.wrap()
        for one in (learner, other):
            push(one, 1.0)
        ends = [one.state_dict() for one in (learner, other)]
        found[f"alike {zero}"] = same_bits(*ends)
        for one in (learner, other):
            one.unwrap()
    return found


def test_small_things():
    found = run_on_ranks(2, small_things)[0]
    norm = 5 * math.sqrt(8)
    torch.manual_seed(0)
    start = nn.Linear(3, 2).bias.detach()
    for zero in range(4):
        assert found[f"norm {zero}"] == pytest.approx(norm), "before clipping"
        assert torch.allclose(found[f"moved {zero}"], torch.tensor(0.05 / math.sqrt(8)))
        assert not math.isfinite(found[f"wild {zero}"]), "the watch stops the run"
    assert found["lost"] == "net: its engine is gone, and the optimizer's state with it"
    for zero in (1, 2, 3):
        assert found[f"half {zero}"] == pytest.approx([math.sqrt(8)] * 3, rel=1e-3)
        assert found[f"overflow {zero}"] == 0, "scaled, it is no number; nothing moves"
        masters, rounded = found[f"masters {zero}"], found[f"rounded {zero}"]
        assert torch.allclose(masters, start - 3e-4, rtol=0, atol=1e-6), "small steps add up"
        assert torch.equal(rounded, masters.half().float())
        assert found[f"alike {zero}"]


def play_with_statistics(world: World) -> str:
    case = Case(ImageGAN, TinyConfig(batch_norm=True), precision="float32", learner=under(1))
    method, players = build(world, case)
    try:
        play(method.algorithm(), players, Progress(), lambda stage, result: False)
    except ValueError as error:
        return str(error)
    return ""


def test_batch_statistics_of_a_few_ranks_are_refused():
    for said in run_on_ranks(2, play_with_statistics):
        assert "generator.norm: BatchNorm on engine.workers=2 needs GPUs" in said
