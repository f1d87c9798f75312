"""The policy gradient of the whole chain is the gradient of the expected score.

The world is small enough to enumerate: three words and `END`, at most three of them, so 40
captions. J = sum_x p(x) s(x) is differentiated by autograd, and nothing of the chain is in it.
The chain (log-probabilities, Q, baseline, advantages, loss) is then weighted by p(x), with Q from
enumerated completions: its expectation in closed form. Planted mistakes must break the equality.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import product
from typing import Any, NamedTuple

import pytest
import torch
from tiny_decoders import tiny_decoder
from torch import Tensor

from distgan.advantages import advantages, leave_one_out, mean_by_word, whitened
from distgan.losses import mask, policy_gradient, word_log_probs
from distgan.models.captioner import AttentionCaptioner
from distgan.models.decoder import END, PAD, UNK
from distgan.randomness import STREAMS, Draw
from distgan.rollouts import MonteCarlo, Samples, greedy, monte_carlo, sample, whole_captions
from distgan.work import Work

V, T, K, D = 7, 3, 4, 5
WORDS = (4, 5, 6)


class World(NamedTuple):
    captioner: Any
    regions: Tensor  # (1, K, D)
    captions: Tensor  # (40, T), all there are
    scores: Tensor  # (40,), what a critic says of each


def all_captions() -> Tensor:
    ended = [(*x, END) for n in range(T) for x in product(WORDS, repeat=n)]
    cut = list(product(WORDS, repeat=T))
    return torch.tensor([[*x, *[PAD] * (T - len(x))] for x in ended + cut])


@pytest.fixture(scope="module")
def world() -> World:
    torch.manual_seed(0)
    captioner = AttentionCaptioner(V, T, D, embedding=3, hidden=4, attention=3).double()
    with torch.no_grad():
        captioner.readout.weight.mul_(3)
    return world_of(captioner)


def world_of(captioner: Any) -> World:
    regions = torch.randn(1, K, D, dtype=torch.float64)
    captions = all_captions()
    return World(captioner, regions, captions, torch.randn(len(captions), dtype=torch.float64))


def log_probs(world: World, words: Tensor) -> Tensor:
    logits, _ = world.captioner(world.regions.expand(len(words), -1, -1), words)
    return word_log_probs(logits, words, (UNK,))


def gradient(world: World, total: Tensor) -> Tensor:
    parameters = tuple(world.captioner.parameters())
    grads = torch.autograd.grad(total, parameters, allow_unused=True, materialize_grads=True)
    return torch.cat([g.flatten() for g in grads])


def expected_score(world: World) -> Tensor:
    """J, by a plain product of softmax probabilities, differentiable."""
    captions = world.captions
    logits, _ = world.captioner(world.regions.expand(len(captions), -1, -1), captions)
    mass = logits.exp() * (torch.arange(V) != UNK)
    p = (mass / mass.sum(-1, keepdim=True)).gather(2, captions[..., None])[..., 0]
    probability = torch.where(captions == PAD, 1.0, p).prod(1)
    assert probability.sum().item() == pytest.approx(1, abs=1e-14)
    return (probability * world.scores).sum()


def exact_values(world: World, p: Tensor) -> MonteCarlo:
    """Q and V of every caption by enumerating what begins with each of its prefixes."""
    x, s = world.captions, world.scores
    value = torch.zeros(len(x), T + 1, dtype=torch.float64)
    for row, length in enumerate((x != PAD).sum(1).tolist()):
        for t in range(length + 1):
            same = (x[:, :t] == x[row, :t]).all(1)
            value[row, t] = (p * s)[same].sum() / p[same].sum()
    real = x != PAD
    return MonteCarlo(value[:, 1:] * real, value[:, :-1] * real, s)


Chain = Callable[[World, Tensor, MonteCarlo, Tensor, str], Tensor]


def chain(world: World, words: Tensor, values: MonteCarlo, weight: Tensor, baseline: str) -> Tensor:
    """Eq. 1 as the package computes it."""
    A = advantages(values, words, baseline, whiten=False)
    return policy_gradient(log_probs(world, words), A, words, weight)


def expected_gradient(world: World, chain: Chain, baseline: str) -> Tensor:
    with torch.no_grad():
        p = log_probs(world, world.captions).sum(1).exp()
    values = exact_values(world, p)
    return gradient(world, chain(world, world.captions, values, p, baseline))


@pytest.mark.parametrize("baseline", ["none", "prefix"])
def test_expectation_equals_exact_enumeration(world: World, baseline: str) -> None:
    exact = gradient(world, expected_score(world))
    assert exact.abs().amax() > 1e-2
    got = expected_gradient(world, chain, baseline)
    torch.testing.assert_close(got, -exact, atol=1e-10, rtol=0)


@pytest.mark.parametrize("name", ["gru", "gpt2"])
def test_with_every_decoder(name: str) -> None:
    """Exactly, and Q of sampled rollouts on the mean."""
    other = world_of(tiny_decoder(name, 1, V, T, D))
    exact = gradient(other, expected_score(other))
    assert exact.abs().amax() > 1e-2
    got = expected_gradient(other, chain, "prefix")
    torch.testing.assert_close(got, -exact, atol=1e-10, rtol=0)
    words, values = roll(other, 4000, partial(critic, other), 1)
    with torch.no_grad():
        p = log_probs(other, other.captions).sum(1).exp()
    error = values.q - exact_values(other, p).q[caption_number(other, words)]
    z = error.mean(0) / (error.std(0) / 4000**0.5).clamp_min(1e-12)
    assert z.abs().amax() < 4, z


@pytest.mark.parametrize("baseline", ["none", "greedy"])
def test_whole_captions_are_an_unbiased_reward_of_each_word(world: World, baseline: str) -> None:
    """REINFORCE with the sentence's score, alone and less that of the greedy caption."""
    exact = gradient(world, expected_score(world))
    with torch.no_grad():
        p = log_probs(world, world.captions).sum(1).exp()
    image = torch.zeros(len(p), dtype=torch.int64)
    samples = Samples(world.captions, image, image, image)
    values = whole_captions(samples, lambda words, image: world.scores)
    best = greedy(world.captioner, world.captioner.look(world.regions), image[:1])
    score = world.scores[caption_number(world, best)].expand(len(p))
    A = advantages(values, world.captions, baseline, whiten=False, greedy_score=score)
    got = gradient(world, policy_gradient(log_probs(world, world.captions), A, world.captions, p))
    torch.testing.assert_close(got, -exact, atol=1e-10, rtol=0)


