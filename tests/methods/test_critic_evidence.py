"""Weights of what a critic is shown: each head weighs real and fake alike, whatever it is shown."""

from __future__ import annotations

from itertools import product

import pytest
import torch

from distgan.methods.critic_evidence import Evidence, rows, weighted_auc
from distgan.metrics.health import auc

JOINT = [
    Evidence.joint(corpora, image=image, style=style, swapped=swapped)
    for corpora, image, style, swapped in product(
        (["styled"], ["text"], ["styled", "text"]), (False, True), (False, True), (0.0, 0.3)
    )
]
SEPARATE = [
    Evidence.separate(corpora, style=style, match_samples=share, swapped=swapped)
    for corpora, style, share, swapped in product(
        (["styled", "factual"], ["factual", "text"], ["styled", "factual", "text"]),
        (False, True),
        (0.0, 0.25, 1.0),
        (0.0, 0.3),
    )
]


def fakes(evidence: Evidence) -> list[tuple[float, ...]]:
    """The shares of everything that is shown as fake."""
    placed = (evidence.wrong_image, evidence.wrong_style, evidence.swapped)
    alone = [shares for shares in (evidence.samples, evidence.factual_samples) if shares]
    return alone + [shares for kind in placed for shares in kind.values()]


@pytest.mark.parametrize("evidence", JOINT + SEPARATE)
def test_real_and_fake_weigh_one_for_each_head(evidence):
    heads = len(evidence.samples)
    for shares in (list(evidence.real.values()), fakes(evidence)):
        assert [sum(x) for x in zip(*shares, strict=True)] == pytest.approx([1.0] * heads)
        assert all(share >= 0 for x in shares for share in x)


def test_what_the_critic_sees_takes_half_of_the_fake_weight():
    for image, style in ((True, False), (False, True), (True, True)):
        evidence = Evidence.joint(["styled"], image=image, style=style)
        assert evidence.samples == (0.5,)
        assert bool(evidence.wrong_image) == image
        assert bool(evidence.wrong_style) == style
    blind = Evidence.joint(["styled"], image=False, style=False)
    assert blind.samples == (1.0,) and not blind.wrong_image and not blind.wrong_style


def test_separate_heads_judge_their_own_material():
    evidence = Evidence.separate(["styled", "factual", "text"], style=True)
    assert evidence.real == {"styled": (0.0, 0.5), "factual": (0.0, 0.5), "text": (1.0, 0.0)}
    assert evidence.samples == (0.5, 0.0), "a sample is no evidence about the match"
    assert evidence.wrong_style == {"text": (0.25, 0.0), "factual": (0.25, 0.0)}
    assert set(evidence.wrong_image) == {"styled", "factual"}, "lines have no image"
    without_lines = Evidence.separate(["styled", "factual"], style=True)
    assert without_lines.real["styled"] == (1.0, 0.5)
    assert set(without_lines.wrong_style) == {"styled", "factual"}
    one_style = Evidence.separate(["factual", "text"], style=False)
    assert one_style.wrong_style == {"factual": (0.5, 0.0)}, "plain facts are not in style"


def test_rows_share_the_weight_of_their_batch():
    batch = {"weight": torch.tensor([0.25, 0.5], dtype=torch.float64), "words": torch.zeros(2, 3)}
    made = rows(batch, fake=(0.5, 0.1))
    torch.testing.assert_close(made["fake"], torch.tensor([[0.125, 0.025], [0.25, 0.05]]).double())
    assert made["real"].shape == (2, 2) and not made["real"].any()
    assert made["words"] is batch["words"]


def test_weighted_auc_is_the_rank_statistic():
    torch.manual_seed(0)
    real, fake = torch.randint(0, 5, (30,)).double(), torch.randint(-1, 4, (20,)).double()
    scores = torch.cat([real, fake])
    is_real = torch.arange(50) < 30
    w_real, w_fake = is_real.double() / 30, (~is_real).double() / 20
    assert float(weighted_auc(scores, w_real, w_fake)) == pytest.approx(float(auc(real, fake)))
    doubled = torch.where(is_real, scores, scores - 10)
    assert float(weighted_auc(doubled, w_real, w_fake)) == pytest.approx(1.0)


def test_weighted_auc_of_parts_adds_up_to_their_mean():
    torch.manual_seed(1)
    scores = torch.randn(8).double()
    is_real = torch.tensor([1, 0, 1, 0, 1, 1, 0, 0]).double()
    real, fake = is_real / 4, (1 - is_real) / 4
    parts = [slice(0, 4), slice(4, 8)]
    shares = [float(weighted_auc(scores[p], real[p], fake[p])) for p in parts]
    halves = [float(weighted_auc(scores[p], real[p] * 2, fake[p] * 2)) for p in parts]
    assert sum(shares) == pytest.approx(sum(halves) / 2)
    without_fakes = weighted_auc(scores, real, torch.zeros(8).double())
    assert without_fakes == 0, "finite"
