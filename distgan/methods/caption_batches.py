"""Batches of captions joined and repeated."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from distgan.engine.stages import Batch


def join(batches: Sequence[Batch], names: Sequence[str]) -> Batch:
    """The named tensors of several batches, one after the other."""
    return {name: torch.cat([batch[name] for batch in batches]) for name in names}


def repeat_rows(batch: Batch, times: int) -> Batch:
    """Each sample `times` times, side by side, its weight shared among them."""
    repeated = {
        name: value.repeat_interleave(times, 0)
        if isinstance(value, Tensor)
        else [entry for entry in value for _ in range(times)]
        for name, value in batch.items()
    }
    return {**repeated, "weight": repeated["weight"] / times}
