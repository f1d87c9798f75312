"""Batched rollouts write the words that the slow and obvious way writes.

The slow way is here: one caption, one prefix, one rollout at a time, each decoding its prefix from
the start, with its own Philox in Python integers and its own walk along the distribution.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from tiny_decoders import tiny_decoder
from torch import Tensor

from distgan.completions import complete
from distgan.models.captioner import AttentionCaptioner
from distgan.models.decoder import END, PAD, START, UNK
from distgan.randomness import STREAMS, Draw
from distgan.rollouts import (
    MonteCarlo,
    Samples,
    beam,
    constant_safe_mean,
    greedy,
    monte_carlo,
    sample,
)
from distgan.sampling import choose
from distgan.work import Work

V, T, K, D, B, N = 9, 5, 4, 5, 3, 2


def slow_uniform(draw: Draw, sample: int, rollout: int, prefix: int, position: int) -> float:
    """Philox4x32-10 as its paper writes it."""
    c = [draw.step, sample, rollout << 16 | prefix, position]
    k = [draw.seed, draw.stream]
    for _ in range(10):
        one, two = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [
            (two >> 32) ^ c[1] ^ k[0],
            two % 2**32,
            (one >> 32) ^ c[3] ^ k[1],
            one % 2**32,
        ]
        k = [(k[0] + 0x9E3779B9) % 2**32, (k[1] + 0xBB67AE85) % 2**32]
    return ((c[0] >> 5) * 2**26 + (c[1] >> 6)) / 2**53


def slow_probabilities(captioner: Any, regions: Tensor, prefix: list[int]) -> list:
    """The distribution after a prefix, decoded from the start, `UNK` barred."""
    context = captioner.look(regions[None])
    state = captioner.start(context, torch.tensor([0]))
    for word in [START, *prefix]:
        logits, state = captioner.step(torch.tensor([word]), state, context)
    mass = [math.exp(x) for x in logits[0].tolist()]
    mass[UNK] = 0.0
    return [x / sum(mass) for x in mass]


def slow_pick(probabilities: list[float], uniform: float) -> int:
    reached = 0.0
    for word, p in enumerate(probabilities):
        reached += p
        if uniform < reached:
            return word
    raise AssertionError("the distribution does not add to one")


def slow_finish(
    captioner: Any,
    regions: Tensor,
    prefix: list[int],
    uniform: Callable[[int], float],
) -> list[int]:
    words = list(prefix)
    while len(words) < T and END not in words:
        words.append(slow_pick(slow_probabilities(captioner, regions, words), uniform(len(words))))
    return words


def slow_monte_carlo(
    captioner: Any, regions: Tensor, position: Tensor, seed: int, step: int
) -> tuple[Tensor, dict, Tensor, Tensor]:
    """Captions, completions by (caption, prefix, rollout), Q and V, by three nested loops."""
    words, texts = torch.zeros(B, T, dtype=torch.int64), {}
    q, before = torch.zeros(B, T, dtype=torch.float64), torch.zeros(B, T, dtype=torch.float64)
    for b in range(B):
        key = int(position[b])
        own = Draw(seed, STREAMS["words"], step)
        x = slow_finish(captioner, regions[b], [], lambda t: slow_uniform(own, key, 0, 0, t))  # noqa: B023
        words[b, : len(x)] = torch.tensor(x)
        values = []
        for p in range(len(x)):
            for n in range(N):
                draw = Draw(seed, STREAMS["rollouts"], step)
                texts[b, p, n] = slow_finish(
                    captioner,
                    regions[b],
                    x[:p],
                    lambda t: slow_uniform(draw, key, n, p, t),  # noqa: B023
                )
            values.append(sum(slow_score(texts[b, p, n], b) for n in range(N)) / N)
        values.append(slow_score(x, b))
        q[b, : len(x)] = torch.tensor(values[1:], dtype=q.dtype)
        before[b, : len(x)] = torch.tensor(values[:-1], dtype=q.dtype)
    return words, texts, q, before


def slow_score(words: list[int], image: int) -> float:
    return math.sin(sum((t + 1) * (w + 0.37) for t, w in enumerate(words)) + image)


def score(words: Tensor, image: Tensor) -> Tensor:
    """The same critic for a batch."""
    t = torch.arange(1, words.shape[1] + 1)
    return torch.sin((t * (words.double() + 0.37) * (words != PAD)).sum(1) + image)


def tiny_captioner(seed: int, name: str = "lstm") -> Any:
    return tiny_decoder(name, seed, V, T, D).requires_grad_(False)


def cumulative_distribution(logits: Tensor) -> Tensor:
    """Running sums (R, V), float64, of unnormalised probabilities; `UNK` barred."""
    logits = logits.index_fill(1, torch.tensor([UNK]), -math.inf)
    return (logits - logits.amax(1, keepdim=True)).exp().cumsum(1, dtype=torch.float64)


def draws(seed: int, step: int) -> tuple[Draw, Draw]:
    return Draw(seed, STREAMS["words"], step), Draw(seed, STREAMS["rollouts"], step)


def roll(
    captioner: Any,
    regions: Tensor,
    position: Tensor,
    drawn: tuple[Draw, Draw],
    chunk_rows: int,
    first_image: int = 0,
) -> tuple[Samples, Tensor, MonteCarlo]:
    context = captioner.look(regions)
    samples = sample(captioner, context, drawn[0], position, chunk_rows=chunk_rows)
    how = {"rollouts": N, "draw": drawn[1], "work": Work(chunk_rows=chunk_rows)}
    texts = complete(captioner, context, samples, **how).spread()
    values = monte_carlo(
        captioner, context, samples, lambda w, image: score(w, image + first_image), **how
    )
    return samples, texts, values


@pytest.mark.parametrize("block", range(8))
def test_words_and_values_equal_the_slow_way_for_200_seeds(block: int) -> None:
    equal_the_slow_way("lstm", range(25 * block, 25 * block + 25))


@pytest.mark.parametrize("name", ["gru", "gpt2"])
def test_words_and_values_equal_the_slow_way_for_every_decoder(name: str) -> None:
    equal_the_slow_way(name, range(200, 210))


def equal_the_slow_way(name: str, seeds: range) -> None:
    for seed in seeds:
        captioner, step = tiny_captioner(seed, name), 7 * seed
        regions = torch.randn(B, K, D, dtype=torch.float64)
        position = torch.tensor([seed, 5 * seed + 1, 2**31 + seed])
        words, texts, q, before = slow_monte_carlo(captioner, regions, position, seed, step)
        chunk_rows = (1, 2, 3, 5, 7, 11, 512)[seed % 7]
        samples, rolled, values = roll(captioner, regions, position, draws(seed, step), chunk_rows)
        assert torch.equal(samples.words, words)
        for (b, p, n), slow in texts.items():
            assert rolled[b, p, n].tolist() == slow + [PAD] * (T - len(slow)), (seed, b, p, n)
        torch.testing.assert_close(values.q, q, atol=1e-12, rtol=0)
        torch.testing.assert_close(values.value_before, before, atol=1e-12, rtol=0)


@pytest.mark.parametrize("name", ["lstm", "gru", "gpt2"])
def test_every_chunk_size_gives_the_same_words(name: str) -> None:
    captioner = tiny_captioner(3, name)
    regions, position = torch.randn(B, K, D, dtype=torch.float64), torch.arange(B)
    expected = roll(captioner, regions, position, draws(3, 1), 10_000)
    for chunk_rows in range(1, B * N * (T - 1) + B + 1):
        got = roll(captioner, regions, position, draws(3, 1), chunk_rows)
        assert torch.equal(got[0].words, expected[0].words)
        assert torch.equal(got[1], expected[1])
        torch.testing.assert_close(got[2].q, expected[2].q, atol=1e-12, rtol=0)


@pytest.mark.parametrize("name", ["lstm", "gru", "gpt2"])
@pytest.mark.parametrize("ranks", [1, 2, 3, 4])
def test_every_split_over_ranks_gives_the_same_words(ranks: int, name: str) -> None:
    captioner, rows = tiny_captioner(5, name), 10
    regions, position = torch.randn(rows, K, D, dtype=torch.float64), torch.arange(100, 110)
    expected = roll(captioner, regions, position, draws(5, 2), 512)
    shares = [range(rows)[r * rows // ranks : (r + 1) * rows // ranks] for r in range(ranks)]
    got = [
        roll(captioner, regions[list(s)], position[list(s)], draws(5, 2), 512, s[0]) for s in shares
    ]
    assert torch.equal(torch.cat([g[0].words for g in got]), expected[0].words)
    assert torch.equal(torch.cat([g[1] for g in got]), expected[1])
    values = torch.cat([g[2].q for g in got])
    torch.testing.assert_close(values, expected[2].q, atol=1e-12, rtol=0)


def test_float32_differs_only_on_the_borders_of_bins() -> None:
    """Fed the same words in three ways (together, alone, in float64): logits within 2e-5, and a
    pick differs only where its uniform is within 1e-5 of a bin's border."""
    torch.manual_seed(0)
    size = {"embedding": 64, "hidden": 64, "attention": 64}
    captioner = AttentionCaptioner(2000, 12, 64, **size).requires_grad_(False)
    captioner.readout.weight.mul_(10)  # a trained readout's spread of logits
    rows, tries = 24, 4000
    context = captioner.look(torch.randn(rows, 9, 64))
    samples = sample(captioner, context, Draw(0, STREAMS["words"], 0), torch.arange(rows))
    double = AttentionCaptioner(2000, 12, 64, **size)
    double.load_state_dict(captioner.state_dict())
    exact, _ = double.double().requires_grad_(False)(context.regions.double(), samples.words)
    state, read = captioner.start(context, samples.image), torch.full((rows,), START)
    differing = {"alone": 0, "float64": 0}
    for t in range(12):
        single = [state.rows(torch.tensor([r])) for r in range(rows)]
        alone = [captioner.step(read[r : r + 1], single[r], context)[0] for r in range(rows)]
        together, state = captioner.step(read, state, context)
        cumulative = cumulative_distribution(together)
        cumulative = cumulative / cumulative[:, -1:]
        assert cumulative.dtype == torch.float64
        u = torch.rand(rows, tries, dtype=torch.float64)
        picks = choose(together, u)
        for name, logits in (("alone", torch.cat(alone)), ("float64", exact[:, t])):
            torch.testing.assert_close(
                together[:, 2:].double(), logits[:, 2:].double(), atol=2e-5, rtol=0
            )
            other = choose(logits, u)
            lower = torch.minimum(picks, other)  # its upper border parts the two picks
            distance = (cumulative.gather(1, lower) - u).abs()[picks != other]
            assert (distance < 1e-5).all()
            differing[name] += int((picks != other).sum())
        read = samples.words[:, t]
    total = rows * tries * 12
    print(f"picks that differ from those of float32 rows together, of {total}: {differing}")
    assert differing["alone"] < 1e-3 * total
    assert 0 < differing["float64"] < 1e-3 * total


