"""A decoder that notes what it is asked for."""

from __future__ import annotations

from torch import Tensor

from distgan.models.decoder import Decoder, Footprint, State


class Counted:
    """A `distgan.models.decoder.Decoder`: another one, and how many rows each call had."""

    def __init__(self, decoder: Decoder) -> None:
        self.decoder = decoder
        self.num_words, self.max_length = decoder.num_words, decoder.max_length
        self.reads: list[tuple[int, int]] = []  # (captions, words) of `read`
        self.advances: list[int] = []
        self.readouts: list[int] = []

    @property
    def row_steps(self) -> int:
        """Words read, by captions and by rollouts."""
        return sum(captions * words for captions, words in self.reads) + sum(self.advances)

    def look(self, regions: Tensor, style: Tensor | None) -> object:
        return self.decoder.look(regions, style)

    def start(self, context: object, image: Tensor) -> State:
        return self.decoder.start(context, image)

    def advance(self, words: Tensor, state: State, context: object) -> State:
        self.advances.append(len(words))
        return self.decoder.advance(words, state, context)

    def logits(self, state: State, context: object) -> Tensor:
        logits = self.decoder.logits(state, context)
        self.readouts.append(len(logits))
        return logits

    def step(self, words: Tensor, state: State, context: object) -> tuple[Tensor, State]:
        state = self.advance(words, state, context)
        return self.logits(state, context), state

    def read(self, words: Tensor, image: Tensor, context: object) -> State:
        self.reads.append((words.shape[0], words.shape[1]))
        return self.decoder.read(words, image, context)

    def prepared(self, context: object, images: tuple[int, int], **how: object) -> Counted:
        inner = self.decoder.prepared(context, images, **how)
        ready = Counted(inner)
        ready.reads, ready.advances, ready.readouts = self.reads, self.advances, self.readouts
        return ready

    def footprint(self, context: object) -> Footprint:
        return self.decoder.footprint(context)
