"""ATTEND-GAN's losses: each moves its learner and only it; the policy term is what it says."""

from __future__ import annotations

import pytest
import torch
from tiny_captioning import (
    CLIPPED,
    JOINT,
    TEXT_CRITIC,
    build,
    prepared,
    tiny,
    updates_of,
)
from torch import Tensor, nn

from distgan.engine.loop import Round, learn
from distgan.engine.stages import Moment, Progress
from distgan.engine.world import World
from distgan.losses import mask, word_log_probs
from distgan.models.decoder import UNK

PENALTY = (*TEXT_CRITIC, "method.critic.penalty=10", "method.critic.optimizer.lr=0.001")
CASES = {
    "gru, separate": (),
    "gru, joint": JOINT,
    "textcnn, clipped": (*TEXT_CRITIC, *CLIPPED),
    "textcnn, penalty": PENALTY,
    "one style": ("data.style=positive", "method.factual_weight=0"),
    "pool and swapped words": ("method.pool=10", "method.critic.swapped=0.3"),
}
LEARNS = {  # by stage and learner
    ("factual", "generator"): "generator.",
    ("style", "generator"): "generator.captioner.",
    ("critic", "discriminator"): "discriminator.",
    ("adversarial", "generator"): "generator.captioner.",
    ("adversarial", "discriminator"): "discriminator.",
}


def snapshot(networks: dict[str, nn.Module]) -> dict[str, Tensor]:
    return {
        f"{name}.{key}": value.clone()
        for name, network in networks.items()
        for key, value in network.state_dict().items()
    }


@pytest.mark.parametrize("name", CASES)
def test_an_update_moves_all_of_its_learner_and_nothing_else(name, shapes):
    method, players, stages = build(World.local(), tiny(shapes, *CASES[name]))
    progress, seen = Progress(), set()
    for stage in stages:
        idle = {
            key
            for update in stage.updates
            for key in snapshot(method.networks)
            if key.startswith(LEARNS[stage.name, update.learner])
        }
        for _ in range(stage.rounds):
            for update in stage.updates:
                players.learners[update.learner].wrap(stage.train.get(update.learner))
                before = snapshot(method.networks)
                learn(update, (), players, progress, Round())
                after = snapshot(method.networks)
                moved = {key for key in after if not after[key].equal(before[key])}
                mine = LEARNS[stage.name, update.learner]
                assert {key for key in moved if not key.startswith(mine)} == set()
                assert all(p.grad is None for n in method.networks.values() for p in n.parameters())
                idle -= moved
                seen.add((stage.name, update.learner))
        assert idle == set(), f"never moved in stage {stage.name}"
    assert seen == set(LEARNS)


def gradients(loss: Tensor, network: nn.Module) -> list[Tensor]:
    found = torch.autograd.grad(
        loss, list(network.parameters()), retain_graph=True, allow_unused=True
    )
    return [gradient for gradient in found if gradient is not None]


def reach(loss: Tensor, network: nn.Module) -> bool:
    """Does the loss have a gradient in the network that is not zero?"""
    if not loss.requires_grad:
        return False
    learning = [p for p in network.parameters() if p.requires_grad]
    if not learning:
        return False
    found = torch.autograd.grad(loss, learning, retain_graph=True, allow_unused=True)
    return any(bool(g.any()) for g in found if g is not None)


@pytest.mark.parametrize("name", ["gru, separate", "gru, joint", "textcnn, penalty"])
def test_every_term_reaches_its_learner_and_only_it(name, shapes):
    """The terms one by one, as the loss names them."""
    terms = {
        ("style", "generator"): ["mle", "attention"],
        ("adversarial", "generator"): ["mle", "attention", "policy"],
        ("critic", "discriminator"): {
            "gru, separate": ["critic_gap", "match_gap"],
            "gru, joint": ["critic_gap"],
            "textcnn, penalty": ["critic_gap", "penalty"],
        }[name],
    }
    method, players, stages = build(World.local(), tiny(shapes, *CASES[name]))
    for (stage, learner), expected in terms.items():
        update = updates_of(stages, stage, learner)
        batches = prepared(players, update)
        (other,) = set(method.networks) - {learner}
        with players.learners[learner].only_learning(players.learners.values()):
            loss = update.loss(*batches)
            for term in expected:
                assert reach(loss.log[term], method.networks[learner]), (stage, term)
                assert not reach(loss.log[term], method.networks[other]), (stage, term)