def test_choose_inverts_the_distribution() -> None:
    logits = torch.tensor([[float("-inf"), float("-inf"), 0.0, 9.0, math.log(3), float("-inf")]])
    uniform = torch.tensor([[0.0, 0.2499999, 0.25, 0.9999999999999999]], dtype=torch.float64)
    assert choose(logits.double(), uniform).tolist() == [[2, 2, 4, 4]]


def test_a_network_gone_wrong_still_gives_words() -> None:
    """So that the loss is what tells of it, with the update and the samples."""
    for wrong in (math.nan, math.inf, -math.inf):
        words = choose(torch.full((2, 300), wrong), torch.tensor([[0.1, 0.99]] * 2).double())
        assert ((words >= 0) & (words < 300)).all()


def test_samples_follow_the_distribution_and_never_hold_barred_words() -> None:
    captioner, many = tiny_captioner(8), 4000
    regions = torch.randn(1, K, D, dtype=torch.float64)
    words = sample(
        captioner,
        captioner.look(regions),
        Draw(1, STREAMS["words"], 0),
        torch.tensor([0]),
        copies=many,
    ).words
    assert not torch.isin(words, torch.tensor([START, UNK])).any()
    p = torch.tensor(slow_probabilities(captioner, regions[0], []), dtype=torch.float64)
    counts = torch.bincount(words[:, 0], minlength=V)
    z = (counts - many * p) / (many * p * (1 - p)).sqrt().clamp_min(1e-9)
    assert z.abs().amax() < 4.5
    ended = (words == END).cumsum(1) - (words == END).long()
    assert torch.equal(words == PAD, ended.bool())


