"""All completions of all prefixes of captions, each distinct text decoded once.

Captions are read once; N rollouts leave every prefix, drawn from the states that this leaves
behind. A rollout that draws the caption's own next words goes along with the caption until it
draws another; one that never does is the caption. Those that leave at the same place with the same
word are one row, and stay one until they draw different words, so no text is decoded twice. Rows
then advance together, one word a step, and leave when they wrote `END`: T - 1 steps in all.

Each draw takes one float64 uniform keyed by caption, rollout, prefix and place, so neither the
merging nor chunks nor workers change a word, up to the rounding of the probabilities: a word
differs only where its uniform falls within that rounding of a bin's border. `Work.tile` removes
that too.

Letters: R captions, T words, V vocabulary, N rollouts, M distinct texts, S rollouts still written.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from distgan.models.decoder import END, PAD, Decoder, State
from distgan.randomness import Draw, uniforms
from distgan.sampling import PLAIN, Sampling, pick, weigh
from distgan.work import ANYHOW, Chunks, Work


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

    def take(self, index: Tensor) -> Samples:
        return Samples(*(values[index] for values in self))


class Completions(NamedTuple):
    """Distinct texts, the captions themselves first, and which of them each rollout wrote."""

    words: Tensor  # (M, T) int64
    image: Tensor  # (M,) int64, place in the context
    text: Tensor  # (R, T, N) int64: of rollout n of the first p words of caption r; -1: none

    def spread(self) -> Tensor:
        """Every rollout's words (R, T, N, T); `PAD` where there is none."""
        return self.words[self.text.clamp_min(0)] * (self.text >= 0)[..., None]


class _Rollouts(NamedTuple):
    """Rollouts still being written."""

    number: Tensor  # (S,) int64, flat in (R, T, N)
    depth: Tensor  # (S,) int64, words written
    key: Tensor  # (S,) int64, row of the held states * V + last word: alike where texts are

    def take(self, index: Tensor) -> _Rollouts:
        return _Rollouts(*(values[index] for values in self))


