"""Trained captioners for Python users: `distgan.load(run).caption(images)`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from distgan.config import Config, parse_config
from distgan.data.images import decode
from distgan.data.sources import encode_words
from distgan.data.tokens import tokens_from_state
from distgan.data.vocabulary import Tokens
from distgan.engine import checkpoint
from distgan.losses import mask, word_log_probs
from distgan.methods import CONFIGS
from distgan.methods.caption_networks import (
    Generator,
    build_generator,
)
from distgan.randomness import STREAMS, Draw
from distgan.rollouts import beam, greedy, sample

Decode = Literal["greedy", "sample", "beam"]


@dataclass(frozen=True)
class Captioner:
    """A trained generator, its words and its styles."""

    generator: Generator
    vocabulary: Tokens
    styles: tuple[str, ...]  # all it knows, `factual` among them
    asked: tuple[str, ...]  # those it was trained to be asked for
    config: Config
    device: torch.device

    def caption(
        self,
        images: Tensor | Sequence[str | Path],
        style: str | None = None,
        decode: Decode = "greedy",
        temperature: float = 1.0,
        beam: int = 3,
        seed: int = 0,
    ) -> list[str]:
        """One caption an image. `images`: uint8 (B, 3, S, S), or image files.

        `style` None: the first style it was trained for. ValueError for one it does not know.
        `sample` draws with `seed` at `temperature`; `beam` keeps that many captions.
        """
        words = self.write(self._regions(images), style, decode, temperature, beam, seed)
        return [self.vocabulary.decode(row) for row in words.tolist()]

    @torch.no_grad()
    def write(
        self,
        regions: Tensor,
        style: str | None,
        decode: Decode = "greedy",
        temperature: float = 1.0,
        size: int = 3,
        seed: int = 0,
    ) -> Tensor:
        """Words (B, T) int64 for regions (B, K, D)."""
        captioner, count = self.generator.captioner, len(regions)
        context = captioner.look(regions, self._style(style, count))
        image = torch.arange(count, device=self.device)
        if decode == "greedy":
            return greedy(captioner, context, image)
        if decode == "beam":
            return beam(captioner, context, image, size)[0]
        if decode != "sample":
            raise ValueError(f"decode must be greedy, sample or beam, got {decode!r}")
        draw = Draw(seed, STREAMS["evaluation"], 0)
        return sample(captioner, context, draw, image, temperature=temperature).words

    @property
    def attends(self) -> bool:
        """Does it look at regions, word by word?"""
        return self.generator.captioner.has_attention

    @torch.no_grad()
    def attend(self, regions: Tensor, style: str | None, words: Tensor) -> Tensor:
        """Where each word of captions (B, T) looked: (B, T, K).

        ValueError if the captioner does not attend to regions.
        """
        if not self.attends:
            network = self.config.method.generator.network
            raise ValueError(f"a captioner with network={network} attends to no regions")
        _, attention = self.generator.captioner(regions, words, self._style(style, len(words)))
        return attention

    @torch.no_grad()
    def surprise(
        self, images: Tensor, captions: Sequence[str], style: str | None
    ) -> tuple[float, float, int]:
        """Nats of captions, one an image: beside their own images, and beside the next; and words.

        The second is above the first by as much as the images tell. images uint8 (B, 3, S, S).
        """
        T = self.config.method.generator.max_length
        words = torch.stack([encode_words(self.vocabulary, text, T) for text in captions])
        words, told = words.to(self.device), self._style(style, len(words))
        regions = self.see(images)

        def nats(regions: Tensor) -> float:
            logits, _ = self.generator.captioner(regions, words, told)
            return -float(word_log_probs(logits, words).sum())

        return nats(regions), nats(regions.roll(1, 0)), int(mask(words).sum())

    def see(self, images: Tensor) -> Tensor:
        """Regions (B, K, D) of images uint8 (B, 3, S, S)."""
        with torch.no_grad():
            return self.generator.encoder.encode(images.to(self.device))

    def _regions(self, images: Tensor | Sequence[str | Path]) -> Tensor:
        if not isinstance(images, Tensor):
            size = self.config.data.image_size
            images = torch.stack([decode(Path(path).read_bytes(), size) for path in images])
        return self.see(images)

    def _style(self, style: str | None, count: int) -> Tensor | None:
        name = self.asked[0] if style is None else style
        if self.generator.captioner.num_styles == 0:
            if name not in self.asked:
                raise ValueError(f"style must be {self.asked[0]}, got {name!r}")
            return None
        if name not in self.styles:
            raise ValueError(f"style must be one of {', '.join(self.styles)}, got {name!r}")
        return torch.full((count,), self.styles.index(name), device=self.device)


def load(run: str | Path, *, device: str = "cpu") -> Captioner:
    """The captioner of a run's newest checkpoint, or of the checkpoint at this path.

    The averaged weights where the run kept any. Nothing but the checkpoint is read.
    """
    state = checkpoint.load(checkpoint.find(run))
    identity = state["identity"]
    config = parse_config(identity["config"], methods=CONFIGS)
    generator = build_generator(config.method, identity, weights="random")
    learner = state["learners"]["generator"]
    generator.load_state_dict(learner["average"] or learner["network"])
    generator.to(device).eval().requires_grad_(False)
    styles = tuple(identity["styles"])
    return Captioner(
        generator,
        tokens_from_state(identity["vocabulary"]),
        styles,
        tuple(styles[number] for number in identity["asked"]),
        config,
        torch.device(device),
    )
