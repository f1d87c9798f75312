"""The attention LSTM captioner of ATTEND-GAN (arXiv 1908.02943), equations (4)-(7).

(4-6) i, f, o = sigmoid(W w_{t-1} + H h_{t-1} + A a^_t + b), g = tanh(the same form),
      c_t = f c_{t-1} + i g, h_t = o tanh(c_t)
(7)   e'_{t,k} = w_e^T tanh(W_a a_k + W_h h_{t-1}), e_t = softmax(e'_t), a^_t = sum_k e_{t,k} a_k

h_0 and c_0 are affine in the mean region, and p(x_t) is a softmax of an affine map of (h_t, a^_t).
The scores e' carry no bias: softmax ignores it, yet under Adam its rounding noise alone sets
workers apart. A style, where there is one, adds W_s s to the gates and joins the start.

Letters: I images, K regions, D size of a region, R rows, T words, V vocabulary, H hidden,
A attention.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, embedding_bag

from distgan.models.decoder import PAD, START, Footprint, copy_known, read_by_steps, shifted
from distgan.models.prepared_captioner import PreparedCaptioner


class Context(NamedTuple):
    """What is computed once an image."""

    regions: Tensor  # a, (I, K, D)
    keys: Tensor  # W_a a, (I, K, A)
    h: Tensor  # h_0, (I, H)
    c: Tensor  # c_0, (I, C): C = H, the LSTM's cell; 0 for a GRU, which has none
    style_gates: Tensor | None  # W_s s, (I, 4H); 3H for a GRU


@dataclass(frozen=True)
class CaptionerState:
    """Where each row stands: its recurrence, what it saw last, its image's number."""

    h: Tensor  # (R, H)
    c: Tensor  # (R, C)
    e: Tensor  # the last attention, (R, K); zeros before `START` is read
    image: Tensor  # (R,) int64

    def rows(self, index: Tensor) -> Self:
        return type(self)(self.h[index], self.c[index], self.e[index], self.image[index])

    def join(self, others: Sequence[Self]) -> Self:
        every = (self, *others)
        return type(self)(
            torch.cat([state.h for state in every]),
            torch.cat([state.c for state in every]),
            torch.cat([state.e for state in every]),
            torch.cat([state.image for state in every]),
        )


