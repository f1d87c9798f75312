"""Writing captions with a decoder: sampled, greedy, beam search, and Monte Carlo rollouts.

Eq. 2 of ATTEND-GAN (arXiv 1908.02943) values the word x_t by the critic's score of captions that
begin with x_1..x_t and are finished by the generator. All completions of all prefixes advance
together: while the captions are read once more, `rollouts` rows leave each of them at every
prefix and join the batch, and rows that wrote `END` leave it. So a caption of T words costs T
decoder steps (in chunks of rows), and about half the row-steps of completing prefix by prefix.

Each word comes from one float64 uniform by the inverse of the cumulative distribution. The uniform
is keyed by what it is for (`distgan.randomness`), so neither chunks nor workers change a word, up
to the rounding of the probabilities themselves: a word differs only where its uniform falls within
that rounding of a bin's border.

Letters: I images, R rows (captions), T words, V vocabulary, N rollouts. Nothing here takes
gradients: log-probabilities come from a forward over the words, with the same words barred and at
temperature 1 (else the policy gradient is biased).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from distgan.models.decoder import END, PAD, START, UNK, Decoder, State
from distgan.randomness import Draw, uniforms

BARRED = (UNK,)
"""Words that are never written, beside those the network itself rules out."""

Score = Callable[[Tensor, Tensor], Tensor]
"""A critic: words (R, T) and image (R,) int64 to scores (R,), high for real."""


class Samples(NamedTuple):
    """Captions, and what keys their noise."""

    words: Tensor  # (R, T) int64: x_1..x_L, `END` included where it was written, then `PAD`
    image: Tensor  # (R,) int64, place in the context
    position: Tensor  # (R,) int64, place in the stream
    copy: Tensor  # (R,) int64, which of its image's captions this is

    @property
    def lengths(self) -> Tensor:
        """L (R,) int64."""
        return (self.words != PAD).sum(1)


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


def choose(logits: Tensor, uniform: Tensor, barred: tuple[int, ...] = BARRED) -> Tensor:
    """The words (R, N) whose bins of the distribution of row r hold `uniform` (R, N) float64.

    The first word whose cumulative probability exceeds the uniform; sums in float64.
    """
    cumulative = cumulative_distribution(logits, barred)
    targets = uniform * cumulative[:, -1:]
    return torch.searchsorted(cumulative, targets.contiguous(), right=True)


def cumulative_distribution(logits: Tensor, barred: tuple[int, ...] = BARRED) -> Tensor:
    """Running sums (R, V), float64, of unnormalised probabilities; the last is their total."""
    logits = _bar(logits if logits.dtype == torch.float64 else logits.float(), barred)
    return (logits - logits.amax(1, keepdim=True)).exp_().cumsum(1, dtype=torch.float64)


@torch.no_grad()
def sample(
    decoder: Decoder,
    context: object,
    draw: Draw,
    position: Tensor,
    *,
    copies: int = 1,
    temperature: float = 1.0,
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

    def draw_words(logits: Tensor, number: Tensor, t: int) -> Tensor:
        return choose(logits / temperature, u[number, t, None])

    words = _write(decoder, context, image, draw_words, chunk_rows)
    return Samples(words, image, position, copy)


@torch.no_grad()
def greedy(decoder: Decoder, context: object, image: Tensor, *, chunk_rows: int = 512) -> Tensor:
    """The likeliest word at each place, (R, T) int64, for the images `image` (R,) int64."""

    def likeliest(logits: Tensor, number: Tensor, t: int) -> Tensor:
        return _bar(logits, BARRED).argmax(1, keepdim=True)

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
        log_p = _bar(logits, BARRED).log_softmax(1).view(R, size, V)
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
    chunk_rows: int = 512,
) -> MonteCarlo:
    """Eq. 2: what each word of `samples` is worth, by `rollouts` completions of every prefix.

    Q_t for t < L is the mean score of completions of x_1..x_t, Q_L the score of x itself.
    V_{t-1}, a baseline that has not seen x_t, is Q_{t-1}; V_0, from completions of nothing, is
    what `empty_prefix` asks for (without it `value_before` is None). `score` is called on chunks
    of at most `chunk_rows` captions, in eval mode and without gradients as far as it is torch's.
    """
    if rollouts < 1:
        raise ValueError(f"rollouts must be at least 1, got {rollouts!r}")
    words, lengths = samples.words, samples.lengths
    R, T = words.shape
    finished = complete(
        decoder,
        context,
        samples,
        rollouts=rollouts,
        draw=draw,
        empty_prefix=empty_prefix,
        chunk_rows=chunk_rows,
    )
    prefix = torch.arange(T, device=words.device)
    rolled = (prefix < lengths[:, None]) & (prefix >= (0 if empty_prefix else 1))
    row, length = rolled.nonzero(as_tuple=True)
    texts = torch.cat([words, finished[row, length].flatten(0, 1)])
    owner = torch.cat([samples.image, samples.image[row].repeat_interleave(rollouts)])
    chunks = zip(texts.split(chunk_rows), owner.split(chunk_rows), strict=True)
    scores = torch.cat([score(*chunk) for chunk in chunks])
    own, completed = scores[:R], scores[R:].view(-1, rollouts)
    values = own.new_zeros(R, T + 1)  # V_0..V_T
    values[row, length] = constant_safe_mean(completed)
    values[torch.arange(R, device=words.device), lengths] = own
    real = words != PAD
    before = values[:, :-1] * real if empty_prefix else None
    return MonteCarlo(values[:, 1:] * real, before, own)


@torch.no_grad()
def whole_captions(samples: Samples, score: Score) -> MonteCarlo:
    """No rollouts: every word is worth the score of its whole caption. Unbiased, as Q_t is that
    score's mean given x_1..x_t, with more variance a caption and far less work."""
    own = score(samples.words, samples.image)
    return MonteCarlo(own[:, None] * (samples.words != PAD), None, own)


