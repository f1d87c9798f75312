"""The GPT-2 prefix captioner: the image becomes a few tokens that GPT-2 goes on from.

Mokady et al., "ClipCap", arXiv 2111.09734; GPT-2: Radford et al. 2019. The sequence is the
image's tokens, a token for the style where there is one, `START`, x_1, ..., x_{T-1}; places count
from the first image token. Embedding and readout share their weights.

Only likelihood takes gradients, by one causal pass (`forward`). `advance` and `read` write words
without gradients, with keys and values held once for all rows that share them (`models.gpt2`).

Letters: I images, K regions, D size of a region, P tokens of an image (its style's among them),
R rows, T words, V vocabulary, W width, L layers, H heads, d = W / H.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from distgan.models.decoder import PAD, START, Footprint, copy_known, shifted
from distgan.models.gpt2 import Attended, Blocks, Own, Scratch, Seats, seats

Mapper = Literal["mlp", "attention"]


class Context(NamedTuple):
    """What is computed once an image: the keys and values of its tokens."""

    trunk: Tensor  # (2, L, I, H, P, d)


@dataclass(frozen=True)
class GPT2State:
    """Where each row stands: how much of which trunk row it shares, and what it read since."""

    trunk: Tensor  # (2, L, C, H, M, d), keys and values, never copied
    owner: Tensor  # (R,) int64, row of the trunk
    length: Tensor  # (R,) int64, places of it
    own: Own
    hidden: Tensor  # (R, W), of the last token; zeros before `START` is read
    scratch: Scratch
    seats: Seats | None = None  # of `owner`, once asked for

    def rows(self, index: Tensor) -> Self:
        return type(self)(
            self.trunk,
            self.owner[index],
            self.length[index],
            self.own.rows(index),
            self.hidden[index],
            self.scratch,
        )

    def join(self, others: Sequence[Self]) -> Self:
        every = (self, *others)
        read = len(self.own.levels)
        if any(s.trunk is not self.trunk or len(s.own.levels) != read for s in others):
            raise ValueError("rows to join must share their trunk and have equally many own tokens")
        return type(self)(
            self.trunk,
            torch.cat([state.owner for state in every]),
            torch.cat([state.length for state in every]),
            self.own.join([state.own for state in others]),
            torch.cat([state.hidden for state in every]),
            self.scratch,
        )


class MLPMapper(nn.Module):
    """The mean region to `tokens` tokens, by two layers with tanh."""

    def __init__(self, region_size: int, width: int, tokens: int) -> None:
        super().__init__()
        self.tokens = tokens
        self.inner = nn.Linear(region_size, tokens * width // 2)
        self.outer = nn.Linear(tokens * width // 2, tokens * width)

    def forward(self, regions: Tensor) -> Tensor:
        """(I, tokens, W) of regions (I, K, D)."""
        return self.outer(self.inner(regions.mean(1)).tanh()).unflatten(1, (self.tokens, -1))


class AttentionMapper(nn.Module):
    """Each token a learned query's view of the regions, which keeps where things are apart."""

    def __init__(self, region_size: int, width: int, tokens: int) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.randn(tokens, width))
        self.keys = nn.Linear(region_size, width, bias=False)
        self.values = nn.Linear(region_size, width)
        self.out = nn.Linear(width, width)

    def forward(self, regions: Tensor) -> Tensor:
        """(I, tokens, W) of regions (I, K, D)."""
        scores = self.queries @ self.keys(regions).transpose(1, 2) / self.queries.shape[1] ** 0.5
        return self.queries + self.out(scores.softmax(2) @ self.values(regions))


MAPPERS = {"mlp": MLPMapper, "attention": AttentionMapper}


