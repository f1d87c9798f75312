"""One learner by itself: schedules, clipping, averages, precision, and what it refuses."""

from __future__ import annotations

import math
from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from ranks import run_on_ranks
from tiny_methods import Captioner, ImageGAN, TinyConfig, Wasserstein
from tiny_runs import Case, build, copy_weights
from torch import nn

from distgan.config import EngineConfig, OptimizerConfig
from distgan.engine.checkpoint import Store
from distgan.engine.learner import Learner, build_optimizer, learning_rate_share
from distgan.engine.loop import play
from distgan.engine.stages import Loss, Progress
from distgan.engine.world import World
from distgan.methods.training import build_learners, initialise_from

SGD = OptimizerConfig(name="sgd", lr=0.1)


def one_layer(config: OptimizerConfig) -> Learner:
    torch.manual_seed(0)
    return Learner("net", nn.Linear(3, 2), config, World.local())


def push(learner: Learner, gradient: float) -> float:
    """One step with every gradient entry the same; the norm that the step says."""
    for parameter in learner.network.parameters():
        parameter.grad = torch.full_like(parameter, gradient)
    return learner.step().item()


@pytest.mark.parametrize(
    ("config", "shares"),
    [
        (SGD, {0: 1, 1000: 1}),
        (replace(SGD, warmup_updates=4), {0: 0.25, 1: 0.5, 3: 1, 4: 1, 99: 1}),
        (
            replace(SGD, schedule="linear", decay_updates=10, final=0.1),
            {0: 1, 5: 0.55, 10: 0.1, 11: 0.1},
        ),
        (
            replace(SGD, schedule="linear", warmup_updates=2, decay_updates=12),
            {0: 0.5, 1: 1, 2: 1, 7: 0.5, 12: 0},
        ),
        (
            replace(SGD, schedule="cosine", decay_updates=8, final=0.2),
            {0: 1, 2: 0.2 + 0.8 * (1 + math.sqrt(0.5)) / 2, 4: 0.6, 8: 0.2, 20: 0.2},
        ),
    ],
)
def test_schedules(config, shares):
    for update, share in shares.items():
        assert learning_rate_share(config, update) == pytest.approx(share), update


def test_the_schedule_is_what_the_optimizer_steps_with():
    learner = one_layer(replace(SGD, warmup_updates=2))
    before = learner.network.bias.detach().clone()
    push(learner, 1.0)
    assert torch.allclose(before - learner.network.bias, torch.tensor(0.05))
    push(learner, 1.0)
    assert torch.allclose(before - learner.network.bias, torch.tensor(0.15))


def test_the_gradient_is_bounded_only_where_a_bound_is_set():
    free, bound = one_layer(SGD), one_layer(replace(SGD, clip_norm=1.0))
    start = free.network.bias.detach().clone()
    norm = 5 * math.sqrt(8)
    assert push(free, 5.0) == pytest.approx(norm)
    assert push(bound, 5.0) == pytest.approx(norm), "the norm before clipping"
    assert torch.allclose(start - free.network.bias, torch.tensor(0.5))
    assert torch.allclose(start - bound.network.bias, torch.tensor(0.5 / norm))


def test_weight_clipping_is_part_of_the_optimizers_step():
    learner = one_layer(replace(SGD, lr=1.0, clip_weights=0.05))
    for parameter in learner.network.parameters():
        parameter.grad = torch.ones_like(parameter)
    learner.optimizer.step()
    for parameter in learner.network.parameters():
        assert torch.equal(parameter, torch.full_like(parameter, -0.05))


def test_clipping_the_module_after_the_step_is_undone_where_there_are_master_copies():
    """An optimizer that steps copies, as ZeRO does, forgets what was done to the module."""
    config = OptimizerConfig(name="sgd", lr=1.0)
    ends = {}
    for hook in (True, False):
        module, master = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))
        optimizer = build_optimizer([master], replace(config, clip_weights=0.5 if hook else None))
        for gradient in (-3.0, 0.4):
            master.grad = torch.tensor([gradient])
            optimizer.step()
            module.data.copy_(master.data)
            module.data.clamp_(-0.5, 0.5)
        ends[hook] = module.item()
    assert ends[True] == pytest.approx(0.1), "0 + 3 clipped to 0.5, less 0.4"
    assert ends[False] == pytest.approx(0.5), "2.6 clipped: the step back was lost"


def test_weight_clipping_leaves_frozen_submodules_alone():
    config = OptimizerConfig(name="sgd", clip_weights=0.01)
    learner = Learner("net", nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3)), config, World.local())
    before = learner.network[0].weight.detach().clone()
    learner.wrap(("1",))
    with learner.only_learning([learner]):
        learner.network[1].weight.grad = torch.ones(3, 3)
        learner.step()
    assert torch.equal(learner.network[0].weight, before)
    assert learner.network[1].weight.abs().max() <= 0.01


