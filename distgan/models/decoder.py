"""What rollouts ask of a captioner: start, step, and states that can be gathered by row.

Letters: I images, R rows (captions being written, several an image), T words, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, Self

from torch import Tensor

PAD, START, END, UNK = 0, 1, 2, 3
"""The first words of every vocabulary. `PAD` and `START` have logit -inf in the network."""


class State(Protocol):
    """Where each row stands in its caption."""

    def rows(self, index: Tensor) -> Self:
        """The states of rows `index` (int64), in that order; rows may repeat."""
        ...

    def join(self, others: Sequence[Self]) -> Self:
        """These rows, then those of each of `others`; all have read equally many words."""
        ...


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
        """The state before the first word of R rows; image (R,) int64 names each row's image."""
        ...

    def step(self, words: Tensor, state: State, context: object) -> tuple[Tensor, State]:
        """Read one word a row, (R,) int64 (`START` first); logits (R, V) of the next, new state."""
        ...