@pytest.mark.parametrize("rollouts", [False, True], ids=["whole", "rollouts"])
def test_leave_one_out_is_unbiased_over_all_pairs_of_captions(world: World, rollouts: bool) -> None:
    exact, M = gradient(world, expected_score(world)), len(world.captions)
    with torch.no_grad():
        p = log_probs(world, world.captions).sum(1).exp()
    pair = torch.cartesian_prod(torch.arange(M), torch.arange(M)).flatten()
    weight = (p[:, None] * p).flatten().repeat_interleave(2) / 2
    words, values = world.captions[pair], exact_values(world, p)
    if not rollouts:
        q = values.score[:, None] * (world.captions != PAD)
        values = MonteCarlo(q, None, values.score)
    values = MonteCarlo(values.q[pair], None, values.score[pair])
    A = advantages(values, words, "leave_one_out", whiten=False, copies=2)
    got = gradient(world, policy_gradient(log_probs(world, words), A, words, weight))
    torch.testing.assert_close(got, -exact, atol=1e-10, rtol=0)


def test_rollouts_of_another_policy_bias_the_gradient(world: World) -> None:
    """A slow copy of the generator: no bias where it is the generator, more the further it lags.

    The same holds for rollouts at another temperature, or cut to likely words.
    """
    exact = gradient(world, expected_score(world))
    with torch.no_grad():
        p = log_probs(world, world.captions).sum(1).exp()
        logits, _ = world.captioner(world.regions.expand(len(p), -1, -1), world.captions)
    bias = []
    for temperature in (1.0, 1.1, 1.5, 3.0):
        other = word_log_probs(logits / temperature, world.captions, (UNK,)).sum(1).exp()
        values = exact_values(world, other)
        got = gradient(world, chain(world, world.captions, values, p, "none"))
        bias.append(float((got + exact).norm()))
    assert bias[0] < 1e-10 and 1e-4 < bias[1] < bias[2] < bias[3]


