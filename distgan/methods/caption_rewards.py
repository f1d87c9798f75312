"""What a trained critic makes of captions: the reward of every word, as in Eq. 2 of ATTEND-GAN."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from distgan.config import parse_config
from distgan.engine import checkpoint
from distgan.methods import CONFIGS
from distgan.methods.attend_gan_config import AttendGANConfig
from distgan.methods.caption_networks import build_caption_critic, score_captions
from distgan.methods.captioning import Captioner
from distgan.models.critics import Critic
from distgan.randomness import STREAMS, Draw
from distgan.rollouts import Samples, monte_carlo


@dataclass(frozen=True)
class Rewards:
    """A trained critic, its settings and the styles it knows."""

    critic: Critic
    config: AttendGANConfig
    styles: tuple[str, ...]
    device: torch.device

    def of_words(
        self, captioner: Captioner, regions: Tensor, style: str, words: Tensor, *, seed: int = 0
    ) -> Tensor:
        """Q_t (B, T) of captions (B, T) of regions (B, K, D), completed by `captioner`."""
        count = len(words)
        place = torch.arange(count, device=self.device)
        asked = torch.full((count,), self.styles.index(style), device=self.device)
        decoder = captioner.generator.captioner
        values = monte_carlo(
            decoder,
            decoder.look(regions, asked if decoder.num_styles else None),
            Samples(words, place, place, torch.zeros_like(place)),
            score_captions(self.critic, self.config, regions, asked),
            rollouts=max(self.config.rollouts, 1),
            draw=Draw(seed, STREAMS["evaluation"], 1),
            empty_prefix=False,
        )
        return values.q


def load_rewards(run: str | Path, captioner: Captioner) -> Rewards:
    """The critic of a run's newest checkpoint, or of the checkpoint at this path.

    `captioner` is one of the same run: the critic looks at its regions, on its device.
    """
    state = checkpoint.load(checkpoint.find(run))
    identity, learner = state["identity"], state["learners"]["discriminator"]
    config = parse_config(identity["config"], methods=CONFIGS).method
    critic = build_caption_critic(config, identity, captioner.generator.encoder.channels)
    critic.load_state_dict(learner["average"] or learner["network"])
    return Rewards(
        critic.to(captioner.device).eval().requires_grad_(False),
        config,
        tuple(identity["styles"]),
        captioner.device,
    )