@torch.no_grad()
def complete(
    decoder: Decoder,
    context: object,
    samples: Samples,
    *,
    rollouts: int,
    draw: Draw,
    empty_prefix: bool = True,
    chunk_rows: int = 512,
) -> Tensor:
    """Completions (R, T, N, T) int64: [r, p, n] begins with the first p words of caption r.

    Only prefixes p < L are completed (and p = 0 if `empty_prefix`); the others hold `PAD` after
    their prefix.
    """
    words, lengths = samples.words, samples.lengths
    R, T = words.shape
    N, device = rollouts, words.device
    times = torch.arange(T, device=device)
    texts = (words[:, None, None] * (times < times[:, None])[None, :, None]).repeat(1, 1, N, 1)
    flat, u = texts.view(R * T * N, T), _rollout_uniforms(draw, samples, N).view(R * T * N, T)
    read = torch.cat([torch.full_like(words[:, :1], START), words[:, :-1]], 1)
    walkers = _Rows(decoder.start(context, samples.image), torch.arange(R, device=device))
    rolling = _Rows(walkers.state.rows(walkers.number[:0]), walkers.number[:0])
    copies = torch.arange(N, device=device)
    for t in range(T):
        walkers = walkers.keep((lengths[walkers.number] > t).nonzero()[:, 0])
        W = len(walkers.number)
        forks = (walkers.number[:, None] * T + t) * N + copies  # (W, N)
        inputs = torch.cat([read[walkers.number, t], flat[rolling.number, t - 1]])
        if len(inputs) == 0:
            break
        targets = torch.cat([u[forks, t], u[rolling.number, t, None].expand(-1, N)])
        picks, state = _advance(
            decoder, context, inputs, walkers.state.join([rolling.state]), targets, chunk_rows
        )
        source = torch.arange(len(inputs), device=device)
        walkers = _Rows(state.rows(source[:W]), walkers.number)
        if t == 0 and not empty_prefix:
            continue
        number = torch.cat([forks.flatten(), rolling.number])
        written = torch.cat([picks[:W].flatten(), picks[W:, 0]])
        flat[number, t] = written
        source = torch.cat([source[:W].repeat_interleave(N), source[W:]])
        alive = (written != END).nonzero()[:, 0]
        rolling = _Rows(state.rows(source[alive]), number[alive])
    return texts


def constant_safe_mean(x: Tensor) -> Tensor:
    """Mean over the last dimension, to the bit the value itself where all are equal."""
    return x[..., 0] + (x - x[..., :1]).mean(-1)


def _rollout_uniforms(draw: Draw, samples: Samples, N: int) -> Tensor:
    """The uniforms (R, T prefixes, N, T words) of all completions, in one call."""
    R, T = samples.words.shape
    device = samples.words.device
    n = torch.arange(N, device=device)[:, None]
    times = torch.arange(T, device=device)
    return uniforms(
        draw,
        samples.position.view(R, 1, 1, 1),
        rollout=samples.copy.view(R, 1, 1, 1) * N + n,
        prefix=times[:, None, None],
        position=times,
    )


def _advance(
    decoder: Decoder,
    context: object,
    inputs: Tensor,
    state: State,
    targets: Tensor,
    chunk_rows: int,
) -> tuple[Tensor, State]:
    """Read one word a row and draw N next ones: picks (R, N) and the new states, by chunks."""
    picks, states = [], []
    for part in torch.arange(len(inputs), device=inputs.device).split(chunk_rows):
        held = state if len(part) == len(inputs) else state.rows(part)
        logits, new = decoder.step(inputs[part], held, context)
        picks.append(choose(logits, targets[part]))
        states.append(new)
    return torch.cat(picks), states[0].join(states[1:])


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


def _bar(logits: Tensor, barred: tuple[int, ...]) -> Tensor:
    never = torch.tensor(barred, dtype=torch.int64, device=logits.device)
    return logits.index_fill(-1, never, float("-inf"))
