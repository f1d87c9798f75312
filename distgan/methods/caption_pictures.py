"""A run's pictures of its captions, from words and tensors to figures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from distgan.data.dataset import Split
from distgan.data.vocabulary import Vocabulary
from distgan.models.decoder import PAD
from distgan.rollouts import MonteCarlo

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw_captions(
    split: Split, size: int, vocabulary: Vocabulary, words: Tensor, attention: Tensor
) -> Figure:
    """The first images of a split with captions (B, T) and where each word looked (B, T, K)."""
    from distgan.metrics.pictures import SheetCaption, SheetRow, caption_sheet

    rows = []
    for i, (caption, maps) in enumerate(zip(words.cpu(), attention.cpu(), strict=True)):
        written = names_of(vocabulary, caption)
        image = split.image(i, size).permute(1, 2, 0).numpy()
        said = SheetCaption("now", written, attention=grids(maps[: len(written)]))
        rows.append(SheetRow(image, [said], title=split.key(i)))
    return caption_sheet(rows)


def draw_rewards(
    vocabulary: Vocabulary, words: Tensor, values: MonteCarlo, advantages: Tensor
) -> Figure:
    """Q, baseline and advantage of each word of the first caption."""
    from distgan.metrics.pictures import word_rewards

    written = names_of(vocabulary, words[0].cpu())
    assert values.value_before is not None
    q, b, A = (
        x[0, : len(written)].float().cpu().numpy()
        for x in (values.q, values.value_before, advantages)
    )
    return word_rewards(written, q, b, A)


def names_of(vocabulary: Vocabulary, caption: Tensor) -> list[str]:
    """The words of one caption (T,), `<end>` among them."""
    return [vocabulary.words[int(word)] for word in caption if word != PAD]


def grids(attention: Tensor) -> np.ndarray:
    """Maps (T, side, side) from attention (T, K) over a square grid of regions."""
    side = round(attention.shape[-1] ** 0.5)
    return attention.detach().float().reshape(-1, side, side).numpy()
