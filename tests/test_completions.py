"""Every decoder's completions are, word for word, those of the slow and obvious way.

The slow way is here: one caption, one prefix, one rollout at a time, each word from a forward over
all words before it, with a walk along the distribution in Python's numbers.
"""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from tiny_decoders import DECODERS, tiny_decoder
from torch import Tensor

from distgan.completions import Completions, Samples, complete
from distgan.models.captioner import AttentionCaptioner
from distgan.models.decoder import END, PAD, START, UNK
from distgan.models.gru_captioner import GRUCaptioner
from distgan.models.prepared_captioner import PreparedCaptioner, add_weighted
from distgan.randomness import STREAMS, Draw, uniforms
from distgan.rollouts import sample, score_each
from distgan.sampling import Sampling, choose
from distgan.work import Work

B, K, D, V, T, N = 3, 4, 12, 9, 4, 3
DRAW = Draw(3, STREAMS["rollouts"], 2)


def slow_pick(logits: list[float], uniform: float, how: Sampling) -> int:
    """The word that `uniform` draws, likeliest words kept one by one."""
    logits = [-math.inf if w == UNK else x / how.temperature for w, x in enumerate(logits)]
    ranked = sorted(range(V), key=lambda word: -logits[word])
    if how.top_k:
        ranked = ranked[: how.top_k]
    mass = {word: math.exp(logits[word]) for word in ranked}
    kept, reached = [], 0.0
    for word in ranked:
        if reached >= how.top_p * sum(mass.values()):
            break
        kept.append(word)
        reached += mass[word]
    left = uniform * sum(mass[word] for word in kept)
    for word in sorted(kept):
        left -= mass[word]
        if left < 0:
            return word
    raise AssertionError("the distribution does not add up")


def slow_completion(
    decoder: Any, regions: Tensor, key: tuple[int, int, int], words: list[int], how: Sampling
) -> list[int]:
    """A caption that begins with `words`; `key`: position, rollout and prefix."""
    position, rollout, prefix = key
    while len(words) < T and END not in words:
        t = len(words)
        seen = torch.tensor([[*words, PAD]])
        logits = decoder(regions[None], seen, None)[0][0, t].tolist()
        u = uniforms(DRAW, torch.tensor(position), rollout=rollout, prefix=prefix, position=t)
        words = [*words, slow_pick(logits, float(u), how)]
    return words


HOW = [
    Sampling(),
    Sampling(temperature=0.6),
    Sampling(top_k=3),
    Sampling(top_p=0.7),
    Sampling(temperature=1.5, top_k=4, top_p=0.8),
]
WORK = [
    Work(),
    Work(chunk_rows=1),
    Work(chunk_rows=5),
    Work(tile=4),
    Work(memory_gib=1e-9),  # one caption after the other
]


@pytest.mark.parametrize("case", range(len(HOW)))
@pytest.mark.parametrize("name", list(DECODERS))
@torch.no_grad()
def test_completions_equal_the_slow_way(name: str, case: int) -> None:
    decoder = tiny_decoder(name, case, V, T, D)
    regions = torch.randn(B, K, D, dtype=torch.float64)
    context = decoder.look(regions)
    position = torch.tensor([7, 2**31, 5])
    x = sample(decoder, context, DRAW._replace(stream=STREAMS["words"]), position)
    order = torch.tensor([2, 0, 1, 1])  # captions of images in no order, one twice
    samples = x.take(order)._replace(copy=torch.tensor([0, 0, 0, 1]))
    got = [
        complete(decoder, context, samples, rollouts=N, draw=DRAW, sampling=HOW[case], work=work)
        for work in WORK
    ]
    texts = got[0].spread()
    for other in got[1:]:
        assert torch.equal(other.spread(), texts)
    for r, words in enumerate(samples.words.tolist()):
        length, image = int(samples.lengths[r]), int(samples.image[r])
        for p in range(T):
            for n in range(N):
                if p >= length:
                    assert got[0].text[r, p, n] == -1
                    continue
                key = int(samples.position[r]), int(samples.copy[r]) * N + n, p
                slow = slow_completion(decoder, regions[image], key, words[:p], HOW[case])
                assert texts[r, p, n].tolist() == slow + [PAD] * (T - len(slow)), (r, p, n)
    check_distinct(got[0], samples)