def test_rewards_carry_no_gradient(shapes):
    method, players, stages = build(World.local(), tiny(shapes))
    update = updates_of(stages, "adversarial", "generator")
    drawn = tuple(next(players.streams[name]) for name in update.data)
    with players.learners["generator"].only_learning(players.learners.values()):
        batches = update.prepare(Moment(5, 0), *drawn).batches  # even where torch would track it
    assert not batches[0]["words"].requires_grad
    loss = update.loss(*batches)
    assert gradients(loss.log["policy"], method.critic) == []


def all_alike(method) -> None:
    """A critic that scores every caption the same."""
    for scorer in method.critic.scores:
        nn.init.zeros_(scorer.weight)


@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("whiten", ["true", "false"])
@pytest.mark.parametrize(
    "baseline", [("batch", 1), ("prefix", 1), ("leave_one_out", 3), ("greedy", 1)]
)
@pytest.mark.parametrize("constant", ["reward", "critic"])
def test_a_constant_reward_gives_no_policy_gradient(constant, baseline, whiten, precision, shapes):
    given = (
        f"method.baseline={baseline[0]}",
        f"method.captions={baseline[1]}",
        f"method.whiten={whiten}",
        f"engine.precision={precision}",
        f"method.reward={'constant' if constant == 'reward' else 'critic'}",
        "method.batch=4",
    )
    method, players, stages = build(World.local(), tiny(shapes, *given))
    if constant == "critic":
        all_alike(method)
    update = updates_of(stages, "adversarial", "generator")
    batches = prepared(players, update)
    assert not batches[0]["advantages"].any(), "to the bit"
    loss = update.loss(*batches)
    assert all(not g.any() for g in gradients(loss.log["policy"], method.generator))
    assert loss.log["policy_push"] == 0


def test_without_a_baseline_a_constant_reward_does_push(shapes):
    given = ("method.baseline=none", "method.reward=constant", "method.whiten=false")
    method, players, stages = build(World.local(), tiny(shapes, *given))
    update = updates_of(stages, "adversarial", "generator")
    batches = prepared(players, update)
    assert torch.equal(batches[0]["advantages"], mask(batches[0]["words"]).float())
    assert reach(update.loss(*batches).log["policy"], method.generator)


def test_dropout_is_off_in_the_policy_term_and_on_in_the_likelihood(shapes):
    given = ("method.generator.dropout=0.5", "engine.precision=float64")
    method, players, stages = build(World.local(), tiny(shapes, *given))
    update = updates_of(stages, "adversarial", "generator")
    batches = prepared(players, update)
    losses = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        with players.learners["generator"].only_learning(players.learners.values()):
            losses.append(update.loss(*batches).log)
            assert method.captioner.training, "as it was before"
    assert losses[0]["mle"] != losses[1]["mle"]
    for term in ("policy", "policy_push", "entropy"):
        assert torch.equal(losses[0][term], losses[1][term]), term


def test_the_policy_term_is_equation_1(shapes):
    """By a loop over captions and words, with the same words barred as in sampling."""
    given = ("engine.precision=float64", "method.captions=2")
    method, players, stages = build(World.local(), tiny(shapes, *given))
    update = updates_of(stages, "adversarial", "generator")
    batches = prepared(players, update)
    images = batches[0]
    assert len(images["words"]) == 20
    assert torch.equal(images["id"][::2], images["id"][1::2]), "copies are neighbours"
    assert not torch.equal(images["words"][::2], images["words"][1::2])
    logits, _ = method.captioner(images["regions"], images["words"], images["style"])
    expected = 0.0
    for row in range(20):
        for t, word in enumerate(images["words"][row].tolist()):
            if word == 0:
                break
            scores = logits[row, t].clone()
            scores[UNK] = -torch.inf
            expected -= scores.log_softmax(0)[word] * images["advantages"][row, t] / 20
    loss = update.loss(*batches)
    torch.testing.assert_close(loss.log["policy"], expected)
    lam, likelihood = method.config.lambda_adversarial, method.mle(*batches[1:])
    torch.testing.assert_close(loss.total, lam * expected + likelihood.total)


