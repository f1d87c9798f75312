"""What a round's numbers mean, in plain words; and the area under a critic's ROC curve.

`health` knows these numbers, by the last part of their name (`generator/entropy` is `entropy`):

    policy_gradient_ratio   |lambda2 grad L1| / |grad L2|
    advantage_std           spread of the advantages, before whitening
    critic_auc              chance that a real caption scores above a generated one
    critic_gap              mean real score - mean generated score
    entropy                 of the next word, nats, mean over sampled words
    length                  words of a sampled caption, END included
    endless                 share of sampled captions without END
    distinct_2              distinct bigrams / bigrams of the sampled captions
    repeats                 share of sampled captions that stutter
    duplicates              share of sampled captions that repeat another one

Entropy, length, distinct_2, duplicates and the spread are judged against `start`, the numbers of
the stage's first round: what is normal differs from one dataset to another.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

WEAK_POLICY = 1 / 100  # an unwhitened Wasserstein critic gives 1/800 where whitening gives 1/8
STRONG_POLICY = 10.0  # the likelihood no longer holds the captions to the picture
FLAT_REWARDS = 1e-8
EXPLODED = 100.0  # times the spread at the start
SATURATED_AUC = 0.99
BLIND_AUC = 0.55
REVERSED_AUC = 0.45
COLLAPSED_ENTROPY = 0.3  # of the start's
FEW_BIGRAMS = 0.5  # of the start's
SHORT = 0.6  # of the start's
LONG = 1.6  # of the start's
MANY_DUPLICATES = 0.25  # more than at the start
MANY_REPEATS = 0.1
MANY_ENDLESS = 0.1

Numbers = Mapping[str, float]


def health(values: Numbers, start: Numbers | None = None) -> list[str]:
    """Lines about what looks wrong in a round, worst first; none if nothing does.

    Numbers that are missing are not judged.
    """
    now = {name.rsplit("/", 1)[-1]: value for name, value in values.items()}
    then = {name.rsplit("/", 1)[-1]: value for name, value in (start or {}).items()}
    lines = [f"{name} is {value}" for name, value in values.items() if not math.isfinite(value)]
    now = {name: value for name, value in now.items() if math.isfinite(value)}
    for rule in RULES:
        line = rule(now, then)
        if line:
            lines.append(line)
    return lines


def auc(real_scores: Tensor, fake_scores: Tensor) -> Tensor:
    """P(real > fake) + P(real = fake) / 2, the rank statistic; 0-d float64, on the same device.

    Scores are of any shape. 1: the critic tells all apart, 0.5: it guesses.
    """
    real, fake = real_scores.detach().flatten(), fake_scores.detach().flatten().sort().values
    if not len(real) or not len(fake):
        raise ValueError(f"AUC needs scores of both kinds, got {len(real)} and {len(fake)}")
    below = torch.searchsorted(fake, real, right=False)
    not_above = torch.searchsorted(fake, real, right=True)
    return (below + not_above).double().mean() / (2 * len(fake))


def _policy(now: Numbers, then: Numbers) -> str | None:
    ratio = now.get("policy_gradient_ratio")
    if ratio is None:
        return None
    if ratio == 0:
        return "policy gradient is zero: the rewards teach nothing"
    if ratio < WEAK_POLICY:
        return f"policy gradient is 1/{1 / ratio:.0f} of MLE: whiten or raise lambda"
    if ratio > STRONG_POLICY:
        return f"policy gradient is {ratio:.0f} times MLE: lower lambda"
    return None


def _spread(now: Numbers, then: Numbers) -> str | None:
    spread = now.get("advantage_std")
    if spread is None:
        return None
    if spread < FLAT_REWARDS:
        return "all words get the same reward: the critic scores every caption alike"
    if spread > EXPLODED * then.get("advantage_std", math.inf):
        factor = spread / then["advantage_std"]
        return f"reward spread is {factor:.0f} times the first round's: bound or whiten the critic"
    return None


def _critic(now: Numbers, then: Numbers) -> str | None:
    area = now.get("critic_auc")
    if area is None:
        return None
    if area >= SATURATED_AUC:
        return f"critic saturated, AUC {area:.2f}: fewer d_steps or a smaller critic"
    if area < REVERSED_AUC:
        return f"critic prefers generated captions, AUC {area:.2f}: more d_steps"
    if area < BLIND_AUC:
        return f"critic guesses, AUC {area:.2f}: rewards are noise; more d_steps"
    return None


def _entropy(now: Numbers, then: Numbers) -> str | None:
    share = _share("entropy", now, then)
    if share is None or share >= COLLAPSED_ENTROPY:
        return None
    return (
        f"entropy fell from {then['entropy']:.2f} to {now['entropy']:.2f} nats a word: "
        "captions are collapsing; lower lambda or the learning rate"
    )


def _bigrams(now: Numbers, then: Numbers) -> str | None:
    share = _share("distinct_2", now, then)
    if share is None or share >= FEW_BIGRAMS:
        return None
    return (
        f"distinct bigrams fell from {then['distinct_2']:.2f} to {now['distinct_2']:.2f}: "
        "captions grow alike"
    )


def _duplicates(now: Numbers, then: Numbers) -> str | None:
    share = now.get("duplicates")
    if share is None or share - then.get("duplicates", 0.0) <= MANY_DUPLICATES:
        return None
    return f"{share:.0%} of the captions repeat another one"


def _repeats(now: Numbers, then: Numbers) -> str | None:
    share = now.get("repeats", 0.0)
    return f"{share:.0%} of the captions stutter" if share > MANY_REPEATS else None


def _endless(now: Numbers, then: Numbers) -> str | None:
    share = now.get("endless", 0.0)
    if share <= MANY_ENDLESS:
        return None
    return f"{share:.0%} of the captions have no <end>: raise max_length or train MLE longer"


def _length(now: Numbers, then: Numbers) -> str | None:
    share = _share("length", now, then)
    if share is None or SHORT <= share <= LONG:
        return None
    change = "shrank" if share < 1 else "grew"
    return f"captions {change} from {then['length']:.1f} to {now['length']:.1f} words"


def _share(name: str, now: Numbers, then: Numbers) -> float | None:
    """A number as a share of the start's, if both are known."""
    if name not in now or not then.get(name):
        return None
    return now[name] / then[name]


RULES: tuple[Callable[[Numbers, Numbers], str | None], ...] = (
    _policy,
    _spread,
    _critic,
    _entropy,
    _bigrams,
    _duplicates,
    _repeats,
    _endless,
    _length,
)
