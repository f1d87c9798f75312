"""distgan: distributed training of adversarial vision-language models."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from distgan.methods.captioning import Captioner

__version__ = "0.1.0"


def load(run: str | Path, *, device: str = "cpu") -> Captioner:
    """A trained captioner: `distgan.load("runs/mine").caption(["photo.jpg"])`."""
    from distgan.methods.captioning import load as load_captioner  # imports are heavy

    return load_captioner(run, device=device)
