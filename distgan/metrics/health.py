"""What a round's numbers mean, in plain words; and the area under a critic's ROC curve.

`health` knows these numbers, by the last part of their name (`generator/entropy` is `entropy`):

    policy_gradient_ratio   |lambda2 grad L1| / |grad L2|
    advantage_std           spread of the advantages as the loss used them
    *_auc                   chance that a critic scores a real caption above a fake one
    *_gap                   a critic's mean real score - mean fake score
    entropy                 of a sampled caption, nats, summed over its words
    length                  words of a sampled caption, END included
    endless                 share of sampled captions without END
    distinct_2              distinct bigrams / bigrams of the sampled captions
    repeats                 share of sampled captions that stutter
    duplicates              share of sampled captions that repeat another one

Entropy, length, distinct_2, duplicates, spread and gaps are judged against `start`, the numbers
of the stage's first round: what is normal differs from one dataset to another.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor

WEAK_POLICY = 1 / 100  # an unwhitened Wasserstein critic gives 1/800 where whitening gives 1/8
STRONG_POLICY = 10.0  # the likelihood no longer holds the captions to the picture
FLAT_REWARDS = 1e-8
EXPLODED = 100.0  # times the spread or the gap at the start
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
        lines += rule(now, then)
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


def _policy(now: Numbers, then: Numbers) -> Iterator[str]:
    ratio = now.get("policy_gradient_ratio", 1.0)
    if ratio == 0:
        yield "policy gradient is zero: the rewards teach nothing"
    elif ratio < WEAK_POLICY:
        yield f"policy gradient is 1/{1 / ratio:.0f} of MLE: whiten or raise lambda"
    elif ratio > STRONG_POLICY:
        yield f"policy gradient is {ratio:.0f} times MLE: lower lambda"


def _rewards(now: Numbers, then: Numbers) -> Iterator[str]:
    spread = now.get("advantage_std", 1.0)
    if spread < FLAT_REWARDS:
        yield "all words get the same reward: the critic scores every caption alike"
    elif spread > EXPLODED * then.get("advantage_std", math.inf):
        growth = spread / then["advantage_std"]
        yield f"spread of the rewards is {growth:.0f} times the first: whiten"


def _critics(now: Numbers, then: Numbers) -> Iterator[str]:
    for name, area in now.items():
        if not name.endswith("_auc"):
            continue
        head = name.removesuffix("_auc")
        critic = "critic" if head == "critic" else f"critic ({head})"
        if area >= SATURATED_AUC:
            yield f"{critic} saturated, AUC {area:.2f}: fewer d_steps or a smaller critic"
        elif area < REVERSED_AUC:
            yield f"{critic} prefers fakes, AUC {area:.2f}: more d_steps"
        elif area < BLIND_AUC:
            yield f"{critic} guesses, AUC {area:.2f}: rewards are noise; more d_steps"


def _gaps(now: Numbers, then: Numbers) -> Iterator[str]:
    for name in now:
        growth = abs(_share(name, now, then))
        if name.endswith("_gap") and growth > EXPLODED:
            yield f"{name} is {growth:.0f} times the first: clip or penalise the critic"


def _entropy(now: Numbers, then: Numbers) -> Iterator[str]:
    if _share("entropy", now, then) < COLLAPSED_ENTROPY:
        yield (
            f"entropy fell from {then['entropy']:.2f} to {now['entropy']:.2f} nats a caption: "
            "captions are collapsing; lower lambda or the learning rate"
        )


def _bigrams(now: Numbers, then: Numbers) -> Iterator[str]:
    if _share("distinct_2", now, then) < FEW_BIGRAMS:
        before, after = then["distinct_2"], now["distinct_2"]
        yield f"distinct bigrams fell from {before:.2f} to {after:.2f}: captions grow alike"


def _shares(now: Numbers, then: Numbers) -> Iterator[str]:
    if now.get("duplicates", 0.0) - then.get("duplicates", 0.0) > MANY_DUPLICATES:
        yield f"{now['duplicates']:.0%} of the captions repeat another one"
    if now.get("repeats", 0.0) > MANY_REPEATS:
        yield f"{now['repeats']:.0%} of the captions stutter"
    if now.get("endless", 0.0) > MANY_ENDLESS:
        share = now["endless"]
        yield f"{share:.0%} of the captions have no <end>: raise max_length or train MLE longer"


def _length(now: Numbers, then: Numbers) -> Iterator[str]:
    share = _share("length", now, then)
    if not SHORT <= share <= LONG:
        change = "shrank" if share < 1 else "grew"
        yield f"captions {change} from {then['length']:.1f} to {now['length']:.1f} words"


def _share(name: str, now: Numbers, then: Numbers) -> float:
    """A number as a share of the start's; 1 if one of them is not known."""
    if name not in now or not then.get(name):
        return 1.0
    return now[name] / then[name]


RULES: tuple[Callable[[Numbers, Numbers], Iterator[str]], ...] = (
    _policy,
    _rewards,
    _critics,
    _gaps,
    _entropy,
    _bigrams,
    _shares,
    _length,
)
