"""The attention captioner with a GRU (Cho et al., arXiv 1406.1078) in place of the LSTM.

r, z = sigmoid(W w_{t-1} + A a^_t + H h_{t-1} + b)
n_t = tanh(W w_{t-1} + A a^_t + r (H h_{t-1}) + b), h_t = (1 - z) n_t + z h_{t-1}

The attention, the start and the readout are those of `distgan.models.captioner`. The reset gate
acts after the product with H, so that all three products with h are one. H has no bias.
"""

from __future__ import annotations

from torch import Tensor

from distgan.models.captioner import AttentionCaptioner


class GRUCaptioner(AttentionCaptioner):
    """A `distgan.models.decoder.Decoder`: a GRU that attends to regions of the image."""

    blocks = 3  # of gates, H each, in the order r, z, n
    has_cell = False

    def recur(self, gates: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """The next h, and c as it is; `gates` (R, 3H) holds all but H h_{t-1}."""
        r_given, z_given, n_given = gates.chunk(3, 1)
        r_own, z_own, n_own = self.hidden_gates(h).chunk(3, 1)
        z = (z_given + z_own).sigmoid()
        n = (n_given + (r_given + r_own).sigmoid() * n_own).tanh()
        return n + z * (h - n), c