def test_temperature_and_barred_words_change_the_distribution_as_they_should() -> None:
    captioner = tiny_captioner(8)
    context = captioner.look(torch.randn(50, K, D, dtype=torch.float64))
    draw, position = Draw(1, STREAMS["words"], 0), torch.arange(50)
    cold = sample(captioner, context, draw, position, temperature=1e-4).words
    assert torch.equal(cold, greedy(captioner, context, position))


def slow_best(captioner: Any, regions: Tensor, power: float) -> tuple[list, float]:
    """The best of all captions by log-probability / L**power, enumerated."""
    best: tuple[list[int], float, float] = ([], -math.inf, -math.inf)
    stack: list[tuple[list[int], float]] = [([], 0.0)]
    while stack:
        words, log_p = stack.pop()
        if len(words) == T or END in words:
            value = log_p / len(words) ** power
            best = max(best, (words, log_p, value), key=lambda x: x[2])
            continue
        for word, p in enumerate(slow_probabilities(captioner, regions, words)):
            if p > 0:
                stack.append(([*words, word], log_p + math.log(p)))
    return best[0], best[1]


def test_a_wide_beam_finds_the_best_caption() -> None:
    torch.manual_seed(2)
    captioner = AttentionCaptioner(6, T, D, embedding=4, hidden=5, attention=4).double()
    captioner.requires_grad_(False)
    regions = torch.randn(2, K, D, dtype=torch.float64)
    context, image = captioner.look(regions), torch.tensor([1, 0, 1])
    words, log_p = beam(captioner, context, image, 64)
    for row, i in enumerate(image.tolist()):
        best, value = slow_best(captioner, regions[i], 0.0)
        assert words[row].tolist() == best + [PAD] * (T - len(best))
        assert log_p[row].item() == pytest.approx(value, abs=1e-12)
    one, _ = beam(captioner, context, image, 1)
    assert torch.equal(one, greedy(captioner, context, image))