class GPT2Captioner(nn.Module):
    """A `distgan.models.decoder.Decoder`: GPT-2 after an image's tokens.

    `num_styles` counts every style, a factual one included; 0 builds a captioner without style.
    `never` are words that are never written, beside `PAD` and `START`. `dropout` acts in `forward`
    only: on embedded tokens, attention weights and what each block adds.
    """

    has_attention = False  # over regions: `forward` gives maps of no regions

    def __init__(
        self,
        num_words: int,
        max_length: int,
        region_size: int,
        *,
        layers: int = 12,
        heads: int = 12,
        width: int = 768,
        prefix: int = 10,
        mapper: Mapper = "mlp",
        num_styles: int = 0,
        never: tuple[int, ...] = (),
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.num_words, self.max_length, self.num_styles = num_words, max_length, num_styles
        self.dropout = dropout
        self.register_buffer("never", torch.tensor([PAD, START, *never]), persistent=False)
        self.embedding = nn.Embedding(num_words, width)
        self.styles = nn.Embedding(num_styles, width) if num_styles else None
        self.mapper = MAPPERS[mapper](region_size, width, prefix)
        self.body = Blocks(layers, heads, width, prefix + bool(num_styles) + max_length)
        nn.init.normal_(self.embedding.weight, std=0.02)

    def load_word_vectors(self, vectors: Tensor) -> None:
        """Copy (V, W) vectors into the embedding; a row of NaN keeps its random start."""
        copy_known(vectors, self.embedding.weight)

    def told(self, style: Tensor) -> Tensor | None:
        """The style as `look` and `forward` take it: None where none was built in."""
        return None if self.styles is None else style

    def prefix(self, regions: Tensor, style: Tensor | None) -> Tensor:
        """The tokens (I, P, W) of images, and of the styles asked for."""
        if (style is None) != (self.styles is None):
            given = "none was given" if style is None else "one was given"
            raise ValueError(f"num_styles is {self.num_styles}, but as style {given}")
        tokens = self.mapper(regions)
        if self.styles is not None:
            tokens = torch.cat([tokens, self.styles(style)[:, None]], 1)
        return tokens

    def forward(
        self, regions: Tensor, words: Tensor, style: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Teacher forcing: logits (B, T, V) of x_1..x_T given START, x_1..x_{T-1}, and attention
        (B, T, 0), over no regions; words (B, T) int64."""
        tokens = torch.cat([self.prefix(regions, style), self.embedding(shifted(words))], 1)
        drop = self.dropout if self.training else 0.0
        hidden, _ = self.body(tokens, self.body.no_past(len(tokens)), drop)
        logits = self._read_out(hidden[:, -words.shape[1] :])
        return logits, logits.new_empty(*words.shape, 0)

    def look(self, regions: Tensor, style: Tensor | None = None) -> Context:
        tokens = self.prefix(regions, style)
        _, trunk = self.body(tokens, self.body.no_past(len(tokens)))
        return Context(trunk)

    def start(self, context: Context, image: Tensor) -> GPT2State:
        trunk = context.trunk
        length = torch.full_like(image, trunk.shape[4])
        width = trunk.shape[3] * trunk.shape[5]
        return self._branch(trunk, image, length, trunk.new_zeros(1, width).expand(len(image), -1))

    @torch.no_grad()
    def read(self, words: Tensor, image: Tensor, context: Context) -> GPT2State:
        past = context.trunk[:, :, image]
        hidden, trunk = self.body(self.embedding(shifted(words)), past)
        R, T = words.shape
        caption = torch.arange(R, device=words.device).repeat(T)
        length = past.shape[4] + 1 + torch.arange(T, device=words.device).repeat_interleave(R)
        return self._branch(trunk, caption, length, hidden.transpose(0, 1).flatten(0, 1))

    @torch.no_grad()
    def advance(self, words: Tensor, state: GPT2State, context: Context) -> GPT2State:
        sits, trunk = state.seats or seats(state.owner), state.trunk
        pairs = state.own.gather(
            state.scratch, (*trunk.shape[:2], len(words), trunk.shape[3], trunk.shape[5])
        )
        places = torch.arange(trunk.shape[4], device=words.device)
        unseen = torch.zeros_like(state.hidden[:, :1]).expand(-1, len(places))
        unseen = unseen.masked_fill(places >= state.length[:, None], float("-inf"))[:, None]
        place = state.length + len(state.own.levels)
        attended = Attended(trunk, sits, unseen, pairs)
        hidden = self.body.step(self.embedding(words), place, attended)
        return replace(state, own=state.own.read(pairs[-1].clone()), hidden=hidden, seats=sits)

    def logits(self, state: GPT2State, context: Context) -> Tensor:
        return self._read_out(state.hidden)

    def step(self, words: Tensor, state: GPT2State, context: Context) -> tuple[Tensor, GPT2State]:
        state = self.advance(words, state, context)
        return self.logits(state, context), state

    def prepared(self, context: Context, images: tuple[int, int], **_: object) -> GPT2Captioner:
        """Itself: nothing that rows of an image share is left to compute."""
        return self

    def footprint(self, context: Context) -> Footprint:
        _, L, _, H, P, d = context.trunk.shape
        size, pair = context.trunk.element_size(), 2 * L * H * d
        return Footprint(
            image=0,
            caption=pair * (P + self.max_length) * size,
            row=pair * self.max_length // 4 * size,  # what rows read stays: T^2 / 2 a T rows
            step=(pair * self.max_length + 2 * self.num_words + 12 * H * d) * size,
        )

    def _branch(self, trunk: Tensor, owner: Tensor, length: Tensor, hidden: Tensor) -> GPT2State:
        """Rows that have read nothing but the first `length` places of their trunk rows."""
        own = Own((), owner.new_empty(len(owner), 0))
        return GPT2State(trunk, owner, length, own, hidden, Scratch(trunk))

    def _read_out(self, hidden: Tensor) -> Tensor:
        """Logits by the embedding's own weights; `PAD` and `START` can never be written."""
        return linear(hidden, self.embedding.weight).index_fill_(-1, self.never, float("-inf"))