# Planted mistakes


def flipped(world: World, words: Tensor, values: MonteCarlo, weight: Tensor, b: str) -> Tensor:
    return -chain(world, words, values, weight, b)


def shifted(world: World, words: Tensor, values: MonteCarlo, weight: Tensor, b: str) -> Tensor:
    """Q_t rewards x_{t+1}."""
    q = torch.cat([values.q[:, :1], values.q[:, :-1]], 1) * (words != PAD)
    return chain(world, words, values._replace(q=q), weight, b)


def dropped_end(world: World, words: Tensor, values: MonteCarlo, weight: Tensor, b: str) -> Tensor:
    A = advantages(values, words, b, whiten=False)
    without = words.masked_fill(words == END, PAD)
    return policy_gradient(log_probs(world, words), A, without, weight)


def scored_after_end(
    world: World, words: Tensor, values: MonteCarlo, weight: Tensor, b: str
) -> Tensor:
    """What the decoder would go on to write is rewarded with the caption's score."""
    longer = words.masked_fill(words == PAD, WORDS[0])
    A = advantages(values, words, b, whiten=False)
    A = torch.where(words == PAD, values.score[:, None], A)
    return policy_gradient(log_probs(world, longer), A, longer, weight)


def summed(world: World, words: Tensor, values: MonteCarlo, weight: Tensor, b: str) -> Tensor:
    """A return: the sum of Q from t on."""
    q = values.q.flip(1).cumsum(1).flip(1) * (words != PAD)
    return chain(world, words, values._replace(q=q), weight, b)


def probability(world: World, words: Tensor, values: MonteCarlo, weight: Tensor, b: str) -> Tensor:
    A = advantages(values, words, b, whiten=False)
    return policy_gradient(log_probs(world, words).exp(), A, words, weight)


@pytest.mark.parametrize("baseline", ["none", "prefix"])
@pytest.mark.parametrize(
    "mistake", [flipped, shifted, dropped_end, scored_after_end, summed, probability]
)
def test_each_planted_mistake_is_seen(world: World, mistake: Chain, baseline: str) -> None:
    exact = gradient(world, expected_score(world))
    got = expected_gradient(world, mistake, baseline)
    assert (got + exact).abs().amax() > 1e-3


# The sampled estimator


DRAWS = 100_000


def roll(
    world: World, rows: int, score: Callable[[Tensor, Tensor], Tensor], rollouts: int
) -> tuple:
    """Captions of many pictures that look the same, and the values of their words."""
    context = world.captioner.look(world.regions.expand(rows, -1, -1))
    draw = Draw(11, STREAMS["words"], 0)
    samples = sample(world.captioner, context, draw, torch.arange(rows), chunk_rows=rows)
    draw = draw._replace(stream=STREAMS["rollouts"])
    how = {"rollouts": rollouts, "draw": draw, "work": Work(chunk_rows=4 * rows)}
    return samples.words, monte_carlo(world.captioner, context, samples, score, **how)


@pytest.fixture(scope="module")
def sampled(world: World) -> tuple[Tensor, MonteCarlo]:
    return roll(world, DRAWS, partial(critic, world), 1)


@pytest.mark.parametrize("whiten", [False, True])
@pytest.mark.parametrize("baseline", ["none", "batch", "prefix", "greedy", "leave_one_out"])
def test_the_sampled_estimator_agrees(
    world: World, sampled: tuple[Tensor, MonteCarlo], baseline: str, whiten: bool
) -> None:
    """At 1e5 captions, along the gradient itself and five random directions, |z| < 4."""
    words, values = sampled
    exact = gradient(world, expected_score(world))
    generator = torch.Generator().manual_seed(3)
    random = torch.randn(len(exact), 5, generator=generator, dtype=torch.float64)
    directions = torch.cat([exact[:, None], random], 1)
    greedy_score = values.score.new_full((DRAWS,), 0.3)
    how = {"greedy_score": greedy_score, "copies": 2}
    A = advantages(values, words, baseline, whiten=whiten, **how)
    plain = advantages(values, words, baseline, whiten=False, **how)
    scale = (A / plain)[plain != 0].mean()
    slopes = word_slopes(world, directions)[caption_number(world, words)]
    rows = (A[..., None] * slopes).sum(1)
    z = (rows.mean(0) - scale * exact @ directions) / (rows.std(0) / DRAWS**0.5)
    assert z.abs().amax() < 4, z
    weight = torch.full((DRAWS,), 1 / DRAWS, dtype=torch.float64)
    got = gradient(world, policy_gradient(log_probs(world, words), A, words, weight))
    torch.testing.assert_close(got @ directions, -rows.mean(0), atol=1e-10, rtol=1e-8)