class AttentionCaptioner(nn.Module):
    """A `distgan.models.decoder.Decoder`: an LSTM that attends to regions of the image.

    Another recurrence may take the LSTM's place: `blocks` of gates, `has_cell` and `recur` say
    which (see `distgan.models.gru_captioner`).
    `num_styles` counts every style, a factual one included; 0 builds a captioner without style.
    `dropout` acts on the embedded words and on (h_t, a^_t) before the readout, in `forward` only.
    """

    blocks = 4  # of gates, H each, in the order i, f, o, g
    has_cell = True
    has_attention = True  # `forward` says where each word looked

    def __init__(
        self,
        num_words: int,
        max_length: int,
        region_size: int,
        *,
        embedding: int = 300,
        hidden: int = 512,
        attention: int = 512,
        num_styles: int = 0,
        style_size: int = 64,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.num_words, self.max_length, self.num_styles = num_words, max_length, num_styles
        self.hidden, self.dropout = hidden, dropout
        told = style_size if num_styles else 0
        self.embedding = nn.Embedding(num_words, embedding)
        self.word_gates = nn.Linear(embedding, self.blocks * hidden)  # W and b
        self.hidden_gates = nn.Linear(hidden, self.blocks * hidden, bias=False)  # H
        self.region_gates = nn.Linear(region_size, self.blocks * hidden, bias=False)  # A
        self.region_keys = nn.Linear(region_size, attention, bias=False)  # W_a
        self.hidden_keys = nn.Linear(hidden, attention, bias=False)  # W_h
        self.scores = nn.Linear(attention, 1, bias=False)  # w_e
        self.initial = nn.Linear(region_size + told, (1 + self.has_cell) * hidden)
        self.readout = nn.Linear(hidden + region_size, num_words)
        self.styles = nn.Embedding(num_styles, style_size) if num_styles else None
        self.style_gates = (
            nn.Linear(style_size, self.blocks * hidden, bias=False) if num_styles else None
        )
        self._initialise()

    def _initialise(self) -> None:
        """Glorot for what enters the gates, orthogonal recurrence, a gate that remembers."""
        for gates in (self.word_gates, self.region_gates):
            for block in gates.weight.data.split(self.hidden):
                nn.init.xavier_uniform_(block)
        for block in self.hidden_gates.weight.data.split(self.hidden):
            nn.init.orthogonal_(block)
        nn.init.zeros_(self.word_gates.bias)
        nn.init.ones_(self.word_gates.bias[self.hidden : 2 * self.hidden])  # f, or a GRU's z
        nn.init.zeros_(self.readout.bias)

    def load_word_vectors(self, vectors: Tensor) -> None:
        """Copy (V, embedding) vectors into the embedding; a row of NaN keeps its random start."""
        copy_known(vectors, self.embedding.weight)

    def told(self, style: Tensor) -> Tensor | None:
        """The style as `look` and `forward` take it: None where none was built in."""
        return None if self.styles is None else style

    def look(self, regions: Tensor, style: Tensor | None = None) -> Context:
        if (style is None) != (self.styles is None):
            given = "none was given" if style is None else "one was given"
            raise ValueError(f"num_styles is {self.num_styles}, but as style {given}")
        mean, style_gates = regions.mean(1), None
        if self.styles is not None and self.style_gates is not None:
            vectors = self.styles(style)
            mean, style_gates = torch.cat([mean, vectors], 1), self.style_gates(vectors)
        h, c = self.initial(mean).split([self.hidden, self.has_cell * self.hidden], 1)
        return Context(regions, self.region_keys(regions), h, c, style_gates)

    def start(self, context: Context, image: Tensor) -> CaptionerState:
        nothing = context.regions.new_zeros(1, context.regions.shape[1]).expand(len(image), -1)
        return CaptionerState(context.h[image], context.c[image], nothing, image)

    def advance(self, words: Tensor, state: CaptionerState, context: Context) -> CaptionerState:
        e = self._attend(state.h, context.keys[state.image])
        seen = _weighted_rows(e, context.regions, state.image)
        gates = self.word_gates(self.embedding(words)) + self.region_gates(seen)
        if context.style_gates is not None:
            gates = gates + context.style_gates[state.image]
        h, c = self.recur(gates, state.h, state.c)
        return CaptionerState(h, c, e, state.image)

    def logits(self, state: CaptionerState, context: Context) -> Tensor:
        seen = _weighted_rows(state.e, context.regions, state.image)
        return self._barred(self.readout(torch.cat([state.h, seen], 1)))

    def step(
        self, words: Tensor, state: CaptionerState, context: Context
    ) -> tuple[Tensor, CaptionerState]:
        state = self.advance(words, state, context)
        return self.logits(state, context), state

    def read(self, words: Tensor, image: Tensor, context: Context) -> CaptionerState:
        return read_by_steps(self, words, image, context)

    def prepared(
        self,
        context: Context,
        images: tuple[int, int],
        *,
        row_steps: int,
        chunk_rows: int,
        dtype: torch.dtype | None,
    ) -> PreparedCaptioner | AttentionCaptioner:
        _, K, D = context.regions.shape
        count = images[1] - images[0]
        if row_steps * (D - K) <= count * K * D:  # fewer products to project each row's own view
            return self
        how = {"row_steps": row_steps, "chunk_rows": chunk_rows}
        return PreparedCaptioner(self, context, images, **how, dtype=dtype or context.keys.dtype)

    def footprint(self, context: Context) -> Footprint:
        _, K, A = context.keys.shape
        size = context.keys.element_size()
        gates = self.hidden_gates.out_features
        row = (self.hidden * (1 + self.has_cell) + K + 2) * size
        return Footprint(
            image=K * (A + gates + self.num_words) * size,
            caption=self.max_length * row,
            row=row,
            step=(K * A + 2 * self.num_words + 4 * gates) * size,
        )

    def forward(
        self, regions: Tensor, words: Tensor, style: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Teacher forcing: logits (B, T, V) of x_1..x_T given START, x_1..x_{T-1}, and the
        attention e (B, T, K) that produced them; words (B, T) int64."""
        context = self.look(regions, style)
        read = self.embedding(shifted(words))
        gates = self.word_gates(dropout(read, self.dropout, self.training))
        if context.style_gates is not None:
            gates = gates + context.style_gates[:, None]
        h, c = context.h, context.c
        hidden, attended, weights = [], [], []
        for gates_t in gates.unbind(1):
            e = self._attend(h, context.keys)
            seen = torch.bmm(e[:, None], context.regions)[:, 0]
            h, c = self.recur(gates_t + self.region_gates(seen), h, c)
            hidden.append(h)
            attended.append(seen)
            weights.append(e)
        both = torch.cat([torch.stack(hidden, 1), torch.stack(attended, 1)], 2)
        logits = self._barred(self.readout(dropout(both, self.dropout, self.training)))
        return logits, torch.stack(weights, 1)

    def _attend(self, h: Tensor, keys: Tensor) -> Tensor:
        """Eq. 7: attention (R, K) of rows h (R, H) on their regions' keys (R, K, A)."""
        inner = torch.tanh_(keys + self.hidden_keys(h)[:, None])
        return self.scores(inner).squeeze(2).softmax(1)

    def recur(self, gates: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """Eqs. 4-6: the next h and c; `gates` (R, 4H) holds all but H h_{t-1}."""
        i, f, o, g = (gates + self.hidden_gates(h)).chunk(4, 1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        return o.sigmoid() * c.tanh(), c

    def _barred(self, logits: Tensor) -> Tensor:
        """`PAD` and `START` can never be written; in place."""
        for never in (PAD, START):
            logits[..., never] = float("-inf")
        return logits


def _weighted_rows(weights: Tensor, regions: Tensor, image: Tensor) -> Tensor:
    """sum_k weights[r, k] regions[image[r], k], (R, D), without a copy of the regions a row."""
    images, K, D = regions.shape
    places = image[:, None] * K + torch.arange(K, device=image.device)
    table = regions.reshape(images * K, D)
    return embedding_bag(places, table, per_sample_weights=weights.to(table.dtype), mode="sum")