@torch.no_grad()
def complete(
    decoder: Decoder,
    context: object,
    samples: Samples,
    *,
    rollouts: int,
    draw: Draw,
    empty_prefix: bool = True,
    sampling: Sampling = PLAIN,
    work: Work = ANYHOW,
) -> Completions:
    """`rollouts` completions of every prefix p < L of every caption; p = 0 if `empty_prefix`."""
    R, T = samples.words.shape
    device = samples.words.device
    plan = work.plan(decoder.footprint(context), device, T, rollouts)
    texts, image = [samples.words], [samples.image]
    text = samples.words.new_full((R, T, rollouts), _NONE)
    written = R
    order = samples.image.argsort(stable=True)  # neighbours share their image's products
    for part in order.split(plan.captions) if R else ():
        group = samples.take(part)
        images = (int(group.image[0]), int(group.image[-1]) + 1)
        row_steps = len(part) * (T + rollouts * T * (T - 1) // 2)
        with work.precision(device):
            ready = work.ready(decoder, context, images, row_steps, plan.rows)
            writing = _Group(ready, context, group, rollouts, draw, sampling)
            words, owner, found = writing.write(Chunks(plan.rows, work.tile), empty_prefix)
        found = torch.where(found >= 0, found + written, found)
        text[part] = torch.where(found == _ITSELF, part[:, None, None], found)
        texts.append(words)
        image.append(group.image[owner])
        written += len(words)
    return Completions(torch.cat(texts), torch.cat(image), text)


_NONE, _ITSELF = -1, -2  # in place of a text's number


class _Group:
    """Captions whose rollouts are written together."""

    def __init__(
        self,
        decoder: Decoder,
        context: object,
        samples: Samples,
        rollouts: int,
        draw: Draw,
        sampling: Sampling,
    ) -> None:
        self.decoder, self.context, self.samples = decoder, context, samples
        self.sampling, self.rollouts = sampling, rollouts
        R, T = samples.words.shape
        self.noise = _uniforms(draw, samples, rollouts).view(R * T * rollouts, T)
        self.words = samples.words.new_full((R * T * rollouts, T), PAD)
        self.text = samples.words.new_full((R * T * rollouts,), _NONE)
        self.texts: list[Tensor] = []  # numbers of rollouts, one of each distinct text
        self.found = 0

    def write(self, chunks: Chunks, empty_prefix: bool) -> tuple[Tensor, Tensor, Tensor]:
        """Distinct texts (M, T), the captions (M,) they complete, and each rollout's text."""
        R, T = self.samples.words.shape
        held = self._read(chunks)
        rolling = self._leave(held, chunks, empty_prefix)
        while len(rolling.number):
            parent, word, rolling = self._merge(rolling)
            if len(rolling.number) == 0:
                break
            held, rolling = self._advance(held, parent, word, rolling, chunks)
        number = torch.cat(self.texts) if self.texts else self.text[:0]
        text = self.text.view(R, T, self.rollouts)
        return self.words[number], number // (T * self.rollouts), text

    def _read(self, chunks: Chunks) -> State:
        """The states after every prefix, row r * T + t."""
        words, image = self.samples.words, self.samples.image
        R, T = words.shape
        filled = chunks.filled(torch.arange(R, device=words.device))
        states = self.decoder.read(words[filled], image[filled], self.context)
        times = torch.arange(T, device=words.device)
        return states.rows((times * len(filled) + filled[:R, None]).flatten())

    def _leave(self, held: State, chunks: Chunks, empty_prefix: bool) -> _Rollouts:
        """Where each rollout leaves its caption, and with which word."""
        x, lengths = self.samples.words, self.samples.lengths
        R, T = x.shape
        N, places = self.rollouts, torch.arange(T, device=x.device)
        begun = places >= (0 if empty_prefix else 1)  # (T,) by prefix
        drawn = self._drawn(held, chunks, begun)
        other = drawn != x[:, None, None]
        rolled = (begun & (places < lengths[:, None]))[..., None].expand(R, T, N)
        leaves = rolled & other.any(3)
        self.text.view(R, T, N)[rolled & ~leaves] = _ITSELF
        number = leaves.flatten().nonzero()[:, 0]
        r, at = number // (T * N), other.view(-1, T)[number].int().argmax(1)
        word = drawn.view(-1, T)[number, at]
        self.words[number] = torch.where(places < at[:, None], x[r], PAD)
        self.words[number, at] = word
        return _Rollouts(number, at + 1, (r * T + at) * self.decoder.num_words + word)

    def _drawn(self, held: State, chunks: Chunks, begun: Tensor) -> Tensor:
        """What each rollout draws at each place as long as it goes along, (R, T, N, T).

        Before its prefix ends, and past the caption, the caption's own words.
        """
        x, N = self.samples.words, self.rollouts
        R, T = x.shape
        row, time = (x != PAD).nonzero(as_tuple=True)
        places, index = torch.arange(T, device=x.device), row * T + time
        drawn, noise = x[:, None, None].repeat(1, T, N, 1), self.noise.view(R, T, N, T)
        for part in chunks.of(len(row), x.device):
            logits = self.decoder.logits(held.rows(index[chunks.filled(part)]), self.context)
            i, p = (begun & (places <= time[part, None])).nonzero(as_tuple=True)
            r, t = row[part][i], time[part][i]
            u = noise[r, p, :, t].flatten()
            picks = pick(weigh(logits, self.sampling), i.repeat_interleave(N), u)
            drawn[r, p, :, t] = picks.view(-1, N)
        return drawn

    def _merge(self, rolling: _Rollouts) -> tuple[Tensor, Tensor, _Rollouts]:
        """Rows to go on with, as (parents, words), one a distinct text, and who goes on in them.

        `key` of those who do is their row. Texts that are whole are noted and left.
        """
        V, T = self.decoder.num_words, self.words.shape[1]
        key, row = rolling.key.unique(return_inverse=True)
        one = torch.empty_like(key).scatter_(0, row, rolling.number)  # any: their texts are equal
        depth = torch.empty_like(key).scatter_(0, row, rolling.depth)
        parent, word = key // V, key % V
        whole = (word == END) | (depth == T)
        ended = whole[row]
        place = torch.where(whole, whole.cumsum(0), (~whole).cumsum(0)) - 1
        self.text[rolling.number[ended]] = self.found + place[row[ended]]
        self.texts.append(one[whole])
        self.found += len(self.texts[-1])
        going = rolling.take(~ended)
        return parent[~whole], word[~whole], going._replace(key=place[row[~ended]])

    def _advance(
        self, held: State, parent: Tensor, word: Tensor, rolling: _Rollouts, chunks: Chunks
    ) -> tuple[State, _Rollouts]:
        """Read a word a row, draw the next one for each rollout."""
        rolling = rolling.take(rolling.key.argsort())
        rows = list(chunks.of(len(parent), parent.device))
        ends = torch.stack([part[-1] for part in rows])
        ends = torch.searchsorted(rolling.key, ends, right=True).tolist()
        states, picks, first = [], [], 0
        for part, last in zip(rows, ends, strict=True):
            filled = chunks.filled(part)
            state = held.rows(parent[filled])
            state = self.decoder.advance(word[filled], state, self.context)
            weights = weigh(self.decoder.logits(state, self.context), self.sampling)
            some = slice(first, last)
            u = self.noise[rolling.number[some], rolling.depth[some]]
            picks.append(pick(weights, rolling.key[some] - part[0], u))
            states.append(state if len(filled) == len(part) else state.rows(part - part[0]))
            first = last
        drawn = torch.cat(picks)
        self.words[rolling.number, rolling.depth] = drawn
        key = rolling.key * self.decoder.num_words + drawn
        held = states[0].join(states[1:]) if len(states) > 1 else states[0]
        return held, _Rollouts(rolling.number, rolling.depth + 1, key)


def _uniforms(draw: Draw, samples: Samples, N: int) -> Tensor:
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