def check_distinct(done: Completions, samples: Samples) -> None:
    """No text is there twice for one caption, and each is of that caption's image."""
    assert torch.equal(done.words[: len(samples.words)], samples.words)
    for r in range(len(samples.words)):
        own = done.text[r][done.text[r] >= 0].unique()
        assert len(done.words[own].unique(dim=0)) == len(own)
        assert (done.image[own] == samples.image[r]).all()


@pytest.mark.parametrize("name", list(DECODERS))
@torch.no_grad()
def test_tiles_leave_a_row_its_bits_whatever_is_beside_it(name: str) -> None:
    """In float32, for calls of one size: the reason why `Work.tile` makes words reproducible."""
    sizes = {"hidden": 32, "attention": 24} if name in ("lstm", "gru") else {"width": 32}
    decoder = tiny_decoder(name, 0, 300, 6, 40, **sizes).float()
    context = decoder.look(torch.randn(5, 9, 40))
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(5, (16,), generator=generator)
    words = torch.randint(4, 300, (16, 3), generator=generator)

    def logits(order: Tensor) -> Tensor:
        state, read = decoder.start(context, images[order]), torch.full((16,), START)
        for t in range(3):
            out, state = decoder.step(read, state, context)
            read = words[order, t]
        return out

    expected = logits(torch.arange(16))
    for _ in range(5):
        order = torch.randint(16, (16,), generator=generator)
        assert torch.equal(logits(order), expected[order])


def test_words_in_tiles_depend_on_no_chunk() -> None:
    captioner = AttentionCaptioner(300, 6, 40, embedding=16, hidden=32, attention=24)
    captioner.requires_grad_(False)
    captioner.readout.weight.mul_(5)
    context = captioner.look(torch.randn(20, 9, 40))
    samples = sample(captioner, context, DRAW, torch.arange(20))
    how = {"rollouts": N, "draw": DRAW, "work": Work(tile=32)}
    together = complete(captioner, context, samples, **how).spread()
    for part in torch.arange(20).split(7):
        alone = complete(captioner, context, samples.take(part), **how).spread()
        assert torch.equal(alone, together[part])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bf16"])
@torch.no_grad()
def test_words_that_rounding_changes_are_few(dtype: torch.dtype) -> None:
    """Rollouts' decoder against float64 and the plain form, fed the same words and uniforms.

    Rounding moves every border of the cumulative distribution a little, so a word's neighbour is
    drawn far more often than the distribution itself has changed: both are told.
    """
    torch.manual_seed(0)
    size = {"embedding": 64, "hidden": 64, "attention": 64}
    captioner = AttentionCaptioner(2000, 12, 64, **size).requires_grad_(False)
    captioner.readout.weight.mul_(10)  # a trained readout's spread of logits
    double = AttentionCaptioner(2000, 12, 64, **size).requires_grad_(False)
    double.load_state_dict(captioner.state_dict())
    rows, tries = 12, 400
    context = captioner.look(torch.randn(rows, 9, 64))
    samples = sample(captioner, context, DRAW, torch.arange(rows))
    exact, _ = double.double()(context.regions.double(), samples.words)
    exact[..., UNK] = -math.inf
    how = {"row_steps": rows * 12, "chunk_rows": rows, "dtype": dtype}
    ready = PreparedCaptioner(captioner, context, (0, rows), **how)
    state, read = ready.start(context, samples.image), torch.full((rows,), START)
    changed, distance = 0, 0.0
    for t in range(12):
        with Work(dtype=dtype).precision(torch.device("cpu")):
            logits, state = ready.step(read, state, context)
        logits[:, UNK] = -math.inf
        p, q = logits.double().softmax(1), exact[:, t].softmax(1)
        distance += float((p - q).abs().sum()) / 2 / rows / 12
        u = torch.rand(rows, tries, dtype=torch.float64)
        changed += int((choose(logits, u) != choose(exact[:, t], u)).sum())
        read = samples.words[:, t]
    share = changed / (rows * tries * 12)
    print(f"{dtype}: {share:.2g} of words change, total variation distance {distance:.2g}")
    assert 0 < share < {torch.float32: 3e-4, torch.bfloat16: 0.5}[dtype]
    assert distance < {torch.float32: 1e-6, torch.bfloat16: 0.02}[dtype]


