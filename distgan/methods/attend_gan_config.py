"""The settings of ATTEND-GAN. Defaults are the paper's (its supplement's, where marked)."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Literal

import torch

from distgan.config import OptimizerConfig
from distgan.models.encoders import RESNETS
from distgan.sampling import Sampling
from distgan.settings import PATH, WORD_OR_PATH, require
from distgan.work import Work


@dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """The image's regions a_k."""

    name: str = "resnet152"  # supplement: Res5c, 49 regions of 2048
    # a file, `imagenet` (torchvision's, downloaded), or `random`
    weights: str = field(default="imagenet", metadata=WORD_OR_PATH)
    learns: bool = False  # in the factual stage; later stages always keep it frozen

    def __post_init__(self) -> None:
        if self.weights == "random" and not self.learns:
            raise ValueError(
                "method.encoder.weights=random needs method.encoder.learns=true: "
                "random features that never learn describe nothing"
            )
        if self.weights != "random" and self.learns and self.name in RESNETS:
            raise ValueError(
                f"method.encoder.learns=true needs method.encoder.weights=random, got "
                f"{self.weights!r}: {self.name} with weights of its own stays frozen"
            )


@dataclass(frozen=True, kw_only=True)
class GPT2Config:
    """GPT-2 after an image's tokens. The sizes are the small GPT-2's."""

    layers: int = 12
    heads: int = 12
    width: int = 768
    prefix: int = 10  # tokens an image becomes
    mapper: Literal["mlp", "attention"] = "mlp"  # of the mean region, or of views of all regions
    # a folder with GPT-2's config.json and model.safetensors; None: random
    weights: str | None = field(default=None, metadata=PATH)

    def __post_init__(self) -> None:
        key = "method.generator.gpt2"
        for name in ("layers", "heads", "width", "prefix"):
            require(vars(self)[name] >= 1, f"{key}.{name}", vars(self)[name], "at least 1")
        if self.width % self.heads:
            raise ValueError(f"{key}.width={self.width} must be a multiple of heads={self.heads}")


@dataclass(frozen=True, kw_only=True)
class GeneratorConfig:
    """G_theta: the paper's attention LSTM, or another decoder in its place."""

    network: Literal["attention_lstm", "attention_gru", "gpt2"] = "attention_lstm"
    max_length: int = 16  # T, `<end>` included [R]
    embedding: int = 300  # supplement
    hidden: int = 512  # supplement
    attention: int = 512
    style_size: int = 64  # of a style's vector; unused where there is one style alone
    dropout: float = 0.5  # [R]
    # GloVe text or GPT-2 weights, a local file
    word_vectors: str | None = field(default=None, metadata=PATH)
    gpt2: GPT2Config = field(default_factory=GPT2Config)
    optimizer: OptimizerConfig = field(default_factory=lambda: OptimizerConfig(lr=1e-4))

    def __post_init__(self) -> None:
        require(self.max_length >= 2, "method.generator.max_length", self.max_length, "at least 2")
        require(0 <= self.dropout < 1, "method.generator.dropout", self.dropout, "in [0, 1)")
        self._check_sizes()
        if self.word_vectors is not None and self.gpt2.weights is not None:
            raise ValueError(
                f"method.generator.word_vectors={self.word_vectors}: the words have those of "
                f"method.generator.gpt2.weights={self.gpt2.weights}"
            )

    def _check_sizes(self) -> None:
        """The sizes of a network that is not built would be set in vain."""
        key = "method.generator"
        recurrent = ("embedding", "hidden", "attention", "style_size")
        others = recurrent if self.network == "gpt2" else ("gpt2",)
        defaults = {f.name: f.default for f in fields(self)} | {"gpt2": GPT2Config()}
        for name in others:
            if vars(self)[name] != defaults[name]:
                raise ValueError(
                    f"{key}.{name}={vars(self)[name]} has no part in {key}.network={self.network}"
                )


