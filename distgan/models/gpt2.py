"""GPT-2's blocks (Radford et al. 2019), over whole sequences and one token at a time.

One token at a time, a row attends to two parts. The trunk is what several rows have in common:
the image's tokens, or a whole caption that rollouts branch off; its keys and values are held
once, and a row sees the first `length` places of one of its rows. The other part is the row's
own: the tokens it has read since. Scores of both parts go through one softmax, so this is the
attention over the whole sequence, to rounding.

Letters: R rows, C rows of the trunk, H heads, d size of a head, W = H d width, M places of the
trunk, S own tokens, L layers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, gelu, scaled_dot_product_attention


class Seats(NamedTuple):
    """Rows side by side with the others of their trunk row: places in (G, N), G of its rows."""

    low: int  # the trunk rows low, ..., low + G - 1 have any
    high: int
    most: int  # N, rows of the trunk row that has most
    seat: Tensor  # (R,) int64: (owner - low) N + which of its owner's rows this is


def seats(owner: Tensor) -> Seats:
    """Where rows with these owners (R,) sit. Asks the device for three numbers."""
    if len(owner) == 0:
        return Seats(0, 0, 0, owner)
    order = owner.argsort(stable=True)
    own = owner[order]
    place = torch.empty_like(owner)
    place[order] = torch.arange(len(own), device=own.device) - torch.searchsorted(own, own)
    low, high, last = torch.stack([own[0], own[-1], place.amax()]).tolist()
    return Seats(low, high + 1, last + 1, (owner - low) * (last + 1) + place)


@dataclass(frozen=True)
class Own:
    """The tokens each row read for itself: where their keys and values are, among those that all
    rows of a step made together. So rows that part share what they have in common, and to gather
    rows is to gather numbers."""

    levels: tuple[Tensor, ...]  # of each token, (2, L, rows of that step, H, d)
    path: Tensor  # (R, S) int64: in each level, which row

    def rows(self, index: Tensor) -> Own:
        return Own(self.levels, self.path[index])

    def join(self, others: Sequence[Own]) -> Own:
        """These rows, then those of each of `others`; levels they do not share become one."""
        every, levels, paths = (self, *others), [], []
        for number, same in enumerate(zip(*(own.levels for own in every), strict=True)):
            path = [own.path[:, number] for own in every]
            if any(level is not same[0] for level in same):
                sizes = [0, *(level.shape[2] for level in same[:-1])]
                path = [p + first for p, first in zip(path, accumulate(sizes), strict=True)]
                same = (torch.cat(same, 2),)
            levels.append(same[0])
            paths.append(torch.cat(path))
        rows = sum(len(own.path) for own in every)
        path = torch.stack(paths, 1) if paths else self.path.new_empty(rows, 0)
        return Own(tuple(levels), path)

    def gather(self, scratch: Scratch, shape: Sequence[int]) -> Tensor:
        """(S + 1, 2, L, R, H, d), the last place to be filled in; `shape` is without S + 1."""
        pairs = scratch.take((len(self.levels) + 1, *shape))
        for number, level in enumerate(self.levels):
            torch.index_select(level, 2, self.path[:, number], out=pairs[number])
        return pairs

    def read(self, pairs: Tensor) -> Own:
        """One more token a row, pairs (2, L, R, H, d)."""
        own = torch.arange(len(self.path), device=self.path.device)
        return Own((*self.levels, pairs), torch.cat([self.path, own[:, None]], 1))


class Scratch:
    """Memory for what a step gathers, used again by the next: fresh memory costs the system more
    than the copy does."""

    def __init__(self, like: Tensor) -> None:
        self._held = like.new_empty(0)

    def take(self, shape: Sequence[int]) -> Tensor:
        """Memory of this shape, until the next call."""
        count = math.prod(shape)
        if count > len(self._held):
            self._held = self._held.new_empty(count + count // 2)
        return self._held[:count].view(shape)


class Attended(NamedTuple):
    """What one step's attention is over, in every layer."""

    trunk: Tensor  # (2, L, C, H, M, d)
    seats: Seats
    unseen: Tensor  # (R, 1, M): 0 where a row sees the trunk's place, else -inf
    own: Tensor  # (S, 2, L, R, H, d); the last token's is filled in, layer by layer

    def __call__(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """(R, W) from query, key and value (R, H, d) of this token."""
        (R, H, d), S, places = query.shape, len(self.own), self.unseen.shape[2]
        self.own[-1, 0, layer], self.own[-1, 1, layer] = key, value
        own_keys, own_values = self.own[:, :, layer].flatten(2, 3).unbind(1)  # (S, RH, d)
        keys, values = self.trunk[:, layer, self.seats.low : self.seats.high]  # (G, H, M, d)
        query = query / d**0.5
        common = self._apart(self._together(query) @ keys.transpose(2, 3))
        own = torch.bmm(query.view(R * H, 1, d), own_keys.permute(1, 2, 0)).view(R, H, S)
        weights = torch.cat([common + self.unseen, own], 2).softmax(2)
        seen, since = weights.split([places, S], 2)
        out = self._apart(self._together(seen) @ values)
        since = since.reshape(R * H, 1, S)
        return out.add_(torch.bmm(since, own_values.transpose(0, 1)).view(R, H, d)).flatten(1)

    def _together(self, x: Tensor) -> Tensor:
        """(G, H, N, F) of x (R, H, F): rows beside those of the same trunk row."""
        low, high, most, seat = self.seats
        table = x.new_zeros((high - low) * most, *x.shape[1:])
        table[seat] = x
        return table.unflatten(0, (high - low, most)).transpose(1, 2)

    def _apart(self, x: Tensor) -> Tensor:
        """(R, H, F) of x (G, H, N, F)."""
        return x.transpose(1, 2).flatten(0, 1)[self.seats.seat]


class Block(nn.Module):
    """Pre-norm attention and a two-layer network, each added to what came in."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm = nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * width)
        self.attention_out = nn.Linear(width, width)
        self.network_norm = nn.LayerNorm(width)
        self.inner = nn.Linear(width, 4 * width)
        self.outer = nn.Linear(4 * width, width)

    def forward(self, x: Tensor, past: Tensor, drop: float) -> tuple[Tensor, Tensor]:
        """x (B, T, W) after tokens whose keys and values are `past` (2, B, H, P, d).

        The new x, and keys and values (2, B, H, P + T, d). `drop` of the attention's weights and
        of what is added.
        """
        parts = self.query_key_value(self.attention_norm(x)).chunk(3, 2)
        query, key, value = (part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in parts)
        pairs = torch.cat([past, torch.stack([key, value])], 3)
        T, places = x.shape[1], pairs.shape[3]
        seen = torch.ones(T, places, dtype=torch.bool, device=x.device).tril(places - T)
        out = scaled_dot_product_attention(query, *pairs, attn_mask=seen, dropout_p=drop)
        x = x + dropout(self.attention_out(out.transpose(1, 2).flatten(2)), drop)
        return x + dropout(self._network(x), drop), pairs

    def step(self, x: Tensor, layer: int, attended: Attended) -> Tensor:
        """The new x of one token of each row, x (R, W)."""
        parts = self.query_key_value(self.attention_norm(x)).chunk(3, 1)
        query, key, value = (part.unflatten(1, (self.heads, -1)) for part in parts)
        x = x + self.attention_out(attended(layer, query, key, value))
        return x + self._network(x)

    def _network(self, x: Tensor) -> Tensor:
        return self.outer(gelu(self.inner(self.network_norm(x)), approximate="tanh"))


class Blocks(nn.Module):
    """The learned places, all blocks and the last norm."""

    def __init__(self, layers: int, heads: int, width: int, places: int) -> None:
        super().__init__()
        self.layers, self.heads = layers, heads
        self.places = nn.Embedding(places, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self._initialise()

    def _initialise(self) -> None:
        """GPT-2's: 0.02, and less for what is added to the stream, which many layers add to."""
        for name, value in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(value)
            elif value.dim() == 2:
                adds = name.endswith(("attention_out.weight", "outer.weight"))
                nn.init.normal_(value, std=0.02 / (2 * self.layers) ** 0.5 if adds else 0.02)

    def no_past(self, rows: int) -> Tensor:
        """Keys and values of nothing, (2, L, rows, H, 0, d)."""
        width = self.norm.weight.shape[0]
        return self.norm.weight.new_empty(2, self.layers, rows, self.heads, 0, width // self.heads)

    def forward(self, x: Tensor, past: Tensor, drop: float = 0.0) -> tuple[Tensor, Tensor]:
        """Tokens x (B, T, W) after those of `past` (2, L, B, H, P, d).

        The normed output (B, T, W), and keys and values (2, L, B, H, P + T, d) of all.
        """
        first = past.shape[4]
        places = torch.arange(first, first + x.shape[1], device=x.device)
        x = dropout(x + self.places(places), drop)
        every = []
        for block, before in zip(self.blocks, past.unbind(1), strict=True):
            x, pairs = block(x, before, drop)
            every.append(pairs)
        return self.norm(x), torch.stack(every, 1)

    def step(self, x: Tensor, place: Tensor, attended: Attended) -> Tensor:
        """The normed output (R, W) of one token x (R, W) a row, at places (R,)."""
        x = x + self.places(place)
        for layer, block in enumerate(self.blocks):
            x = block.step(x, layer, attended)
        return self.norm(x)
