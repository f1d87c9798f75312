"""The networks of a captioner, from a method's config and what its data adds to it.

`identity` is what a checkpoint carries: `vocabulary` (its state), `styles` (names) and `asked`
(the numbers of the styles the generator is asked for).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from distgan.data.tokens import tokens_from_state
from distgan.data.vocabulary import Tokens
from distgan.data.word_vectors import read_word_vectors
from distgan.losses import reward
from distgan.methods.attend_gan_config import AttendGANConfig, CriticConfig, GeneratorConfig
from distgan.models.captioner import AttentionCaptioner
from distgan.models.critics import Critic, build_critic
from distgan.models.decoder import within
from distgan.models.encoders import Encoder, build_encoder
from distgan.models.gpt2_captioner import GPT2Captioner
from distgan.models.gpt2_files import load_gpt2
from distgan.models.gru_captioner import GRUCaptioner
from distgan.rollouts import Score

CaptionNetwork = AttentionCaptioner | GPT2Captioner
_RECURRENT = {"attention_lstm": AttentionCaptioner, "attention_gru": GRUCaptioner}


class Generator(nn.Module):
    """G_theta: the region encoder and the captioner, one network that learns."""

    def __init__(self, encoder: Encoder, captioner: CaptionNetwork) -> None:
        super().__init__()
        self.encoder, self.captioner = encoder, captioner


def build_generator(
    config: AttendGANConfig, identity: Mapping[str, Any], *, weights: str | None = None
) -> Generator:
    """G_theta; `weights` in place of the config's where the encoder's will be loaded anyway."""
    encoder = build_encoder(config.encoder.name, weights or config.encoder.weights)
    tokens = tokens_from_state(identity["vocabulary"])
    num_styles = len(identity["styles"]) if tells_style(config, identity) else 0
    build = _gpt2 if config.generator.network == "gpt2" else _recurrent
    return Generator(encoder, build(config.generator, tokens, encoder.channels, num_styles))


def _recurrent(
    g: GeneratorConfig, tokens: Tokens, channels: int, num_styles: int
) -> AttentionCaptioner:
    return _RECURRENT[g.network](
        len(tokens),
        g.max_length,
        channels,
        embedding=g.embedding,
        hidden=g.hidden,
        attention=g.attention,
        num_styles=num_styles,
        style_size=g.style_size,
        dropout=g.dropout,
    )


def _gpt2(g: GeneratorConfig, tokens: Tokens, channels: int, num_styles: int) -> GPT2Captioner:
    return GPT2Captioner(
        len(tokens),
        g.max_length,
        channels,
        layers=g.gpt2.layers,
        heads=g.gpt2.heads,
        width=g.gpt2.width,
        prefix=g.gpt2.prefix,
        mapper=g.gpt2.mapper,
        num_styles=num_styles,
        never=tokens.never,
        dropout=g.dropout,
    )


def load_pretrained(captioner: CaptionNetwork, config: GeneratorConfig, words: Tokens) -> None:
    """What the config's files give a new captioner: GPT-2's weights, vectors of its words."""
    folder = config.gpt2.weights
    if isinstance(captioner, GPT2Captioner) and folder is not None:
        try:
            load_gpt2(captioner, folder)
        except ValueError as error:
            raise ValueError(f"method.generator.gpt2.weights={folder}: {error}") from error
    vectors = config.word_vectors or folder
    if vectors is not None:
        captioner.load_word_vectors(read_word_vectors(vectors, words))


def build_caption_critic(
    config: AttendGANConfig, identity: Mapping[str, Any], channels: int
) -> Critic:
    """D_phi for regions of `channels` numbers."""
    c = config.critic
    return build_critic(
        c.network,
        len(tokens_from_state(identity["vocabulary"])),
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


def score_captions(
    critic: Critic, config: AttendGANConfig, regions: Tensor, style: Tensor
) -> Score:
    """D_phi(x) as Eq. 2 uses it, for images of regions (I, K, D) and styles (I,): one reward a
    caption, from the one head or from both. The control `reward: constant` gives 1 to all."""
    if config.reward == "constant":
        return lambda words, image: regions.new_ones(len(words))
    c = config.critic
    context = critic.look(*shown(c, regions, style))
    share = regions.new_tensor([1 - c.match_reward, c.match_reward])
    mix = share if c.heads == "separate" else share.new_ones(1)
    return lambda words, image: reward(critic(within(words), context, image), c.loss) @ mix


def shown(
    config: CriticConfig, regions: Tensor | None, style: Tensor
) -> tuple[Tensor | None, Tensor | None]:
    """Of regions and style, what a critic was built to see."""
    return regions if config.sees_image else None, style if config.sees_style else None


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Inside, the network is in eval mode (no dropout), gradients as outside."""
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