@dataclass(frozen=True, kw_only=True)
class CriticConfig:
    """D_phi: what it sees, and how it is trained."""

    network: Literal["textcnn", "gru"] = "textcnn"
    loss: Literal["wasserstein", "bce"] = "wasserstein"
    penalty: float = 0.0  # weight of the gradient penalty (WGAN-GP: 10)
    sees_image: bool = False
    sees_style: bool = False
    heads: Literal["joint", "separate"] = "joint"  # separate: text and match scored apart
    match_samples: float = 0.0  # separate: share of factual samples among the match's negatives
    swapped: float = 0.0  # share of real captions with a swapped word among the negatives
    match_reward: float = 0.5  # separate: share of the match in the reward
    embedding: int = 256  # [R]
    hidden: int = 512  # gru
    word_dropout: float = 0.2  # [R], of embedded words
    dropout: float = 0.5  # [R], before the score
    optimizer: OptimizerConfig = field(
        default_factory=lambda: OptimizerConfig(name="rmsprop", lr=5e-5, clip_weights=0.01)
    )

    def __post_init__(self) -> None:
        key = "method.critic"
        require(self.penalty >= 0, f"{key}.penalty", self.penalty, "at least 0")
        require(0 <= self.match_samples <= 1, f"{key}.match_samples", self.match_samples, "a share")
        require(0 <= self.swapped < 1, f"{key}.swapped", self.swapped, "in [0, 1)")
        require(0 <= self.match_reward <= 1, f"{key}.match_reward", self.match_reward, "a share")
        if self.heads == "joint":
            for name, unused in (("match_samples", 0.0), ("match_reward", 0.5)):
                require(
                    vars(self)[name] == unused,
                    f"{key}.{name}",
                    vars(self)[name],
                    f"{unused} unless {key}.heads=separate: one head has no match of its own",
                )
        if self.heads == "separate" and not self.sees_image:
            raise ValueError(f"{key}.heads=separate needs {key}.sees_image=true")
        if self.penalty and self.loss != "wasserstein":
            raise ValueError(f"{key}.penalty={self.penalty} needs {key}.loss=wasserstein")
        if self.penalty and self.optimizer.clip_weights is not None:
            raise ValueError(f"{key}.penalty replaces {key}.optimizer.clip_weights: set it to null")


@dataclass(frozen=True, kw_only=True)
class RolloutConfig:
    """How rollouts are drawn. The first four change the policy that Eq. 2's Q is the value of, so
    with anything but their defaults the policy gradient is biased; the others change no policy."""

    ema: float | None = None  # SeqGAN: 0.8; roll out with a copy that follows the generator's
    temperature: float = 1.0
    top_k: int = 0  # the likeliest words alone; 0: all
    top_p: float = 1.0  # the fewest likeliest words that add up to so much

    memory_gib: float | None = None  # of states, tables and buffers; None: 1/16 of the device's
    chunk_rows: int | None = None  # decoded at once; None: what memory and caches like
    tile: int | None = None  # rows of every call, filled up: words depend on no chunk, but slower
    precision: Literal["weights", "bf16"] = "weights"  # of the products; bf16: autocast

    def __post_init__(self) -> None:
        key = "method.rollout"
        require(self.ema is None or 0 <= self.ema < 1, f"{key}.ema", self.ema, "in [0, 1)")
        require(self.temperature > 0, f"{key}.temperature", self.temperature, "above 0")
        require(self.top_k >= 0, f"{key}.top_k", self.top_k, "at least 0")
        require(0 < self.top_p <= 1, f"{key}.top_p", self.top_p, "in (0, 1]")
        for name in ("memory_gib", "chunk_rows", "tile"):
            bound = vars(self)[name]
            require(bound is None or bound > 0, f"{key}.{name}", bound, "above 0")

    @property
    def sampling(self) -> Sampling:
        return Sampling(self.temperature, self.top_k, self.top_p)

    @property
    def work(self) -> Work:
        dtype = torch.bfloat16 if self.precision == "bf16" else None
        return Work(self.chunk_rows, self.memory_gib, self.tile, dtype)


