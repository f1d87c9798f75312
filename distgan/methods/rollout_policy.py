"""Who finishes captions in rollouts: the generator, or SeqGAN's slow copy of it.

SeqGAN (Yu et al., arXiv 1609.05473) rolls out with weights that follow the generator's,
theta_r <- ema theta_r + (1 - ema) theta after each of its updates. Q is then the value of that
policy, not of the generator, and the policy gradient is biased by what they differ in; the bias
is gone where ema is 0.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import torch
from torch import Tensor

from distgan.methods.caption_networks import CaptionNetwork


class RolloutPolicy:
    """Holds the copy where there is one; it begins as the generator of the first rollouts."""

    def __init__(self, ema: float | None) -> None:
        self.ema = ema
        self.copy: CaptionNetwork | None = None
        self._resumed: dict[str, Tensor] | None = None  # weights that wait for their network

    @torch.no_grad()
    def follow(self, generator: CaptionNetwork) -> CaptionNetwork:
        """The network to roll out with; called once an update of the generator, before it."""
        if self.ema is None:
            return generator
        if self.copy is None:
            self.copy = deepcopy(generator).eval().requires_grad_(False)
            if self._resumed is None:
                return self.copy
            self.copy.load_state_dict(self._resumed)
        pairs = zip(self.copy.state_dict().values(), generator.state_dict().values(), strict=True)
        for slow, now in pairs:
            slow.lerp_(now, 1 - self.ema)
        return self.copy

    def state_dict(self) -> dict[str, Any]:
        weights = self._resumed if self.copy is None else self.copy.state_dict()
        return {"weights": weights}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if state["weights"] is not None and self.ema is None:
            raise ValueError("method.rollout.ema=null, but the checkpoint's run had a slow copy")
        self.copy, self._resumed = None, state["weights"]
