"""An attention captioner made ready to write many rows about the same images.

What a row needs of its image is linear in its attention: A a^_t = sum_k e_{t,k} (A a_k), and so is
the readout's share of a^_t (Eq. 7). So both are projected once an image and region, and a row adds
up K rows of the result in place of multiplying by matrices as long as a region: at 49 regions of
2048 numbers and 9,703 words a row-step takes 7 million multiplications instead of 31. Rows of one
image share its table in one matrix product. Buffers are reused, and what `logits` returns lasts
until its next call.

Letters: I images, K regions, D size of a region, R rows, V vocabulary, H hidden, A attention,
G gates (4H of an LSTM).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import linear

from distgan.models.decoder import PAD, START, Footprint, read_by_steps

if TYPE_CHECKING:
    from distgan.models.captioner import AttentionCaptioner, CaptionerState, Context


class Tables(NamedTuple):
    """What rows look up."""

    keys: Tensor  # W_a a_k, (I, K, A)
    gates: Tensor  # A a_k, (I, K, G)
    words: Tensor  # the readout's share of a_k, (I, K, V)
    word_gates: Tensor | None  # W w + b of every word, (V, G), where that is less work


class PreparedCaptioner:
    """A `distgan.models.decoder.Decoder` for the images of one context, without gradients."""

    def __init__(
        self,
        captioner: AttentionCaptioner,
        context: Context,
        images: tuple[int, int],
        *,
        row_steps: int,
        chunk_rows: int,
        dtype: torch.dtype,
    ) -> None:
        self.captioner, self.dtype, self._first = captioner, dtype, images[0]
        self.num_words, self.max_length = captioner.num_words, captioner.max_length
        weight = captioner.readout.weight.to(dtype)
        self._readout = weight[:, : captioner.hidden].t()
        self._bias = captioner.readout.bias.to(dtype)
        regions = context.regions[slice(*images)].to(dtype)
        self.tables = Tables(
            context.keys[slice(*images)].to(dtype),
            linear(regions, captioner.region_gates.weight.to(dtype)),
            linear(regions, weight[:, captioner.hidden :]),
            self._every_word() if row_steps > 2 * self.num_words else None,
        )
        _, K, A = context.keys.shape
        self._inner = regions.new_empty(chunk_rows, K, A)
        self._logits = regions.new_empty(chunk_rows, self.num_words)

    def _every_word(self) -> Tensor:
        return self.captioner.word_gates(self.captioner.embedding.weight)

    def look(self, regions: Tensor, style: Tensor | None) -> Context:
        return self.captioner.look(regions, style)

    def prepared(self, context: Context, images: tuple[int, int], **_: object) -> PreparedCaptioner:
        """Itself: it is ready."""
        return self

    def footprint(self, context: Context) -> Footprint:
        return self.captioner.footprint(context)._replace(image=0)

    def start(self, context: Context, image: Tensor) -> CaptionerState:
        return self.captioner.start(context, image)

    def read(self, words: Tensor, image: Tensor, context: Context) -> CaptionerState:
        return read_by_steps(self, words, image, context)

    def step(
        self, words: Tensor, state: CaptionerState, context: Context
    ) -> tuple[Tensor, CaptionerState]:
        state = self.advance(words, state, context)
        return self.logits(state, context), state

    def advance(self, words: Tensor, state: CaptionerState, context: Context) -> CaptionerState:
        image = state.image - self._first
        e = self._attend(state.h, image)
        gates = self._word_gates(words)
        if context.style_gates is not None:
            gates = gates + context.style_gates[state.image]
        add_weighted(gates, e, self.tables.gates, image)
        h, c = self.captioner.recur(gates, state.h, state.c)
        return type(state)(h, c, e, state.image)

    def logits(self, state: CaptionerState, context: Context) -> Tensor:
        logits = self._logits[: len(state.h)]
        torch.addmm(self._bias, state.h.to(self.dtype), self._readout, out=logits)
        add_weighted(logits, state.e, self.tables.words, state.image - self._first)
        for word in (PAD, START):
            logits[:, word] = float("-inf")
        return logits

    def _word_gates(self, words: Tensor) -> Tensor:
        if self.tables.word_gates is not None:
            return self.tables.word_gates[words]
        return self.captioner.word_gates(self.captioner.embedding(words))

    def _attend(self, h: Tensor, image: Tensor) -> Tensor:
        """Eq. 7's e (R, K)."""
        inner = self._inner[: len(h)]
        torch.index_select(self.tables.keys, 0, image, out=inner)
        inner.add_(self.captioner.hidden_keys(h).to(self.dtype)[:, None]).tanh_()
        scores = inner @ self.captioner.scores.weight[0].to(self.dtype)
        return scores.to(h.dtype).softmax(1)


def add_weighted(to: Tensor, weights: Tensor, table: Tensor, image: Tensor) -> None:
    """Add sum_k weights[r, k] table[image[r], k] to each row of `to` (R, F), in place.

    weights (R, K), table (I, K, F). Rows of one image should be neighbours: each run of them is
    one matrix product, and runs of one call are padded to the longest.
    """
    weights, table = weights.to(to.dtype), table.to(to.dtype)
    first, counts = image.unique_consecutive(return_counts=True)
    images, sizes = first.tolist(), counts.tolist()
    low, high = images[0], images[-1] + 1
    if len(images) == 1:
        to.addmm_(weights, table[low])
        return
    in_order = images == list(range(low, high))
    chosen = table[low:high] if in_order else table[first]
    longest = max(sizes)
    if min(sizes) == longest:
        to.unflatten(0, (-1, longest)).baddbmm_(weights.unflatten(0, (-1, longest)), chosen)
        return
    ends = counts.cumsum(0)
    gap = torch.arange(len(images), device=image.device) * longest - (ends - counts)
    place = torch.arange(len(image), device=image.device) + gap.repeat_interleave(
        counts, output_size=len(image)
    )
    padded = weights.new_zeros(len(images) * longest, weights.shape[1])
    padded[place] = weights
    to.add_(torch.bmm(padded.unflatten(0, (-1, longest)), chosen).flatten(0, 1)[place])
