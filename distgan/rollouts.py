"""Writing captions with a decoder: sampled, greedy, beam search, and Monte Carlo rollouts.

Eq. 2 of ATTEND-GAN (arXiv 1908.02943) values the word x_t by the critic's score of captions that
begin with x_1..x_t and are finished by the generator. `distgan.completions` finishes all prefixes
together, each distinct text once, and each distinct text is scored once.

Words are drawn with keyed uniforms (`distgan.randomness`) by the inverse of the cumulative
distribution (`distgan.sampling`), so neither chunks nor workers change a word, up to rounding.

Letters: I images, R rows (captions), T words, V vocabulary, N rollouts. Nothing here takes
gradients: log-probabilities come from a forward over the words, with the same words barred and at
temperature 1 (else the policy gradient is biased).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from distgan.completions import Samples, complete
from distgan.models.decoder import END, PAD, START, Decoder, State
from distgan.randomness import Draw, uniforms
from distgan.sampling import BARRED, PLAIN, Sampling, choose
from distgan.work import ANYHOW, Work

Score = Callable[[Tensor, Tensor], Tensor]
"""A critic: words (R, T) and image (R,) int64 to scores (R,), high for real."""


class MonteCarlo(NamedTuple):
    """Eq. 2 for each word of each caption, zero after its last word."""

    q: Tensor  # (R, T): Q_t, the value of x_1..x_t
    value_before: Tensor | None  # (R, T): V_{t-1}, the value of x_1..x_{t-1}, from its own rollouts
    score: Tensor  # (R,): the critic's score of the caption itself


class _Rows(NamedTuple):
    """Captions being written: where each stands, and which one it is."""

    state: State
    number: Tensor  # (R,) int64

    def keep(self, index: Tensor) -> _Rows:
        return _Rows(self.state.rows(index), self.number[index])


@torch.no_grad()
def sample(
    decoder: Decoder,
    context: object,
    draw: Draw,
    position: Tensor,
    *,
    copies: int = 1,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    chunk_rows: int = 512,
) -> Samples:
    """`copies` captions of each image of the context, drawn from the decoder.

    `position` (I,) int64 keys an image's noise. An image's captions are neighbours.
    """
    image = torch.arange(len(position), device=position.device).repeat_interleave(copies)
    position = position.repeat_interleave(copies)
    copy = torch.arange(len(image), device=image.device) % copies
    times = torch.arange(decoder.max_length, device=image.device)
    u = uniforms(draw, position[:, None], rollout=copy[:, None], position=times)

    sampling = Sampling(temperature, top_k, top_p)

    def draw_words(logits: Tensor, number: Tensor, t: int) -> Tensor:
        return choose(logits, u[number, t, None], sampling)

    words = _write(decoder, context, image, draw_words, chunk_rows)
    return Samples(words, image, position, copy)


@torch.no_grad()
def greedy(decoder: Decoder, context: object, image: Tensor, *, chunk_rows: int = 512) -> Tensor:
    """The likeliest word at each place, (R, T) int64, for the images `image` (R,) int64."""

    def likeliest(logits: Tensor, number: Tensor, t: int) -> Tensor:
        return _bar(logits).argmax(1, keepdim=True)

    return _write(decoder, context, image, likeliest, chunk_rows)


@torch.no_grad()
def beam(
    decoder: Decoder, context: object, image: Tensor, size: int, *, length_power: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Beam search: words (R, T) of the best caption and its log-probability (R,).

    Of the `size` captions left at the end, the best log-probability / L**length_power wins.
    """
    R, T, V = len(image), decoder.max_length, decoder.num_words
    device = image.device
    first = torch.arange(R, device=device)[:, None] * size  # an image's first row
    state = decoder.start(context, image.repeat_interleave(size))
    words = torch.full((R, size, T), PAD, device=device)
    read = torch.full((R, size), START, device=device)
    total = None  # (R, size) log-probabilities; only one start, so all but one are -inf
    finished = torch.zeros((R, size), dtype=torch.bool, device=device)
    for t in range(T):
        logits, state = decoder.step(read.flatten(), state, context)
        log_p = _bar(logits).log_softmax(1).view(R, size, V)
        if total is None:
            total = torch.full((R, size), float("-inf"), dtype=log_p.dtype, device=device)
            total[:, 0] = 0
        log_p = log_p.masked_fill(finished[..., None], float("-inf"))
        log_p[..., PAD] = torch.where(finished, 0, log_p[..., PAD])  # a finished caption stays
        total, best = (total[..., None] + log_p).flatten(1).topk(size)
        source, read = best // V, best % V
        words = words.gather(1, source[..., None].expand(-1, -1, T))
        words[..., t] = read
        finished = finished.gather(1, source) | (read == END)
        if bool(finished.all()):
            break
        state = state.rows((first + source).flatten())
    assert total is not None
    value = total / (words != PAD).sum(2).clamp_min(1) ** length_power
    best = value.argmax(1, keepdim=True)
    return words.gather(1, best[..., None].expand(-1, -1, T))[:, 0], total.gather(1, best)[:, 0]


