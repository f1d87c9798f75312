"""What rollouts ask of a captioner: start, step, and states that can be gathered by row.

A step has two halves, so that a word can be read by all rows at once while the vocabulary is
projected for a few rows at a time, and never for rows whose next word nobody asks for:

    state = decoder.advance(words, state, context)   # read a word a row
    logits = decoder.logits(state, context)          # of the next, for these rows or some of them

`read` gives the states after every prefix of whole captions in one call. Rows gathered from it
share what their caption's prefix costs to remember: a recurrent decoder's row is a few vectors,
GPT-2's refers to the one copy of the caption's keys and values and keeps its own words' only.

Letters: I images, R rows (captions being written, several an image), T words, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol, Self

import torch
from torch import Tensor

PAD, START, END, UNK = 0, 1, 2, 3
"""The first words of every vocabulary. `PAD` and `START` have logit -inf in the network."""


class State(Protocol):
    """Where each row stands in its caption. A value: no later call changes it."""

    def rows(self, index: Tensor) -> Self:
        """The states of rows `index` (int64), in that order; rows may repeat."""
        ...

    def join(self, others: Sequence[Self]) -> Self:
        """These rows, then those of each of `others`; all come from one `start` or one `read`,
        and have made equally many steps since."""
        ...


class Footprint(NamedTuple):
    """Bytes that rows take, about."""

    image: int  # made ready once an image
    caption: int  # what `read` holds of a caption, all its prefixes
    row: int  # a row's state
    step: int  # beside it, while the row reads a word and its logits are there


class Decoder(Protocol):
    """A captioner that writes one word at a time.

    `Context` is whatever the decoder computes once per image (projected features); rows refer
    to it by image number, it is never repeated per row.
    """

    num_words: int  # V
    max_length: int  # T, `END` included

    def look(self, regions: Tensor, style: Tensor | None) -> object:
        """The context of I images: regions (I, K, D), style (I,) int64 or None."""
        ...

    def start(self, context: object, image: Tensor) -> State:
        """The state before `START` of R rows; image (R,) int64 names each row's image."""
        ...

    def advance(self, words: Tensor, state: State, context: object) -> State:
        """Read one word a row, (R,) int64 (`START` first)."""
        ...

    def logits(self, state: State, context: object) -> Tensor:
        """Logits (R, V) of the next word of rows that have read `START` or more."""
        ...

    def step(self, words: Tensor, state: State, context: object) -> tuple[Tensor, State]:
        """`advance` and `logits`: the logits (R, V) of the next word, and the new state."""
        ...

    def read(self, words: Tensor, image: Tensor, context: object) -> State:
        """The states of all prefixes of captions words (R, T) of images (R,), T * R rows.

        Row t * R + r has read `START`, x_1..x_t of caption r, and is about to write x_{t+1}.
        Rows past a caption's end are there and mean nothing.
        """
        ...

    def prepared(
        self,
        context: object,
        images: tuple[int, int],
        *,
        row_steps: int,
        chunk_rows: int,
        dtype: torch.dtype | None,
    ) -> Decoder:
        """A decoder made ready for many rows of images first..last - 1 of this context; or itself.

        About `row_steps` rows will be read in all, at most `chunk_rows` at once, with the products
        in `dtype`, None: its own. Without gradients; logits last until the next call.
        """
        ...

    def footprint(self, context: object) -> Footprint:
        """What writing rows about this context takes."""
        ...


def read_by_steps(decoder: Decoder, words: Tensor, image: Tensor, context: object) -> State:
    """`Decoder.read` for recurrent decoders: one word after the other."""
    state, states = decoder.start(context, image), []
    for read in shifted(words).unbind(1):
        state = decoder.advance(read, state, context)
        states.append(state)
    return states[0].join(states[1:])


def shifted(words: Tensor) -> Tensor:
    """What is read before each word of captions (R, T): `START`, x_1..x_{T-1}."""
    return torch.cat([torch.full_like(words[:, :1], START), words[:, :-1]], 1)


def within(words: Tensor) -> Tensor:
    """Captions (R, T) without the columns that are padding in all of them: (R, longest)."""
    return words[:, : max(1, int((words != PAD).sum(1).amax()))]


@torch.no_grad()
def copy_known(vectors: Tensor, embedding: Tensor) -> None:
    """Copy word vectors (V, D) into an embedding; a row of NaN keeps what is there."""
    if vectors.shape != embedding.shape:
        raise ValueError(
            f"word vectors must have shape {tuple(embedding.shape)}, got {tuple(vectors.shape)}"
        )
    known = ~vectors.isnan().any(1, keepdim=True)
    embedding.copy_(torch.where(known, vectors.to(embedding), embedding))