@pytest.mark.parametrize("term", ["mle", "policy"])
def test_push_is_the_gradient_at_the_logits(term, shapes):
    given = ("engine.precision=float64", "method.lambda_adversarial=0.3")
    method, players, stages = build(World.local(), tiny(shapes, *given))
    update = updates_of(stages, "adversarial", "generator")
    batches = prepared(players, update)
    seen: list[Tensor] = []
    method.captioner.register_forward_hook(lambda module, inputs, output: seen.append(output[0]))
    log = update.loss(*batches).log
    logits = seen[0 if term == "mle" else 1]
    scale = 0.3 if term == "policy" else 1.0
    (gradient,) = torch.autograd.grad(scale * log[term], logits)
    expected = gradient.nan_to_num(0).square().sum()
    assert expected > 0
    torch.testing.assert_close(log[f"{term}_push"].double(), expected)


def test_the_likelihood_weighs_its_parts(shapes):
    """L2 = weighted sum over corpora; lines without pictures do not count where eyes should go."""
    given = (
        "engine.precision=float64",
        "method.styled_weight=1.0",
        "method.factual_weight=0.5",
        "method.text_weight=0.25",
    )
    method, players, stages = build(World.local(), tiny(shapes, *given))
    update = updates_of(stages, "style", "generator")
    assert update.data == ("generator/styled", "generator/text", "generator/factual")
    batches = prepared(players, update)
    shares = (1.0, 0.25, 0.5)
    nats = looks = 0.0
    for batch, share in zip(batches, shares, strict=True):
        logits, attention = method.captioner(batch["regions"], batch["words"], batch["style"])
        nats -= share * word_log_probs(logits, batch["words"]).sum(1).mean()
        if bool(batch["regions"].any()):
            seen = (attention * mask(batch["words"])[..., None]).sum(1)
            looks += share * (1 - seen).square().sum(1).mean()
    loss = update.loss(*batches)
    torch.testing.assert_close(loss.log["mle"], nats)
    torch.testing.assert_close(loss.log["attention"], looks)
    torch.testing.assert_close(loss.total, nats + method.config.lambda_attention * looks)


def test_lines_may_weigh_otherwise_in_the_adversarial_stage(shapes):
    for weight, told in (("0", False), ("null", True), ("0.1", True)):
        given = ("method.text_weight=0.5", f"method.adversarial_text_weight={weight}")
        _, players, stages = build(World.local(), tiny(shapes, *given))
        assert "generator/text" in updates_of(stages, "style", "generator").data
        act = updates_of(stages, "adversarial", "generator")
        assert ("generator/text" in act.data) == told
        if told:
            text = prepared(players, act)[act.data.index("generator/text")]
            expected = 0.5 if weight == "null" else float(weight)
            assert float(text["weight"].sum()) == pytest.approx(expected)


def test_noise_comes_from_keys_alone(shapes):
    """What is sampled depends on no generator, whatever has been drawn from it before."""
    method, players, stages = build(World.local(), tiny(shapes, "method.pool=10"))
    for stage in ("critic", "adversarial"):
        for update in next(s for s in stages if s.name == stage).updates:
            drawn = tuple(next(players.streams[name]) for name in update.data)
            pool, made = method.pool.state_dict(), []
            for seed in (1, 2):
                torch.manual_seed(seed)
                method.pool.load_state_dict(pool)
                with torch.no_grad():
                    made.append(update.prepare(Moment(5, 3), *drawn).batches)
            for one, other in zip(*made, strict=True):
                assert all(torch.equal(one[k], other[k]) for k in one if k != "key")
