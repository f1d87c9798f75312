"""A run's pictures of its captions, from words and tensors to figures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from distgan.advantages import advantages
from distgan.data.vocabulary import Tokens
from distgan.methods.caption_networks import CaptionNetwork
from distgan.models.decoder import PAD
from distgan.randomness import STREAMS, Draw
from distgan.rollouts import Score, greedy, monte_carlo, sample

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ROLLOUTS = 16  # of each prefix, for the rewards that are drawn


@torch.no_grad()
def draw_captions(
    captioner: CaptionNetwork,
    regions: Tensor,
    style: Tensor | None,
    images: Mapping[str, Tensor],
    vocabulary: Tokens,
) -> Figure:
    """Images uint8 (3, S, S) by name, their greedy captions and where each word looked, if the
    captioner attends to regions.

    regions (B, K, D) are those of the images, style (B,).
    """
    from distgan.metrics.pictures import SheetCaption, SheetRow, caption_sheet

    image = torch.arange(len(regions), device=regions.device)
    words = greedy(captioner, captioner.look(regions, style), image)
    _, attention = captioner(regions, words, style)
    rows = []
    drawn = zip(images.items(), words.cpu(), attention.cpu(), strict=True)
    for (key, pixels), caption, maps in drawn:
        written = names_of(vocabulary, caption)
        looked = grids(maps[: len(written)]) if captioner.has_attention else None
        said = SheetCaption("now", written, attention=looked)
        rows.append(SheetRow(pixels.permute(1, 2, 0).numpy(), [said], title=key))
    return caption_sheet(rows)


@torch.no_grad()
def draw_rewards(
    captioner: CaptionNetwork, context: object, score: Score, vocabulary: Tokens
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


def names_of(vocabulary: Tokens, caption: Tensor) -> list[str]:
    """The words of one caption (T,), `<end>` among them."""
    return [vocabulary.name(int(word)) for word in caption if word != PAD]


def grids(attention: Tensor) -> np.ndarray:
    """Maps (T, side, side) from attention (T, K) over a square grid of regions."""
    side = round(attention.shape[-1] ** 0.5)
    return attention.detach().float().reshape(-1, side, side).numpy()
