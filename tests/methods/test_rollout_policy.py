"""The slow copy that rolls out: what it holds, that it resumes, that nothing else differs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny_captioning import build, prepared, tiny, updates_of

from distgan.engine.stages import Moment
from distgan.engine.world import World
from distgan.methods.attend_gan_config import RolloutConfig
from distgan.methods.rollout_policy import RolloutPolicy
from distgan.models.captioner import AttentionCaptioner


def captioner(seed: int) -> AttentionCaptioner:
    torch.manual_seed(seed)
    return AttentionCaptioner(9, 5, 4, embedding=4, hidden=5, attention=4)


def weights(network: Any) -> torch.Tensor:
    return torch.cat([value.flatten() for value in network.state_dict().values()])


def test_the_copy_is_the_moving_average_of_the_generator_at_each_update() -> None:
    policy, expected = RolloutPolicy(0.8), weights(captioner(0))
    assert torch.equal(weights(policy.follow(captioner(0))), expected)
    for seed in (1, 2, 3):
        copy = policy.follow(captioner(seed))
        expected = 0.8 * expected + 0.2 * weights(captioner(seed))
        torch.testing.assert_close(weights(copy), expected)
        assert not copy.training and not any(p.requires_grad for p in copy.parameters())


def test_a_resumed_copy_goes_on_to_the_bit() -> None:
    whole, first, second = RolloutPolicy(0.8), RolloutPolicy(0.8), RolloutPolicy(0.8)
    for seed in range(4):
        expected = whole.follow(captioner(seed))
    second.load_state_dict(first.state_dict())  # before any rollouts
    for seed in range(2):
        second.follow(captioner(seed))
    third = RolloutPolicy(0.8)
    third.load_state_dict(second.state_dict())
    again = RolloutPolicy(0.8)
    again.load_state_dict(third.state_dict())  # saved before it rolled out
    for seed in range(2, 4):
        copy = again.follow(captioner(seed))
    assert torch.equal(weights(copy), weights(expected))


def test_without_a_copy_the_generator_itself_rolls_out() -> None:
    generator = captioner(0)
    assert RolloutPolicy(None).follow(generator) is generator
    state = RolloutPolicy(0.5)
    state.follow(generator)
    with pytest.raises(ValueError, match=r"method\.rollout\.ema=null"):
        RolloutPolicy(None).load_state_dict(state.state_dict())


@pytest.mark.parametrize(
    ("key", "value"),
    [("ema", 1.0), ("temperature", 0.0), ("top_k", -1), ("top_p", 0.0), ("tile", 0)],
)
def test_settings_out_of_range_are_named(key: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"method.rollout.{key}"):
        RolloutConfig(**{key: value})


def earned(shapes: Any, *settings: str, rounds: int = 1) -> torch.Tensor:
    """The advantages of so many updates in turn, the generator moving in between."""
    config = tiny(shapes, *settings)
    method, players, stages = build(World(), config)
    update, found = updates_of(stages, "adversarial", "generator"), []
    for step in range(rounds):
        found.append(prepared(players, update, Moment(players.seed, step))[0]["advantages"])
        with torch.no_grad():
            for value in method.captioner.parameters():
                value.mul_(1.1)
    return torch.cat(found)


def test_where_the_copy_is_the_generator_nothing_changes(shapes: Any) -> None:
    plain = earned(shapes, rounds=2)
    assert torch.equal(earned(shapes, "method.rollout.ema=0", rounds=2), plain)
    slow = earned(shapes, "method.rollout.ema=0.8", rounds=2)
    half = len(plain) // 2
    assert torch.equal(slow[:half], plain[:half]) and not torch.equal(slow[half:], plain[half:])