@dataclass(frozen=True, kw_only=True)
class AttendGANConfig:
    """Algorithm 1's numbers."""

    name: str = "attend_gan"
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    generator: GeneratorConfig = field(default_factory=GeneratorConfig)
    critic: CriticConfig = field(default_factory=CriticConfig)

    factual_steps: int = 20_000  # updates; the paper gives no number
    style_steps: int = 2_000
    critic_steps: int = 500
    rounds: int = 2_000  # of the adversarial stage; the paper: 20 epochs
    g_steps: int = 1  # supplement
    d_steps: int = 3  # supplement

    batch: int = 64  # supplement
    critic_batch: int = 80  # supplement
    images: str = "train"  # the split whose images the generator describes; captions not needed

    lambda_attention: float = 1.0  # lambda1, Eq. 3, supplement
    lambda_adversarial: float = 0.1  # lambda2, Eq. 8, supplement
    styled_weight: float = 1.0  # of styled pairs in L2
    factual_weight: float = 0.0  # of factual pairs in L2 after the factual stage
    text_weight: float = 0.0  # of styled lines without pictures in L2
    adversarial_text_weight: float | None = None  # the same in the adversarial stage; None: equal

    rollouts: int = 5  # N, Eq. 2, supplement; 0: every word is worth its whole caption's score
    rollout: RolloutConfig = field(default_factory=RolloutConfig)
    captions: int = 1  # sampled an image; leave_one_out needs 2
    baseline: Literal["none", "batch", "prefix", "greedy", "leave_one_out"] = "prefix"
    whiten: bool | None = None  # advantages to unit spread; None: for Wasserstein critics
    reward: Literal["critic", "constant"] = "critic"  # constant: the control that must not help
    pool: int = 0  # earlier samples kept for the critic; 0: it sees this round's alone

    def __post_init__(self) -> None:
        for key in ("factual_steps", "style_steps", "critic_steps", "rounds", "pool", "rollouts"):
            require(vars(self)[key] >= 0, f"method.{key}", vars(self)[key], "at least 0")
        for key in ("g_steps", "d_steps", "batch", "critic_batch", "captions"):
            require(vars(self)[key] >= 1, f"method.{key}", vars(self)[key], "at least 1")
        for key in ("styled_weight", "factual_weight", "text_weight"):
            require(vars(self)[key] >= 0, f"method.{key}", vars(self)[key], "at least 0")
        weight = self.adversarial_text_weight
        require(
            weight is None or weight >= 0, "method.adversarial_text_weight", weight, "at least 0"
        )
        if self.generator.network == "gpt2" and self.lambda_attention != 0:
            raise ValueError(
                f"method.lambda_attention={self.lambda_attention} needs a generator that attends "
                "to regions, but method.generator.network=gpt2: set it to 0"
            )
        if self.baseline == "leave_one_out" and self.captions < 2:
            raise ValueError(
                f"method.baseline=leave_one_out needs method.captions of at least 2, "
                f"got {self.captions}"
            )

        if self.baseline == "prefix" and self.rollouts == 0:
            raise ValueError("method.baseline=prefix needs method.rollouts of at least 1, got 0")
        if self.critic.match_samples > 0 and self.factual_weight == 0:
            raise ValueError(
                f"method.critic.match_samples={self.critic.match_samples} needs "
                "method.factual_weight above 0: the generator must know factual captions"
            )

    @property
    def acting_text_weight(self) -> float:
        """Of lines in L2 of the adversarial stage."""
        own = self.adversarial_text_weight
        return self.text_weight if own is None else own

    @property
    def whitens(self) -> bool:
        return self.critic.loss == "wasserstein" if self.whiten is None else self.whiten