@torch.no_grad()
def monte_carlo(
    decoder: Decoder,
    context: object,
    samples: Samples,
    score: Score,
    *,
    rollouts: int,
    draw: Draw,
    empty_prefix: bool = True,
    sampling: Sampling = PLAIN,
    work: Work = ANYHOW,
) -> MonteCarlo:
    """Eq. 2: what each word of `samples` is worth, by `rollouts` completions of every prefix.

    Q_t for t < L is the mean score of completions of x_1..x_t, Q_L the score of x itself.
    V_{t-1}, a baseline that has not seen x_t, is Q_{t-1}; V_0, from completions of nothing, is
    what `empty_prefix` asks for (without it `value_before` is None). `score` is called on chunks
    of captions of about one length. Under another `sampling` than the plain one, or with another
    decoder than the captions' own, Q is the value of that policy, and the gradient biased.
    """
    if rollouts < 1:
        raise ValueError(f"rollouts must be at least 1, got {rollouts!r}")
    R, T = samples.words.shape
    how = {"rollouts": rollouts, "draw": draw, "empty_prefix": empty_prefix}
    done = complete(decoder, context, samples, **how, sampling=sampling, work=work)
    scores = score_each(score, done.words, done.image, work.chunk_rows or SCORED)
    own, lengths = scores[:R], samples.lengths
    row, length = (done.text[..., 0] >= 0).nonzero(as_tuple=True)
    values = own.new_zeros(R, T + 1)  # V_0..V_T
    values[row, length] = constant_safe_mean(scores[done.text[row, length]])
    values[torch.arange(R, device=lengths.device), lengths] = own
    real = samples.words != PAD
    before = values[:, :-1] * real if empty_prefix else None
    return MonteCarlo(values[:, 1:] * real, before, own)


SCORED = 1024  # captions a call of the critic


@torch.no_grad()
def score_each(score: Score, words: Tensor, image: Tensor, rows: int) -> Tensor:
    """Scores (M,) of captions (M, T), `rows` a call, the longest first: chunks are as long as
    their longest caption, and a critic may cut what is all padding."""
    order = (words != PAD).sum(1).argsort(descending=True, stable=True)
    chunks = [score(words[part], image[part]) for part in order.split(rows)]
    scores = torch.cat(chunks)
    return torch.empty_like(scores).index_copy_(0, order, scores)


@torch.no_grad()
def whole_captions(samples: Samples, score: Score) -> MonteCarlo:
    """No rollouts: every word is worth the score of its whole caption. Unbiased, as Q_t is that
    score's mean given x_1..x_t, with more variance a caption and far less work."""
    own = score(samples.words, samples.image)
    return MonteCarlo(own[:, None] * (samples.words != PAD), None, own)


def constant_safe_mean(x: Tensor) -> Tensor:
    """Mean over the last dimension, to the bit the value itself where all are equal."""
    return x[..., 0] + (x - x[..., :1]).mean(-1)


def _write(
    decoder: Decoder,
    context: object,
    image: Tensor,
    pick: Callable[[Tensor, Tensor, int], Tensor],
    chunk_rows: int,
) -> Tensor:
    """Captions (R, T), word by word; `pick(logits, number, t)` gives (R, 1) for rows `number`."""
    words = torch.full((len(image), decoder.max_length), PAD, device=image.device)
    for part in torch.arange(len(image), device=image.device).split(chunk_rows):
        rows = _Rows(decoder.start(context, image[part]), part)
        inputs = torch.full_like(part, START)
        for t in range(decoder.max_length):
            logits, state = decoder.step(inputs, rows.state, context)
            inputs = pick(logits, rows.number, t)[:, 0]
            words[rows.number, t] = inputs
            alive = (inputs != END).nonzero()[:, 0]
            if len(alive) == 0:
                break
            inputs, rows = inputs[alive], _Rows(state, rows.number).keep(alive)
    return words


def _bar(logits: Tensor) -> Tensor:
    for word in BARRED:
        logits[:, word] = float("-inf")
    return logits
