"""A run's pictures of its captions, from words and tensors to figures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from distgan.advantages import advantages
from distgan.data.dataset import Split
from distgan.data.vocabulary import Vocabulary
from distgan.models.captioner import AttentionCaptioner
from distgan.models.decoder import PAD
from distgan.randomness import STREAMS, Draw
from distgan.rollouts import Score, greedy, monte_carlo, sample

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ROLLOUTS = 16  # of each prefix, for the rewards that are drawn


@torch.no_grad()
def draw_captions(
    captioner: AttentionCaptioner,
    regions: Tensor,
    style: Tensor | None,
    split: Split,
    size: int,
    vocabulary: Vocabulary,
) -> Figure:
    """The first images of a split, their greedy captions and where each word looked.

    regions (B, K, D) are those of the split's first B images, drawn `size` pixels wide.
    """
    from distgan.metrics.pictures import SheetCaption, SheetRow, caption_sheet

    image = torch.arange(len(regions), device=regions.device)
    words = greedy(captioner, captioner.look(regions, style), image)
    _, attention = captioner(regions, words, style)
    rows = []
    for i, (caption, maps) in enumerate(zip(words.cpu(), attention.cpu(), strict=True)):
        written = names_of(vocabulary, caption)
        pixels = split.image(i, size).permute(1, 2, 0).numpy()
        said = SheetCaption("now", written, attention=grids(maps[: len(written)]))
        rows.append(SheetRow(pixels, [said], title=split.key(i)))
    return caption_sheet(rows)


@torch.no_grad()
def draw_rewards(
    captioner: AttentionCaptioner, context: object, score: Score, vocabulary: Vocabulary
) -> Figure:
    """Q, baseline and advantage of each word of a caption sampled for the context's one image."""
    from distgan.metrics.pictures import word_rewards

    draw = Draw(0, STREAMS["evaluation"], 0)
    first = torch.zeros(1, dtype=torch.int64, device=next(captioner.parameters()).device)
    samples = sample(captioner, context, draw, first)
    values = monte_carlo(captioner, context, samples, score, rollouts=ROLLOUTS, draw=draw)
    written = names_of(vocabulary, samples.words[0].cpu())
    advantage = advantages(values, samples.words, "prefix", whiten=False)
    assert values.value_before is not None
    q, b, A = (
        x[0, : len(written)].float().cpu().numpy()
        for x in (values.q, values.value_before, advantage)
    )
    return word_rewards(written, q, b, A)


def names_of(vocabulary: Vocabulary, caption: Tensor) -> list[str]:
    """The words of one caption (T,), `<end>` among them."""
    return [vocabulary.words[int(word)] for word in caption if word != PAD]


def grids(attention: Tensor) -> np.ndarray:
    """Maps (T, side, side) from attention (T, K) over a square grid of regions."""
    side = round(attention.shape[-1] ** 0.5)
    return attention.detach().float().reshape(-1, side, side).numpy()
