"""What ATTEND-GAN's critic and generator are shown: the right labels, the right wrong ones."""

from __future__ import annotations

from itertools import product

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

from distgan.data.shapes.styles import STYLE_OF
from distgan.engine.stages import Batch, Moment
from distgan.engine.world import World
from distgan.randomness import Draw


def evidence(world: World, config, update: int = 0) -> tuple[object, tuple[Batch, ...]]:
    method, players, stages = build(world, config)
    batches = prepared(players, updates_of(stages, "critic", "discriminator"), Moment(5, update))
    return method, batches


def is_real(group: Batch) -> bool:
    return "epsilon" in group and bool(group["real"].any())


def with_their_wrong_ones(groups: tuple[Batch, ...]) -> list[tuple[Batch, list[Batch]]]:
    """Each group of real captions and the groups made from it, which follow it."""
    found: list[tuple[Batch, list[Batch]]] = []
    for group in groups:
        if is_real(group):
            found.append((group, []))
        elif found:
            found[-1][1].append(group)
    return found


def test_wrong_images_are_other_images(shapes):
    for update in range(5):
        method, groups = evidence(
            World.local(), tiny(shapes, *JOINT, "data.style=positive"), update
        )
        ((real, (wrong,)),) = with_their_wrong_ones(groups)
        assert torch.equal(real["words"], wrong["words"])
        assert torch.equal(real["style"], wrong["style"])
        assert bool((real["id"] != wrong["id"]).all()), "never the own image"
        assert int(wrong["id"].min()) >= 0 and int(wrong["id"].max()) < 24
        regions = method.corpora.regions("styled", wrong["id"])
        assert torch.equal(wrong["regions"], regions)
        assert not torch.equal(wrong["regions"], real["regions"])


def test_every_other_image_can_be_the_wrong_one(shapes):
    method, _, _ = build(World.local(), tiny(shapes))
    draw = torch.arange(4000)
    others = method.corpora.other_images("styled", torch.full_like(draw, 3), draw, Draw(0, 4, 0))
    assert sorted(others.unique().tolist()) == [n for n in range(24) if n != 3]
    assert int(torch.bincount(others).max()) < 2 * 4000 / 23


def test_wrong_styles_are_other_styles_asked_for(shapes):
    asked = set()
    for update in range(5):
        method, groups = evidence(World.local(), tiny(shapes, *JOINT), update)
        ((real, (wrong_image, wrong_style)),) = with_their_wrong_ones(groups)
        assert torch.equal(real["words"], wrong_style["words"])
        assert torch.equal(real["id"], wrong_style["id"])
        assert torch.equal(real["regions"], wrong_style["regions"])
        assert torch.equal(real["style"], wrong_image["style"])
        assert bool((real["style"] != wrong_style["style"]).all())
        asked |= set(wrong_style["style"].tolist())
    assert asked == set(method.corpora.asked) == {0, 1}, "never the factual style"


def test_separate_heads_are_shown_their_own_material(shapes):
    config = tiny(shapes, "method.critic.match_samples=0.25", "method.critic.swapped=0.2")
    method, groups = evidence(World.local(), config)
    corpora = method.corpora
    samples, factual_samples = groups[:2]
    assert samples["fake"][:, 0].all() and not samples["fake"][:, 1].any()
    assert factual_samples["fake"][:, 1].all() and not factual_samples["fake"][:, 0].any()
    assert set(factual_samples["style"].tolist()) == {corpora.factual}
    assert set(samples["style"].tolist()) <= set(corpora.asked)
    (styled, wrong_styled), (factual, wrong_factual), (text, wrong_text) = with_their_wrong_ones(
        groups
    )
    assert "regions" not in text and all("regions" not in group for group in wrong_text)
    assert text["real"][:, 0].all() and not text["real"][:, 1].any()
    assert not styled["real"][:, 0].any() and not factual["real"][:, 0].any()
    assert set(factual["style"].tolist()) == {corpora.factual}

    restyled, swapped_text = wrong_text
    assert (restyled["style"] != text["style"]).all() and restyled["fake"][:, 0].all()
    in_style = wrong_factual.pop(1)
    assert "regions" not in in_style and not in_style["fake"][:, 1].any()
    assert set(in_style["style"].tolist()) <= set(corpora.asked)
    for group, wrong in ((styled, wrong_styled), (factual, wrong_factual)):
        beside, swapped = wrong
        assert bool((beside["id"] != group["id"]).all()) and not beside["fake"][:, 0].any()
        assert torch.equal(swapped["regions"], group["regions"])
        assert ((swapped["words"] != group["words"]).sum(1) == 1).all()
    assert ((swapped_text["words"] != text["words"]).sum(1) == 1).all()


