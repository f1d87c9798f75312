"""A run that goes on under a changed config follows the new settings, with the old state."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from distgan.config import OptimizerConfig
from distgan.engine.learner import Learner
from distgan.engine.world import World

ADAM = OptimizerConfig(lr=1e-3, betas=(0.9, 0.99))


def learner(config: OptimizerConfig) -> Learner:
    torch.manual_seed(0)
    return Learner("net", nn.Linear(3, 2), config, World.local())


def step(one: Learner) -> None:
    one.network(torch.ones(4, 3)).square().sum().backward()
    one.step()


@pytest.mark.parametrize(
    "change", [{"lr": 5e-2}, {"betas": (0.5, 0.7)}, {"weight_decay": 0.3}], ids=str
)
def test_what_changed_takes_effect_and_moments_stay(change: dict[str, object]) -> None:
    before = learner(ADAM)
    step(before)
    state = before.state_dict()
    after, control = learner(replace(ADAM, **change)), learner(ADAM)
    after.load_state_dict(state)
    control.load_state_dict(state)
    (name,) = change
    assert after.optimizer.param_groups[0][name] == change[name]
    moments = [{k: v.clone() for k, v in each.items()} for each in after.optimizer.state.values()]
    for mine, its in zip(moments, control.optimizer.state.values(), strict=True):
        assert all(torch.equal(mine[key], its[key]) for key in its)
    step(after)
    step(control)
    assert not torch.equal(after.network.weight, control.network.weight)