@pytest.mark.parametrize("kind", [AttentionCaptioner, GRUCaptioner])
@torch.no_grad()
def test_a_prepared_captioner_is_the_captioner(kind: type[AttentionCaptioner]) -> None:
    """Looked-up words, the images' part computed beforehand, styles: the same logits."""
    sizes = {"embedding": 4, "hidden": 5, "attention": 4}
    captioner = kind(V, T, D, **sizes, num_styles=2).double()
    context = captioner.look(torch.randn(5, K, D, dtype=torch.float64), torch.arange(5) % 2)
    image = torch.tensor([1, 1, 2, 3, 3, 3])
    for row_steps in (1, 1000):
        how = {"row_steps": row_steps, "chunk_rows": 6, "dtype": torch.float64}
        ready = PreparedCaptioner(captioner, context, (1, 4), **how)
        state, other = captioner.start(context, image), ready.start(context, image)
        for word in (START, 5, 7):
            read = torch.full_like(image, word)
            logits, state = captioner.step(read, state, context)
            got, other = ready.step(read, other, context)
            torch.testing.assert_close(got, logits, atol=1e-13, rtol=0)


@pytest.mark.parametrize(
    "image", [[0, 0, 1, 1], [0, 1, 1, 2, 2, 2], [3], [2, 2], [0, 3, 3], [1, 0, 1], [0, 1, 2, 3]]
)
def test_weighted_sums_of_an_image_s_regions(image: list[int]) -> None:
    table = torch.randn(4, K, 6, dtype=torch.float64)
    weights = torch.rand(len(image), K, dtype=torch.float64)
    to = torch.randn(len(image), 6, dtype=torch.float64)
    expected = torch.stack([to[r] + weights[r] @ table[i] for r, i in enumerate(image)])
    add_weighted(to, weights, table, torch.tensor(image))
    torch.testing.assert_close(to, expected, atol=1e-14, rtol=0)


def test_each_text_is_scored_once_in_chunks_of_like_length() -> None:
    words = torch.tensor([[4, 2, 0], [5, 6, 7], [2, 0, 0], [8, 4, 2]])
    seen: list[Tensor] = []

    def score(w: Tensor, image: Tensor) -> Tensor:
        seen.append(w)
        return w[:, 0] * 10.0 + image

    got = score_each(score, words, torch.tensor([0, 1, 2, 3]), 2)
    assert got.tolist() == [40, 51, 22, 83]
    assert torch.equal(torch.cat(seen), words[[1, 3, 0, 2]])
    assert [len(chunk) for chunk in seen] == [2, 2]


def test_work_is_planned_within_its_bound() -> None:
    captioner = AttentionCaptioner(9703, 16, 64)
    footprint = captioner.footprint(captioner.look(torch.zeros(2, 49, 64)))
    plans = [
        Work(memory_gib=gib).plan(footprint, torch.device("cpu"), 16, 5) for gib in (0.05, 0.2, 1)
    ]
    assert plans[0].captions < plans[1].captions < plans[2].captions
    for gib, plan in zip((0.05, 0.2, 1), plans, strict=True):
        each = footprint.image + footprint.caption + 2 * 80 * footprint.row
        assert plan.rows * footprint.step + plan.captions * each <= gib * 2**30
    assert Work(chunk_rows=3).plan(footprint, torch.device("cpu"), 16, 5).rows == 3
    assert Work(tile=7, chunk_rows=3).plan(footprint, torch.device("cpu"), 16, 5).rows == 7