def test_the_average_follows_weights_and_statistics():
    method, players = build(
        World.local(),
        Case(ImageGAN, TinyConfig(batch_norm=True, generator=OptimizerConfig(ema=0.75))),
    )
    learner = players.learners["generator"]
    slow = {k: v.clone() for k, v in learner.network.state_dict().items()}

    def follow(stage, result):
        for key, now in learner.network.state_dict().items():
            whole = not now.is_floating_point()
            slow[key] = now.clone() if whole else 0.75 * slow[key] + 0.25 * now
        return False

    play(method.algorithm(), players, Progress(), follow)
    assert "norm.running_mean" in slow
    for key, value in learner.average.state_dict().items():
        assert torch.allclose(value, slow[key], rtol=1e-12), key
        assert not torch.equal(value, learner.network.state_dict()[key]) or "num_batches" in key
    assert not any(p.requires_grad for p in learner.average.parameters())
    assert not any(m.training for m in learner.average.modules())


def test_other_weights_to_start_from_replace_the_average_too():
    learner = one_layer(replace(SGD, ema=0.99))
    learner.start_from({"weight": torch.ones(2, 3), "bias": torch.zeros(2)})
    assert torch.equal(learner.average.weight, torch.ones(2, 3))


def test_an_average_that_a_checkpoint_lacks_starts_from_its_weights():
    plain = one_layer(SGD)
    push(plain, 1.0)
    learner = one_layer(replace(SGD, ema=0.99))
    learner.load_state_dict(plain.state_dict())
    for name, value in plain.network.state_dict().items():
        assert torch.equal(learner.average.state_dict()[name], value)


def test_init_from_takes_the_networks_it_is_told(tmp_path):
    tiny = TinyConfig(generator=OptimizerConfig(ema=0.9))
    _, source = build(World.local(), Case(Captioner, tiny))
    for learner in source.learners.values():
        for parameter in learner.network.parameters():
            nn.init.constant_(parameter, 0.5)
    states = {name: learner.state_dict() for name, learner in source.learners.items()}
    store = Store(tmp_path / "checkpoints").claim()
    store.save(1, {"identity": {"vocabulary": "12"}, "learners": states})

    _, players = build(World.local(), Case(Captioner, tiny))
    initialise_from(str(tmp_path), ("generator",), players, {"vocabulary": "12"})
    generator, discriminator = (players.learners[n] for n in ("generator", "discriminator"))
    for network in (generator.network, generator.average):
        assert all((p == 0.5).all() for p in network.parameters())
    assert not any((p == 0.5).all() for p in discriminator.network.parameters())
    with pytest.raises(ValueError, match="vocabulary"):
        initialise_from(str(tmp_path), None, players, {"vocabulary": "13"})
    with pytest.raises(ValueError, match="'painter'"):
        initialise_from(str(tmp_path), ("painter",), players, {"vocabulary": "12"})


@pytest.mark.parametrize("kind", [Captioner, ImageGAN, Wasserstein])
def test_bf16_computes_in_half_and_learns_in_float32(kind):
    """A smoke test: autocast covers the losses, weights stay whole, everything learns."""
    case = Case(kind, TinyConfig(rounds=2), precision="float32")
    method, players = build(World.local(), case)
    config = replace(case.config(), engine=EngineConfig(precision="bf16"))
    players = replace(players, learners=build_learners(method, config, World.local()))
    start, dtypes = copy_weights(players), set()
    for network in method.networks.values():
        linear = next(m for m in network.modules() if isinstance(m, nn.Linear))
        linear.register_forward_hook(
            lambda module, given, made: dtypes.add(made.dtype) if torch.is_grad_enabled() else None
        )
    play(method.algorithm(), players, Progress(), lambda stage, result: False)
    assert dtypes == {torch.bfloat16}
    for name, weights in copy_weights(players).items():
        for key, value in weights.items():
            assert value.dtype == torch.float32
            assert value.isfinite().all()
            assert not torch.equal(value, start[name][key]), (name, key)


def test_state_comes_back_whole():
    config = OptimizerConfig(ema=0.9, warmup_updates=10)
    first, second = one_layer(config), one_layer(config)
    for gradient in (1.0, -0.3, 2.0):
        push(first, gradient)
    second.load_state_dict(deepcopy(first.state_dict()))
    for learner in (first, second):
        push(learner, 0.7)
    for network in ("network", "average"):
        ours, theirs = (getattr(x, network).state_dict() for x in (first, second))
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_a_submodule_that_is_not_there_is_named():
    with pytest.raises(ValueError, match="net: nothing learns under 'decoder'"):
        one_layer(SGD).wrap(("weight", "decoder"))


def refused(world: World) -> str:
    _, players = build(world, Case(ImageGAN, TinyConfig(batch_norm=True)))
    try:
        players.learners["generator"].wrap()
    except ValueError as error:
        return str(error)
    return ""


def test_batch_statistics_of_a_few_ranks_are_refused():
    for said in run_on_ranks(2, refused):
        assert "generator.norm: BatchNorm on engine.workers=2 needs GPUs" in said


def test_one_backward_a_gradient_pass_and_one_forward():
    """Whatever a loss calls, and however often, the wrapper sees a single forward."""
    learner = one_layer(SGD)
    seen = []
    learner._call.register_forward_hook(lambda *_: seen.append("forward"))
    network = learner.network

    def loss(batch):
        x = batch["x"]
        return Loss((network(x).sum() - network(-x).square().sum()) * 0.1, {}, {"y": network(x)})

    with learner.only_learning([learner]):
        result = learner.backward(loss, [{"x": torch.ones(4, 3)}], last=True)
    assert seen == ["forward"]
    assert not result.keep["y"].requires_grad
    assert all(p.grad is not None for p in network.parameters())
