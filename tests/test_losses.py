"""The losses against slow loops over numbers, and the facts they must obey."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from distgan import losses
from distgan.models.decoder import END, PAD, START, UNK

B, T, V, K = 5, 6, 9, 7
LENGTHS = (6, 1, 3, 5, 2)


@pytest.fixture
def words() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    words = torch.randint(4, V, (B, T), generator=generator)
    for row, length in enumerate(LENGTHS):
        words[row, length:] = PAD
        if length < T:
            words[row, length - 1] = END
    return words


@pytest.fixture
def logits() -> Tensor:
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(B, T, V, generator=generator, dtype=torch.float64)
    logits[..., [PAD, START]] = -torch.inf
    return logits.requires_grad_()


@pytest.fixture
def attention() -> Tensor:
    generator = torch.Generator().manual_seed(2)
    return torch.randn(B, T, K, generator=generator, dtype=torch.float64).softmax(-1)


@pytest.fixture
def weight() -> Tensor:
    weight = torch.arange(1, B + 1, dtype=torch.float64)
    return weight / weight.sum()


def slow_log_prob(row: np.ndarray, word: int, barred: tuple[int, ...] = ()) -> float:
    total = sum(math.exp(x) for v, x in enumerate(row) if v not in barred)
    return row[word] - math.log(total)


def test_mask_counts_every_word_and_no_padding(words: Tensor) -> None:
    assert losses.mask(words).sum(1).tolist() == list(LENGTHS)


@pytest.mark.parametrize("barred", [(), (UNK,), (UNK, 4)])
def test_word_log_probs(words: Tensor, logits: Tensor, barred: tuple[int, ...]) -> None:
    words = words.masked_fill(words == 4, 5)
    got = losses.word_log_probs(logits, words, barred).detach().numpy()
    for b, length in enumerate(LENGTHS):
        for t in range(T):
            row, word = logits[b, t].detach().numpy(), int(words[b, t])
            want = slow_log_prob(row, word, barred) if t < length else 0.0
            assert got[b, t] == pytest.approx(want, abs=1e-12)


def test_barred_words_share_out_their_probability(logits: Tensor) -> None:
    every = torch.arange(V).expand(B, V)
    row = logits[:, :1].expand(B, V, V)
    log_probs = losses.word_log_probs(row, every, (UNK,))[:, END:]  # PAD counts as padding
    assert log_probs[:, UNK - END].eq(-torch.inf).all()
    assert torch.allclose(log_probs.exp().sum(1), torch.ones(B, dtype=torch.float64))


def test_mle_is_a_sum_over_time(words: Tensor, logits: Tensor, weight: Tensor) -> None:
    want = 0.0
    for b, length in enumerate(LENGTHS):
        for t in range(length):
            want -= float(weight[b]) * slow_log_prob(
                logits[b, t].detach().numpy(), int(words[b, t])
            )
    loss = losses.mle(logits, words, weight)
    assert loss.item() == pytest.approx(want, abs=1e-12)
    loss.backward()
    assert logits.grad is not None and logits.grad.isfinite().all()
    assert logits.grad[~losses.mask(words)].abs().max() == 0


def test_attention_regulariser(words: Tensor, attention: Tensor, weight: Tensor) -> None:
    want = 0.0
    for b, length in enumerate(LENGTHS):
        for k in range(K):
            seen = sum(float(attention[b, t, k]) for t in range(length))
            want += float(weight[b]) * (1 - seen) ** 2
    got = losses.attention_regulariser(attention, words, weight)
    assert got.item() == pytest.approx(want, abs=1e-12)


def test_least_attention_regulariser_is_an_even_spread(words: Tensor, weight: Tensor) -> None:
    even = torch.full((B, T, K), 1 / K, dtype=torch.float64)
    least = sum(
        float(weight[b]) * (K - 2 * length + length**2 / K) for b, length in enumerate(LENGTHS)
    )
    got = losses.attention_regulariser(even, words, weight)
    assert got.item() == pytest.approx(least, abs=1e-12)
    generator = torch.Generator().manual_seed(3)
    for _ in range(100):
        other = torch.randn(B, T, K, generator=generator, dtype=torch.float64).softmax(-1)
        assert losses.attention_regulariser(other, words, weight) >= least - 1e-12


@pytest.mark.parametrize("constant", [16 / 49, 16 / 196])
def test_the_regularisers_constant_does_not_change_its_gradient(
    words: Tensor, weight: Tensor, constant: float
) -> None:
    generator = torch.Generator().manual_seed(4)
    energies = torch.randn(B, T, K, generator=generator, dtype=torch.float64, requires_grad=True)
    (one,) = torch.autograd.grad(
        losses.attention_regulariser(energies.softmax(-1), words, weight), energies
    )
    seen = (energies.softmax(-1) * losses.mask(words)[..., None]).sum(1)
    shifted = (weight * (constant - seen).square().sum(-1)).sum()
    (other,) = torch.autograd.grad(shifted, energies)
    assert torch.allclose(one, other, atol=1e-14)
    assert one.abs().max() > 1e-3


def test_policy_gradient(words: Tensor, logits: Tensor, weight: Tensor) -> None:
    generator = torch.Generator().manual_seed(5)
    advantages = torch.randn(B, T, generator=generator, dtype=torch.float64)
    advantages[~losses.mask(words)] = torch.nan  # nothing after `END` may be read
    advantages.requires_grad_()
    want = 0.0
    for b, length in enumerate(LENGTHS):
        for t in range(length):
            log_prob = slow_log_prob(logits[b, t].detach().numpy(), int(words[b, t]), (UNK,))
            want -= float(weight[b]) * log_prob * advantages[b, t].item()
    log_probs = losses.word_log_probs(logits, words, (UNK,))
    loss = losses.policy_gradient(log_probs, advantages, words, weight)
    assert loss.item() == pytest.approx(want, abs=1e-12)
    loss.backward()
    assert advantages.grad is None
    assert logits.grad is not None and logits.grad.isfinite().all()


def test_policy_gradient_makes_rewarded_words_likelier() -> None:
    logits = torch.zeros(1, 1, V, requires_grad=True)
    words = torch.full((1, 1), 5)
    log_probs = losses.word_log_probs(logits, words)
    loss = losses.policy_gradient(log_probs, torch.ones(1, 1), words, torch.ones(1).double())
    loss.backward()
    assert logits.grad is not None and logits.grad[0, 0, 5] < 0


def test_entropy(words: Tensor, logits: Tensor, weight: Tensor) -> None:
    want = 0.0
    for b, length in enumerate(LENGTHS):
        for t in range(length):
            row = logits[b, t].detach().numpy()
            for v in range(END, V):
                log_p = slow_log_prob(row, v)
                want -= float(weight[b]) * math.exp(log_p) * log_p
    loss = losses.entropy(logits, words, weight)
    assert loss.item() == pytest.approx(want, abs=1e-12)
    loss.backward()
    assert logits.grad is not None and logits.grad.isfinite().all()


def test_entropy_of_even_words_is_the_logarithm_of_their_number() -> None:
    got = losses.entropy(torch.zeros(1, 1, V), torch.full((1, 1), 5), torch.ones(1).double())
    assert got.item() == pytest.approx(math.log(V), rel=1e-6)


def test_critic_losses() -> None:
    real, fake = torch.tensor([0.3, -2.0, 40.0]).double(), torch.tensor([0.1, -1.5]).double()
    real_weight, fake_weight = torch.tensor([0.2, 0.3, 0.5]).double(), torch.tensor([0.9, 0.1])
    bce = wasserstein = 0.0
    for score, w in zip(real.tolist(), real_weight.tolist(), strict=True):
        bce -= w * math.log(1 / (1 + math.exp(-score)))
        wasserstein -= w * score
    for score, w in zip(fake.tolist(), fake_weight.tolist(), strict=True):
        bce -= w * math.log(1 - 1 / (1 + math.exp(-score)))
        wasserstein += w * score
    scores = (real, fake, real_weight, fake_weight)
    assert losses.bce_critic(*scores).item() == pytest.approx(bce, abs=1e-9)
    assert losses.wasserstein_critic(*scores).item() == pytest.approx(wasserstein, abs=1e-9)


@pytest.mark.parametrize("kind", ["bce", "wasserstein"])
def test_high_scores_are_real_for_loss_and_reward(kind: losses.Score) -> None:
    real = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    fake = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    one = torch.ones(1, dtype=torch.float64)
    losses.CRITIC_LOSSES[kind](real, fake, one, one).backward()
    assert real.grad is not None and real.grad < 0  # descent raises the real score
    assert fake.grad is not None and fake.grad > 0
    low, high = losses.reward(torch.tensor([-1.0, 1.0]), kind)
    assert high > low


def test_reward_of_bce_is_a_probability() -> None:
    scores = torch.tensor([-3.0, 0.0, 3.0])
    assert torch.allclose(losses.reward(scores, "bce"), 1 / (1 + (-scores).exp()))
    assert losses.reward(scores, "wasserstein") is scores


@pytest.mark.parametrize("parts", [(2, 3), (1, 1, 3)])
def test_shares_add_up_to_the_whole(
    words: Tensor, logits: Tensor, attention: Tensor, weight: Tensor, parts: tuple[int, ...]
) -> None:
    columns = [x.split(parts) for x in (logits, attention, words, weight)]
    whole = losses.mle(logits, words, weight)
    whole = whole + losses.attention_regulariser(attention, words, weight)
    shares = torch.stack(
        [
            losses.mle(x, w, p) + losses.attention_regulariser(e, w, p)
            for x, e, w, p in zip(*columns, strict=True)
        ]
    )
    assert torch.allclose(shares.sum(), whole, atol=1e-14)


def small_critic(parameters: tuple[Tensor, ...], x: Tensor) -> Tensor:
    first, second = parameters
    return torch.tanh(x @ first).sum(1).square() @ second


@pytest.fixture
def embedded() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(6)
    real = torch.randn(3, 4, 2, generator=generator, dtype=torch.float64)
    fake = torch.randn(3, 4, 2, generator=generator, dtype=torch.float64)
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [1, 1, 1, 0]], dtype=torch.bool)
    return real, fake, mask, torch.tensor([0.1, 0.7, 0.4], dtype=torch.float64)


def test_gradient_penalty_is_two_sided_and_per_caption(
    embedded: tuple[Tensor, Tensor, Tensor, Tensor],
) -> None:
    real, fake, mask, epsilon = embedded
    slopes = torch.tensor([0.1, 3.0], dtype=torch.float64)
    weight = torch.tensor([0.5, 0.2, 0.3], dtype=torch.float64)
    got = losses.gradient_penalty(lambda x: (x @ slopes).sum(1), real, fake, mask, epsilon, weight)
    want = 0.0
    for b in range(3):
        squares = sum(0.1**2 + 3.0**2 for t in range(4) if mask[b, t])
        want += float(weight[b]) * (math.sqrt(squares) - 1) ** 2
    assert got.item() == pytest.approx(want, abs=1e-12)
    flat = losses.gradient_penalty(
        lambda x: (x * 1e-3).sum((1, 2)), real, fake, mask, epsilon, weight
    )
    assert flat > 0.9  # slopes below one are penalised too


def test_gradient_penalty_by_finite_differences(
    embedded: tuple[Tensor, Tensor, Tensor, Tensor],
) -> None:
    real, fake, mask, epsilon = embedded
    generator = torch.Generator().manual_seed(7)
    first = torch.randn(2, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    second = torch.randn(3, generator=generator, dtype=torch.float64, requires_grad=True)
    weight = torch.tensor([0.5, 0.2, 0.3], dtype=torch.float64)
    step, want = 1e-5, 0.0
    for b in range(3):
        x = epsilon[b] * real[b] + (1 - epsilon[b]) * fake[b]
        squares = 0.0
        for t in range(4):
            for c in range(2 if mask[b, t] else 0):
                nudge = torch.zeros_like(x)
                nudge[t, c] = step
                up, down = (
                    small_critic((first, second), (x + sign * nudge)[None]).item()
                    for sign in (1, -1)
                )
                squares += ((up - down) / (2 * step)) ** 2
        want += float(weight[b]) * (math.sqrt(squares) - 1) ** 2

    def penalty(*parameters: Tensor) -> Tensor:
        return losses.gradient_penalty(
            lambda x: small_critic(parameters, x), real, fake, mask, epsilon, weight
        )

    assert penalty(first, second).item() == pytest.approx(want, rel=1e-6)
    assert torch.autograd.gradcheck(penalty, (first, second))


def test_gradient_penalty_of_a_flat_critic_has_a_finite_gradient(
    embedded: tuple[Tensor, Tensor, Tensor, Tensor],
) -> None:
    real, fake, mask, epsilon = embedded
    slope = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    weight = torch.full((3,), 1 / 3, dtype=torch.float64)
    penalty = losses.gradient_penalty(
        lambda x: (x @ slope).sum(1), real, fake, mask, epsilon, weight
    )
    penalty.backward()
    assert penalty.item() == pytest.approx(1.0)
    assert slope.grad is not None and slope.grad.isfinite().all()
