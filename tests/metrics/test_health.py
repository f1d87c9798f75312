"""Health lines say what is wrong, and nothing when nothing is."""

import math

import pytest
import torch

from distgan.metrics.health import auc, health

FINE = {
    "generator/policy_gradient_ratio": 0.12,
    "generator/advantage_std": 0.05,
    "discriminator/critic_auc": 0.8,
    "discriminator/critic_gap": 0.1,
    "generator/entropy": 0.8,
    "generator/length": 9.0,
    "generator/endless": 0.01,
    "generator/distinct_2": 0.4,
    "generator/repeats": 0.0,
    "generator/duplicates": 0.1,
    "generator/loss": 3.0,
}


def test_a_healthy_round_says_nothing():
    assert health(FINE, FINE) == []
    assert health(FINE) == []
    assert health({}) == []


@pytest.mark.parametrize(
    ("key", "value", "line"),
    [
        (
            "generator/policy_gradient_ratio",
            1 / 800,
            "policy gradient is 1/800 of MLE: whiten or raise lambda",
        ),
        ("generator/policy_gradient_ratio", 0.0, "policy gradient is zero"),
        ("generator/policy_gradient_ratio", 40.0, "40 times MLE"),
        ("generator/advantage_std", 0.0, "same reward"),
        ("generator/advantage_std", 50.0, "1000 times the first"),
        ("discriminator/critic_auc", 1.0, "critic saturated, AUC 1.00"),
        ("discriminator/critic_auc", 0.5, "critic guesses, AUC 0.50"),
        ("discriminator/critic_auc", 0.2, "critic prefers fakes, AUC 0.20"),
        ("discriminator/text_auc", 1.0, "critic (text) saturated, AUC 1.00"),
        ("discriminator/critic_gap", -30.0, "critic_gap is 300 times the first"),
        ("generator/entropy", 0.1, "entropy fell from 0.80 to 0.10"),
        ("generator/distinct_2", 0.1, "distinct bigrams fell from 0.40 to 0.10"),
        ("generator/duplicates", 0.6, "60% of the captions repeat another one"),
        ("generator/repeats", 0.3, "30% of the captions stutter"),
        ("generator/endless", 0.25, "25% of the captions have no <end>"),
        ("generator/length", 4.0, "captions shrank from 9.0 to 4.0 words"),
        ("generator/length", 16.0, "captions grew from 9.0 to 16.0 words"),
        ("generator/loss", math.nan, "generator/loss is nan"),
        ("discriminator/critic_auc", math.nan, "discriminator/critic_auc is nan"),
    ],
)
def test_one_thing_wrong_is_one_line(key, value, line):
    found = health(FINE | {key: value}, FINE)
    assert len(found) == 1 and line in found[0]


def slow_auc(real, fake):
    won = sum((r > f) + 0.5 * (r == f) for r in real for f in fake)
    return won / (len(real) * len(fake))


@pytest.mark.parametrize("seed", range(4))
def test_auc_counts_pairs(seed):
    noise = torch.Generator().manual_seed(seed)
    # Few different values, so that ties are common.
    real = torch.randint(0, 6, (17,), generator=noise).float() + 1
    fake = torch.randint(0, 6, (4, 3), generator=noise).float()
    expected = slow_auc(real.tolist(), fake.flatten().tolist())
    assert float(auc(real, fake)) == pytest.approx(expected, abs=1e-12)


def test_auc_at_its_ends():
    high, low = torch.tensor([2.0, 3.0]), torch.tensor([0.0, 1.0])
    assert float(auc(high, low)) == 1
    assert float(auc(low, high)) == 0
    assert float(auc(low, low)) == 0.5
    with pytest.raises(ValueError, match="both kinds, got 2 and 0"):
        auc(high, torch.zeros(0))
