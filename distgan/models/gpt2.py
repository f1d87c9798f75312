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

from dataclasses import dataclass
from typing import NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, gelu, scaled_dot_product_attention

ROOM = 8
"""Own tokens a cache has room for beyond those it is made with."""


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


@dataclass
class Cache:
    """Keys and values of rows' own tokens. Grows in place; what was written stays."""

    pairs: Tensor  # (2, L, R, H, room, d)
    filled: int

    @classmethod
    def empty(cls, layers: int, rows: int, trunk: Tensor) -> Self:
        """No tokens; shapes and dtype as in `trunk` (2, L, C, H, M, d)."""
        return cls(trunk.new_empty(2, layers, rows, trunk.shape[3], 0, trunk.shape[5]), 0)

    def rows(self, index: Tensor, used: int) -> Cache:
        """The first `used` tokens of rows `index`."""
        return Cache(self.pairs[:, :, :, :, :used].index_select(2, index), used)

    def to_write(self, used: int) -> Cache:
        """Itself if it has room after `used` tokens and nobody wrote there, else a copy that has.

        So whoever holds the first `used` tokens may go on in several ways.
        """
        if self.filled == used < self.pairs.shape[4]:
            return self
        shape = list(self.pairs.shape)
        shape[4] = used + ROOM
        pairs = self.pairs.new_empty(shape)
        pairs[:, :, :, :, :used] = self.pairs[:, :, :, :, :used]
        return Cache(pairs, used)


class Attended(NamedTuple):
    """What one step's attention is over, in every layer."""

    trunk: Tensor  # (2, L, C, H, M, d)
    seats: Seats
    unseen: Tensor  # (R, 1, M): 0 where a row sees the trunk's place, else -inf
    own: Tensor  # (2, L, R, H, room, d), written here
    used: int  # own tokens before this one

    def __call__(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """(R, W) from query, key and value (R, H, d) of this token, whose place is filled in."""
        (R, H, d), used, places = query.shape, self.used, self.unseen.shape[2]
        self.own[0, layer, :, :, used] = key
        self.own[1, layer, :, :, used] = value
        own_keys, own_values = self.own[:, layer, :, :, : used + 1].flatten(1, 2)  # (RH, S, d)
        keys, values = self.trunk[:, layer, self.seats.low : self.seats.high]  # (G, H, M, d)
        query = query / d**0.5
        common = self._apart(self._together(query) @ keys.transpose(2, 3))
        own = torch.bmm(query.view(R * H, 1, d), own_keys.transpose(1, 2)).view(R, H, used + 1)
        weights = torch.cat([common + self.unseen, own], 2).softmax(2)
        seen, since = weights.split([places, used + 1], 2)
        out = self._apart(self._together(seen) @ values)
        return out.add_(torch.bmm(since.reshape(R * H, 1, -1), own_values).view(R, H, d)).flatten(1)

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
