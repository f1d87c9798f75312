"""The networks of a captioner, from a method's config and what its data adds to it.

`identity` is what a checkpoint carries: `vocabulary` (its state), `styles` (names) and `asked`
(the numbers of the styles the generator is asked for).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from distgan.data.vocabulary import Vocabulary
from distgan.methods.attend_gan_config import AttendGANConfig
from distgan.models.captioner import AttentionCaptioner
from distgan.models.critics import Critic, build_critic
from distgan.models.encoders import Encoder, build_encoder


class Generator(nn.Module):
    """G_theta: the region encoder and the captioner, one network that learns."""

    def __init__(self, encoder: Encoder, captioner: AttentionCaptioner) -> None:
        super().__init__()
        self.encoder, self.captioner = encoder, captioner


def build_generator(
    config: AttendGANConfig, identity: Mapping[str, Any], *, weights: str | None = None
) -> Generator:
    """G_theta; `weights` in place of the config's where the encoder's will be loaded anyway."""
    encoder = build_encoder(config.encoder.name, weights or config.encoder.weights)
    g = config.generator
    captioner = AttentionCaptioner(
        len(Vocabulary.from_state(identity["vocabulary"])),
        g.max_length,
        encoder.channels,
        embedding=g.embedding,
        hidden=g.hidden,
        attention=g.attention,
        num_styles=len(identity["styles"]) if tells_style(config, identity) else 0,
        style_size=g.style_size,
        dropout=g.dropout,
    )
    return Generator(encoder, captioner)


def build_caption_critic(
    config: AttendGANConfig, identity: Mapping[str, Any], channels: int
) -> Critic:
    """D_phi for regions of `channels` numbers."""
    c = config.critic
    return build_critic(
        c.network,
        len(Vocabulary.from_state(identity["vocabulary"])),
        config.generator.max_length,
        channels=channels if c.sees_image else None,
        num_styles=len(identity["styles"]) if c.sees_style else None,
        heads=c.heads,
        embedding_size=c.embedding,
        hidden_size=c.hidden,
        word_dropout=c.word_dropout,
        dropout=c.dropout,
    )


def tells_style(config: AttendGANConfig, identity: Mapping[str, Any]) -> bool:
    """One style alone needs no telling, unless L2 mixes it with factual captions."""
    return len(identity["asked"]) > 1 or config.factual_weight > 0