def caption_number(world: World, words: Tensor) -> Tensor:
    return (words[:, None] == world.captions).all(2).int().argmax(1)


def critic(world: World, words: Tensor, image: Tensor) -> Tensor:
    return world.scores[caption_number(world, words)]


def word_slopes(world: World, directions: Tensor) -> Tensor:
    """d log p(x_t) along each direction, (40, T, directions), a word at a time."""
    log_p = log_probs(world, world.captions)
    parameters = tuple(world.captioner.parameters())
    slopes = torch.zeros(*log_p.shape, directions.shape[1], dtype=torch.float64)
    for row, t in mask(world.captions).nonzero().tolist():
        grads = torch.autograd.grad(
            log_p[row, t], parameters, retain_graph=True, allow_unused=True, materialize_grads=True
        )
        slopes[row, t] = torch.cat([g.flatten() for g in grads]) @ directions
    return slopes


# Baselines


@pytest.mark.parametrize("whiten", [False, True])
@pytest.mark.parametrize("baseline", ["batch", "prefix", "leave_one_out"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_constant_critic_gives_exactly_zero_gradient(
    world: World, baseline: str, whiten: bool, dtype: torch.dtype
) -> None:
    words, values = roll(world, 30, lambda w, image: torch.full((len(w),), 0.1, dtype=dtype), 7)
    assert len(torch.unique((words != PAD).sum(1))) == T
    A = advantages(values, words, baseline, whiten=whiten, copies=3)
    weight = torch.full((30,), 1 / 30, dtype=torch.float64)
    got = gradient(world, policy_gradient(log_probs(world, words), A, words, weight))
    assert torch.equal(got, torch.zeros_like(got))


def test_baselines_are_means_over_the_global_batch(world: World) -> None:
    """Shares of ranks, given sums over all of them, get what one process gets."""
    words, values = roll(world, 30, partial(critic, world), 3)
    real = words != PAD
    b = mean_by_word(values.q, real)
    for t in range(T):
        torch.testing.assert_close(b[t], values.q[real[:, t], t].mean())
    A = (values.q - b) * real
    white = whitened(A, real, scale=values.q)
    torch.testing.assert_close(white[real], A[real] / A[real].std(correction=0))
    for share in (slice(0, 11), slice(11, 30)):
        other = slice(11, 30) if share.start == 0 else slice(0, 11)
        parts = [MonteCarlo(*(x[s] for x in values)) for s in (share, other)]
        got = alongside(*parts, words[share], words[other])
        torch.testing.assert_close(got, white[share], atol=1e-14, rtol=0)


def alongside(mine: MonteCarlo, others: MonteCarlo, words: Tensor, their_words: Tensor) -> Tensor:
    """One rank's advantages while a second rank runs the same calls in a thread."""
    meeting, sums = threading.Barrier(2), [torch.empty(0), torch.empty(0)]

    def total(rank: int, x: Tensor) -> Tensor:
        sums[rank] = x
        meeting.wait(10)
        both = sums[0] + sums[1]
        meeting.wait(10)
        return both

    def run(rank: int, values: MonteCarlo, words: Tensor) -> Tensor:
        return advantages(values, words, "batch", whiten=True, total=partial(total, rank))

    with ThreadPoolExecutor(1) as pool:
        pool.submit(run, 1, others, their_words)
        return run(0, mine, words)


def test_leave_one_out_is_the_mean_of_the_others() -> None:
    score = torch.tensor([1.0, 2.0, 6.0, 0.0, 0.0, 3.0])
    assert leave_one_out(score, 3).tolist() == [4.0, 3.5, 1.5, 1.5, 1.5, 0.0]
    with pytest.raises(ValueError, match="2 captions"):
        leave_one_out(score, 1)