CRITICS = {
    "separate": (),
    "separate, factual samples": ("method.critic.match_samples=0.25",),
    "separate, swapped": ("method.critic.swapped=0.25",),
    "joint": JOINT,
    "text": (*TEXT_CRITIC, *CLIPPED),
    "text with style": (*TEXT_CRITIC, *CLIPPED, "method.critic.sees_style=true"),
}


@pytest.mark.parametrize("name", CRITICS)
@pytest.mark.parametrize("style", ["all", "positive"])
def test_the_critics_rows_do_not_depend_on_the_ranks_and_weigh_one(name, style, shapes):
    config = tiny(shapes, *CRITICS[name], f"data.style={style}", "method.critic_batch=7")
    _, whole = evidence(World.local(), config)
    ranks = [evidence(World(rank, 3), config)[1] for rank in range(3)]
    assert [len(groups) for groups in ranks] == [len(whole)] * 3
    for number, group in enumerate(whole):
        for key, value in group.items():
            shares = [groups[number][key] for groups in ranks]
            if key == "key":
                assert value == [k for share in shares for k in share]
            else:
                assert torch.equal(value, torch.cat(shares)), (number, key)
    for weights in ("real", "fake"):
        total = sum(group[weights].sum(0) for group in whole)
        torch.testing.assert_close(total, torch.ones_like(total))


def test_what_the_policy_looks_at_does_not_depend_on_the_ranks(shapes):
    made = []
    for world in (World.local(), World(0, 3), World(1, 3), World(2, 3)):
        method, players, _ = build(world, tiny(shapes))
        images = next(players.streams["generator/images"])
        regions, style = method.corpora.sight(Moment(5, 7), images)
        made.append((images["id"], style, regions))
    for whole, *shares in zip(*made, strict=True):
        assert torch.equal(whole, torch.cat(shares))
    assert set(made[0][1].tolist()) == {0, 1}


@pytest.mark.parametrize(
    ("stage", "learner", "stream"),
    [("style", "generator", 2), ("adversarial", "generator", 3)],
)
def test_factual_captions_are_told_as_factual(stage, learner, stream, shapes, plain):
    """Also where their dataset counts styles otherwise."""
    for path, styled in ((shapes, shapes), (plain, shapes)):
        method, players, stages = build(World.local(), tiny(path, f"data.styled={styled}"))
        assert method.corpora.styles == ("negative", "positive", "factual")
        batch = prepared(players, updates_of(stages, stage, learner))[stream]
        assert set(batch["style"].tolist()) == {2}


def test_the_first_stage_tells_the_factual_style(shapes, plain):
    for learns, path in product((True, False), (shapes, plain)):
        method, players, stages = build(World.local(), tiny(path, f"data.styled={shapes}"))
        told: list[torch.Tensor] = []
        method.captioner.register_forward_pre_hook(
            lambda _, given, told=told: told.append(given[2])
        )
        update = updates_of(stages, "factual", "generator")
        update.loss(*prepared(players, update))
        assert [set(style.tolist()) for style in told] == [{2}], learns


def test_captions_of_a_style_keep_it(shapes):
    method, players, stages = build(World.local(), tiny(shapes))
    update = updates_of(stages, "style", "generator")
    vocabulary = method.corpora.vocabulary
    for name, batch in zip(update.data[:2], prepared(players, update)[:2], strict=True):
        for words, style in zip(batch["words"].tolist(), batch["style"].tolist(), strict=True):
            said = {STYLE_OF[w] for w in vocabulary.decode(words).split() if w in STYLE_OF}
            assert said <= {method.corpora.styles[style]}, name
        assert bool(batch["regions"].any()) == (name != "generator/text"), "lines have no picture"