def test_each_distinct_text_is_decoded_once_and_nothing_past_the_end() -> None:
    """Row-steps are counted: one for every text that some caption or rollout passes through."""

    class Counting(AttentionCaptioner):
        rows = 0

        def recur(self, gates: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
            Counting.rows += len(h)
            return super().recur(gates, h, c)

    torch.manual_seed(4)
    captioner = Counting(V, T, D, embedding=4, hidden=5, attention=4).double()
    context = captioner.look(torch.randn(B, K, D, dtype=torch.float64))
    draw = draws(4, 0)
    samples = sample(captioner, context, draw[0], torch.arange(B))
    assert Counting.rows == int(samples.lengths.sum())
    Counting.rows = 0
    done = complete(captioner, context, samples, rollouts=5, draw=draw[1])
    texts = [
        (int(image), *words[: int((words != PAD).sum())].tolist())
        for image, words in zip(done.image, done.words, strict=True)
    ]
    passed = {text[: 1 + t] for text in texts for t in range(len(text) - 1)}
    captions = {text[: 1 + t] for text in texts[:B] for t in range(len(text) - 1)}
    assert Counting.rows == B * T + len(passed - captions)  # `read` reads captions to their end
    assert len(set(texts)) == len(texts) == len(done.words)
    assert (done.text >= 0).sum() == 5 * samples.lengths.sum()
    assert len(texts) < (done.text >= 0).sum()  # some rollouts did write the same


def test_copies_have_noise_of_their_own() -> None:
    captioner = tiny_captioner(8)
    context = captioner.look(torch.randn(4, K, D, dtype=torch.float64))
    draw, position = draws(1, 0), torch.arange(4)
    two = sample(captioner, context, draw[0], position, copies=2)
    assert two.image.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    one = sample(captioner, context, draw[0], position)
    assert torch.equal(two.words[::2], one.words)
    assert not torch.equal(two.words[1::2], one.words)
    texts = complete(captioner, context, two, rollouts=N, draw=draw[1]).spread()
    alone = complete(captioner, context, one, rollouts=N, draw=draw[1]).spread()
    assert torch.equal(texts[::2], alone)
    for n in range(N):  # no rollout of nothing by one copy is a rollout by the other
        for m in range(N):
            assert not torch.equal(texts[::2, 0, n], texts[1::2, 0, m])


def test_without_the_empty_prefix_only_that_is_left_out() -> None:
    captioner = tiny_captioner(6)
    context = captioner.look(torch.randn(B, K, D, dtype=torch.float64))
    draw = draws(6, 0)
    samples = sample(captioner, context, draw[0], torch.arange(B))
    how = {"rollouts": N, "draw": draw[1]}
    with_it = monte_carlo(captioner, context, samples, score, **how)
    without = monte_carlo(captioner, context, samples, score, empty_prefix=False, **how)
    assert without.value_before is None
    assert torch.equal(with_it.q, without.q)


def test_means_of_equal_numbers_are_that_number() -> None:
    for n in range(1, 12):
        x = torch.full((3, n), 0.1)
        assert torch.equal(constant_safe_mean(x), x[:, 0])
    x = torch.randn(3, 7, dtype=torch.float64)
    torch.testing.assert_close(constant_safe_mean(x), x.mean(1))
