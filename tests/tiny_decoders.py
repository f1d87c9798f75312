"""Every decoder, tiny, with random weights in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from distgan.models.captioner import AttentionCaptioner
from distgan.models.gpt2_captioner import GPT2Captioner
from distgan.models.gru_captioner import GRUCaptioner

RECURRENT = {"embedding": 4, "hidden": 5, "attention": 4}
GPT2 = {"layers": 2, "heads": 2, "width": 8, "prefix": 3}

DECODERS: dict[str, Callable[..., Any]] = {
    "lstm": lambda *sizes, **more: AttentionCaptioner(*sizes, **RECURRENT | more),
    "gru": lambda *sizes, **more: GRUCaptioner(*sizes, **RECURRENT | more),
    "gpt2": lambda *sizes, **more: GPT2Captioner(*sizes, **GPT2 | more),
    "gpt2-attending": lambda *sizes, **more: GPT2Captioner(
        *sizes, **GPT2 | {"mapper": "attention"} | more
    ),
}


def tiny_decoder(name: str, seed: int, *sizes: int, **more: Any) -> Any:
    """A decoder of (words, longest caption, size of a region), far from even in what it says."""
    torch.manual_seed(seed)
    decoder = DECODERS[name](*sizes, **more).double()
    spread = ("readout.weight",) if name in ("lstm", "gru") else ("embedding.weight", "body")
    with torch.no_grad():
        for key, value in decoder.named_parameters():
            if key.startswith(spread) and value.dim() == 2:
                value.mul_(3 if name in ("lstm", "gru") else 10)
    return decoder
