"""Hard negatives for a critic: real captions with one word replaced by another plausible one.

The generator, looking at another picture (or at none), says what could stand in a word's place;
its answer is taken instead. The caption reads well up to that word, and what it says is usually
wrong: another colour, an adjective that does not go with the noun. Replaced-token detection
(Clark et al., ELECTRA, arXiv 2003.10555), at the level of captions.
"""

from __future__ import annotations

import torch
from torch import Tensor

from distgan.models.decoder import END, PAD
from distgan.sampling import choose


def swap_a_word(logits: Tensor, words: Tensor, place: Tensor, pick: Tensor) -> Tensor:
    """Captions `words` (B, T) with one word drawn anew from `logits` (B, T, V) and not the same.

    `place` and `pick` (B,) are uniforms: which word, and by which other one. A caption without
    any word but `END` stays as it is.
    """
    said = (words != PAD) & (words != END)
    at = (place * said.sum(1)).long()  # words come first, so the n-th word stands at n
    row = torch.arange(len(words), device=words.device)
    here = logits[row, at].clone()
    here[row, words[row, at]] = float("-inf")
    here[:, END] = float("-inf")
    other = choose(here, pick[:, None])[:, 0]
    swapped = words.clone()
    swapped[row, at] = torch.where(said[row, at], other, words[row, at])
    return swapped
