"""Captions that the generator wrote earlier, kept for the critic to meet again.

A critic that sees the newest samples alone forgets what it told apart before, and the generator
may come back to it. So, as Shrivastava et al. do for images (arXiv 1612.07828, section 2.3), half
of what the critic is shown as the generator's comes from a history of it.

The pool is one for all ranks: every rank holds the same captions in the same order, and which of
them stands in for which sample is keyed by the sample's place in its stream.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from distgan.engine.world import World
from distgan.randomness import Draw, uniforms

EARLIER = 0.5
"""The chance that an earlier caption is shown in a sample's place."""


class Written(NamedTuple):
    """Captions the generator wrote, and what they were written for."""

    image: Tensor  # (R,) int64, its number in the split that is described
    style: Tensor  # (R,) int64
    words: Tensor  # (R, T) int64


class CaptionPool:
    """The newest `size` captions of those it was shown."""

    def __init__(self, size: int, max_length: int, world: World) -> None:
        self.size, self.world = size, world
        none = torch.zeros(0, dtype=torch.int64, device=world.device)
        self.kept = Written(none, none, none.view(0, max_length))

    def __len__(self) -> int:
        return len(self.kept.image)

    def exchange(self, fresh: Written, position: Tensor, draw: Draw, rows: int) -> Written:
        """Fresh captions, some replaced by earlier ones; the fresh ones are kept for later.

        `position` (R,) keys the choice of each. The shares of all ranks are `rows` captions.
        Collective.
        """
        shown = self._mixed(fresh, position, draw)
        self._keep(fresh, rows)
        return shown

    def _mixed(self, fresh: Written, position: Tensor, draw: Draw) -> Written:
        if len(self) == 0:
            return fresh
        earlier = uniforms(draw, position, rollout=0) < EARLIER
        chosen = (uniforms(draw, position, rollout=1) * len(self)).long()
        old = Written(*(values[chosen] for values in self.kept))
        return Written(
            torch.where(earlier, old.image, fresh.image),
            torch.where(earlier, old.style, fresh.style),
            torch.where(earlier[:, None], old.words, fresh.words),
        )

    def _keep(self, fresh: Written, rows: int) -> None:
        packed = torch.cat([fresh.image[:, None], fresh.style[:, None], fresh.words], 1)
        every = self.world.gather_shares(packed, rows)
        self._take([*self.kept], [every[:, 0], every[:, 1], every[:, 2:]])

    def _take(self, old: list[Tensor], new: list[Tensor]) -> None:
        first = max(0, len(old[0]) + len(new[0]) - self.size)
        self.kept = Written(
            *(torch.cat(pair)[first:].clone() for pair in zip(old, new, strict=True))
        )

    def state_dict(self) -> dict[str, Tensor]:
        return self.kept._asdict()

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """The newest captions of `state`, as many as this pool holds."""
        device = self.world.device
        kept = [state[name].to(device) for name in Written._fields]
        self._take([values[:0] for values in kept], kept)
