"""The losses of adversarial captioning, as pure functions of tensors.

Equation numbers are those of ATTEND-GAN (arXiv 1908.02943). Everything is minimised, and a
critic's score is high for real captions.

Letters: B captions, T words, V vocabulary, K regions, E channels of an embedded word.

`weight` (B,) float64 adds to one over the global batch, so each function returns this part's
share of the mean over the global batch: the shares of ranks and micro-batches add up to it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import softplus

from distgan.models.decoder import PAD

Score = Literal["bce", "wasserstein"]


def mask(words: Tensor) -> Tensor:
    """m_t, (B, T) bool: where `words` (B, T) holds x_1..x_L, `END` included, and not padding."""
    return words != PAD


def word_log_probs(logits: Tensor, words: Tensor, barred: Sequence[int] = ()) -> Tensor:
    """log p(x_t | x_<t), (B, T), zero at padding.

    logits (B, T, V) are those that chose `words` (B, T). The words `barred` have probability
    zero and the others share theirs, as in a sampler that cannot pick them.
    """
    if barred:
        index = torch.tensor(barred, device=logits.device)
        logits = logits.index_fill(-1, index, -torch.inf)
    chosen = logits.log_softmax(-1).gather(-1, words[..., None])[..., 0]
    return chosen.masked_fill(~mask(words), 0.0)


def mle(logits: Tensor, words: Tensor, weight: Tensor) -> Tensor:
    """Eq. 3, first term: -sum_t m_t log p(x_t), a sum over time, its mean over the batch."""
    return -(weight * word_log_probs(logits, words).sum(1)).sum()


def attention_regulariser(attention: Tensor, words: Tensor, weight: Tensor) -> Tensor:
    """Eq. 3, second term, without lambda1: sum_k (1 - sum_t m_t e_{t,k})^2, mean over the batch.

    attention (B, T, K): the weights e_t over regions that chose x_t; each adds to one over K.
    The least value for a caption of L words is K - 2L + L^2/K, an even spread, and not zero.
    """
    seen = attention.masked_fill(~mask(words)[..., None], 0.0).sum(1)
    return (weight * (1 - seen).square().sum(-1)).sum()


def policy_gradient(log_probs: Tensor, advantages: Tensor, words: Tensor, weight: Tensor) -> Tensor:
    """Eq. 1: -sum_t m_t log G(x_t | x_<t, a) A_t, a sum over time, its mean over the batch.

    log_probs (B, T) are those of the SAMPLED `words`; advantages (B, T) are constants. The paper
    prints G in place of log G, which is not the gradient of the expected reward.
    """
    padding = ~mask(words)
    constant = advantages.detach().masked_fill(padding, 0.0)
    return -(weight * (log_probs.masked_fill(padding, 0.0) * constant).sum(1)).sum()


def entropy(logits: Tensor, words: Tensor, weight: Tensor) -> Tensor:
    """sum_t m_t H(p_t) in nats, its mean over the batch; logits (B, T, V), which may be -inf."""
    log_p = logits.log_softmax(-1)
    barred = log_p == -torch.inf
    per_word = -(log_p.exp() * log_p.masked_fill(barred, 0.0)).sum(-1)
    return (weight * per_word.masked_fill(~mask(words), 0.0).sum(1)).sum()


def bce_critic(real: Tensor, fake: Tensor, real_weight: Tensor, fake_weight: Tensor) -> Tensor:
    """Binary cross-entropy of scores: softplus(-real) + softplus(fake), each a weighted mean.

    real (R,) and fake (F,) need not be equally many; each weight adds to one by itself.
    """
    return (real_weight * softplus(-real)).sum() + (fake_weight * softplus(fake)).sum()


def wasserstein_critic(
    real: Tensor, fake: Tensor, real_weight: Tensor, fake_weight: Tensor
) -> Tensor:
    """Eq. 10 with high scores for real captions: mean fake score minus mean real score."""
    return (fake_weight * fake).sum() - (real_weight * real).sum()


CRITIC_LOSSES: dict[Score, Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]] = {
    "bce": bce_critic,
    "wasserstein": wasserstein_critic,
}


def reward(scores: Tensor, kind: Score) -> Tensor:
    """D_phi of Eq. 2 from a critic's scores: the probability of real, or the score itself."""
    return _REWARDS[kind](scores)


_REWARDS: dict[Score, Callable[[Tensor], Tensor]] = {
    "bce": torch.sigmoid,
    "wasserstein": lambda scores: scores,
}


def gradient_penalty(
    critic: Callable[[Tensor], Tensor],
    real: Tensor,
    fake: Tensor,
    mask: Tensor,
    epsilon: Tensor,
    weight: Tensor,
) -> Tensor:
    """Two-sided penalty (|| dD/dx || - 1)^2 at x = epsilon real + (1 - epsilon) fake, its mean.

    Gulrajani et al. 2017 (arXiv 1704.00028), Eq. 3 without its lambda. real, fake (B, T, E) are
    embedded captions, taken as constants; mask (B, T) bool says where either of the two has a
    word. epsilon (B,) in [0, 1). `critic` maps (B, T, E) to one score a row, (B,), each a
    function of its own row. The norm is over all time and channels of a caption.
    """
    mix = epsilon.to(real.dtype)[:, None, None]
    between = (mix * real.detach() + (1 - mix) * fake.detach()).requires_grad_()
    scores = critic(between)
    (slope,) = torch.autograd.grad(scores.sum(), between, create_graph=True)
    norm = torch.linalg.vector_norm(slope * mask[..., None], dim=(1, 2))
    return (weight * (norm - 1).square()).sum()
