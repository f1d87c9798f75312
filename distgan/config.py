"""What a run is told: frozen dataclasses, filled from YAML files and `dotted=override` words.

Defaults stand here and in each method's own `Config`, nowhere else; distgan/settings.py fills them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from distgan.settings import (
    PATH,
    WORD_OR_PATH,
    filled,
    merged,
    read_override,
    read_with_base,
    read_yaml,
    require,
)


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """How one network learns."""

    name: Literal["adam", "adamw", "rmsprop", "sgd"] = "adam"
    lr: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.999)  # adam and adamw
    weight_decay: float = 0.0
    momentum: float = 0.0  # sgd
    clip_norm: float | None = None  # of the whole gradient, L2
    clip_weights: float | None = None  # weights stay in [-clip, clip] (Wasserstein critics)
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    warmup_updates: int = 0
    decay_updates: int | None = None  # where linear and cosine reach `final`; None: no end known
    final: float = 0.0  # the last learning rate, as a share of `lr`
    ema: float | None = None  # decay of the averaged weights used for evaluation

    def __post_init__(self) -> None:
        require(self.lr > 0, "lr", self.lr, "above 0")
        require(all(0 <= b < 1 for b in self.betas), "betas", self.betas, "two numbers in [0, 1)")
        require(self.weight_decay >= 0, "weight_decay", self.weight_decay, "at least 0")
        require(0 <= self.momentum < 1, "momentum", self.momentum, "in [0, 1)")
        for key in ("clip_norm", "clip_weights"):
            bound = vars(self)[key]
            require(bound is None or bound > 0, key, bound, "above 0, or null for none")
        require(self.ema is None or 0 < self.ema < 1, "ema", self.ema, "between 0 and 1")
        self._check_together()

    def _check_together(self) -> None:
        if self.momentum and self.name != "sgd":
            raise ValueError(f"momentum={self.momentum} is sgd's, but name={self.name}")
        require(self.warmup_updates >= 0, "warmup_updates", self.warmup_updates, "at least 0")
        require(0 <= self.final <= 1, "final", self.final, "in [0, 1], a share of lr")
        if self.schedule == "constant" and self.decay_updates is not None:
            raise ValueError(f"decay_updates={self.decay_updates} needs schedule=linear or cosine")
        if self.schedule != "constant":
            if self.decay_updates is None:
                raise ValueError(f"schedule={self.schedule} needs decay_updates, where it ends")
            require(
                self.decay_updates > self.warmup_updates,
                "decay_updates",
                self.decay_updates,
                f"above warmup_updates={self.warmup_updates}",
            )


@dataclass(frozen=True, kw_only=True)
class MixConfig:
    """One more dataset, mixed with others."""

    path: str = field(default="", metadata=PATH)
    split: str = "train"  # where its training captions are
    weight: int = 1  # so many samples are its own, of as many as all weights together

    def __post_init__(self) -> None:
        require(self.weight >= 1, "weight", f"{self.weight} for {self.path}", "at least 1")


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which shards a run reads and how."""

    path: str = field(default="", metadata=PATH)  # a dataset made by launch/prepare.py
    styled: str | None = field(default=None, metadata=PATH)  # with styled captions; None: `path`
    styled_split: str = "train"  # where its styled training captions are
    mix: tuple[MixConfig, ...] = ()  # more datasets with factual captions, beside `path`
    weight: int = 1  # of `path` among them
    styled_mix: tuple[MixConfig, ...] = ()  # more datasets with styled captions, beside `styled`
    styled_weight: int = 1  # of `styled` among them
    # an epoch goes over every caption once, or every image once with a caption drawn each time
    epoch: Literal["captions", "images"] = "captions"
    # a style's name, `all` (one generator that is told the style), or a text file
    style: str = field(default="all", metadata=WORD_OR_PATH)
    # a folder with GPT-2's vocab.json and merges.txt; None: the datasets' words
    byte_pairs: str | None = field(default=None, metadata=PATH)
    # BERT's vocab.txt, or the folder that holds it; None: as above
    word_pieces: str | None = field(default=None, metadata=PATH)
    image_size: int = 224  # pixels, square
    # features made by `prepare.py features`, read in place of images: their name or folder
    features: str | None = field(default=None, metadata=WORD_OR_PATH)
    shuffle_block: int = 256  # neighbours that stay together on disk reads
    shuffle_window: int = 4096  # samples mixed with each other
    loaders: int = 0  # decoding processes of each worker; 0 decodes in the worker itself
    # gpu: loaders hand over files, and the worker's GPU decodes its JPEGs (needs torchvision)
    decode: Literal["cpu", "gpu"] = "cpu"
    # samples that each of these fetches before their turn; None: 256, but 0 from a local disk
    read_ahead: int | None = None
    read_ahead_mb: int = 64  # MiB it may hold meanwhile
    # damaged samples a run may replace before it stops: in an epoch of a stream over all workers;
    # among the images that are encoded, or their features, of a split by each worker
    max_bad_samples: int = 0

    def __post_init__(self) -> None:
        require(self.image_size >= 16, "image_size", self.image_size, "at least 16")
        require(self.shuffle_block >= 1, "shuffle_block", self.shuffle_block, "at least 1")
        require(self.shuffle_window >= 1, "shuffle_window", self.shuffle_window, "at least 1")
        require(self.loaders >= 0, "loaders", self.loaders, "at least 0")
        if self.decode == "gpu" and self.features is not None:
            raise ValueError(f"decode=gpu: features={self.features} leave no image to decode")
        ahead = self.read_ahead
        require(ahead is None or ahead >= 0, "read_ahead", ahead, "at least 0, or null")
        require(self.read_ahead_mb >= 1, "read_ahead_mb", self.read_ahead_mb, "at least 1")
        if self.word_pieces is not None and self.byte_pairs is not None:
            raise ValueError(
                f"word_pieces={self.word_pieces}: byte_pairs={self.byte_pairs} is set too; "
                "words are parted in one way"
            )
        self._check_mix("mix", self.path, "weight", self.weight)
        styled = self.path if self.styled is None else self.styled
        self._check_mix("styled_mix", styled, "styled_weight", self.styled_weight)
        require(self.max_bad_samples >= 0, "max_bad_samples", self.max_bad_samples, "at least 0")

    def _check_mix(self, key: str, main: str, weight_key: str, weight: int) -> None:
        mix: tuple[MixConfig, ...] = vars(self)[key]
        require(weight >= 1, weight_key, f"{weight} for {main}", "at least 1")
        if weight != 1 and not mix:
            raise ValueError(f"{weight_key}={weight} means nothing without {key}")
        paths = [main]
        for number, part in enumerate(mix):
            require(part.path != "", f"{key}[{number}].path", part.path, "a dataset's folder")
            if part.path in paths:
                raise ValueError(f"{key}[{number}].path: {part.path} is there already")
            paths.append(part.path)


@dataclass(frozen=True, kw_only=True)
class BackendConfig:
    """What exchanges one network's gradients; null: what `engine` says for all."""

    backend: Literal["auto", "local", "ddp", "deepspeed"] | None = None
    zero: int | None = None
    offload: Literal["none", "cpu"] | None = None

    def __post_init__(self) -> None:
        require(self.zero in (None, 0, 1, 2, 3), "zero", self.zero, "0, 1, 2 or 3, or null")


@dataclass(frozen=True, kw_only=True)
class EngineConfig(BackendConfig):
    """Where and how precisely a run computes.

    `backend`: auto is local for one worker, ddp for more. `zero` (DeepSpeed's stage; null: 1) and
    `offload` (of its optimizer's state) are deepspeed's. `networks` says it for a network by name.
    """

    backend: Literal["auto", "local", "ddp", "deepspeed"] | None = "auto"
    networks: dict[str, BackendConfig] = field(default_factory=dict)
    workers: int = 1
    device: Literal["auto", "cpu", "cuda"] = "auto"
    accumulate: int = 1  # gradient passes per update; memory falls, results stay
    # bf16: autocast over float32 weights; fp16: deepspeed's, with its loss scaling
    precision: Literal["float32", "float64", "bf16", "fp16"] = "float32"
    threads: int | None = None  # CPU threads of each worker; None: torch's choice
    timeout_seconds: int = 1800  # a collective that takes longer stops the run
    check_ranks_every: int = 100  # rounds between comparisons of the workers' parameters
    cpus_per_worker: float = 1.0  # what Ray reserves
    gpus_per_worker: float = 1.0  # the same, where there are GPUs; below 1: runs share one
    max_failures: int = 3  # restarts of the worker group by Ray

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.backend is not None, "backend", self.backend, "auto, local, ddp or deepspeed")
        for key in ("workers", "accumulate", "timeout_seconds", "check_ranks_every"):
            require(vars(self)[key] >= 1, key, vars(self)[key], "at least 1")
        require(
            self.threads is None or self.threads >= 1,
            "threads",
            self.threads,
            "at least 1, or null",
        )
        require(self.cpus_per_worker > 0, "cpus_per_worker", self.cpus_per_worker, "above 0")
        require(0 < self.gpus_per_worker <= 1, "gpus_per_worker", self.gpus_per_worker, "in (0, 1]")
        if self.gpus_per_worker < 1 and self.workers > 1:
            raise ValueError(
                f"gpus_per_worker={self.gpus_per_worker} needs workers=1, got {self.workers}: "
                "workers of one run cannot share a GPU"
            )
        require(self.max_failures >= 0, "max_failures", self.max_failures, "at least 0")


@dataclass(frozen=True, kw_only=True)
class CheckpointConfig:
    """What is kept of a run, and how often."""

    every: int = 500  # rounds
    keep: int = 2  # newest ones kept, beside those at the end of a stage

    def __post_init__(self) -> None:
        require(self.every >= 1, "every", self.every, "at least 1")
        require(self.keep >= 1, "keep", self.keep, "at least 1")


@dataclass(frozen=True, kw_only=True)
class LogConfig:
    """What a run says while it goes."""

    every: int = 20  # rounds between lines of metrics
    pictures_every: int = 500  # rounds between pictures; 0: none
    evaluate_every: int = 0  # rounds between evaluations on held-out data (val/...); 0: none
    evaluate_samples: int = 200  # held-out samples of each, per style where there are styles
    tensorboard: bool = True

    def __post_init__(self) -> None:
        require(self.every >= 1, "every", self.every, "at least 1")
        require(self.pictures_every >= 0, "pictures_every", self.pictures_every, "at least 0")
        require(self.evaluate_every >= 0, "evaluate_every", self.evaluate_every, "at least 0")
        require(self.evaluate_samples >= 2, "evaluate_samples", self.evaluate_samples, "at least 2")


@dataclass(frozen=True, kw_only=True)
class Config:
    """One run, whole. `method` is the method's own dataclass (see distgan/methods)."""

    method: Any
    data: DataConfig = field(default_factory=DataConfig)
    engine: EngineConfig = field(default_factory=EngineConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    log: LogConfig = field(default_factory=LogConfig)
    name: str | None = None  # the run's folder under `out`; None: the config file's name and time
    out: str = field(default="runs", metadata=PATH)
    seed: int = 0
    stages: tuple[str, ...] | None = None  # the stages to play, by name; None: all
    # a run or checkpoint whose weights this run starts from
    init_from: str | None = field(default=None, metadata=PATH)
    init_networks: tuple[str, ...] | None = None  # which of its networks; None: all both have
    overfit: int | None = None  # train on the first N samples only, a check that learning works

    def __post_init__(self) -> None:
        require(0 <= self.seed < 2**32, "seed", self.seed, "in [0, 2**32)")
        plain = self.name is None or self.name.strip(". ") == self.name != ""
        require(
            plain and not set("/\\:") & set(self.name or ""), "name", self.name, "a folder's name"
        )
        require(
            self.stages is None or len(self.stages) > 0, "stages", self.stages, "named, or null"
        )
        require(self.overfit is None or self.overfit >= 1, "overfit", self.overfit, "at least 1")
        if self.init_networks is not None and self.init_from is None:
            raise ValueError(f"init_networks={self.init_networks!r} needs init_from")


def load_config(
    path: str | Path, overrides: Sequence[str] = (), *, methods: Mapping[str, type]
) -> Config:
    """Defaults < base YAML < YAML < dotted overrides; anything unknown or ill-typed is an error.

    `methods` maps a method's name (`method.name`) to its frozen config dataclass.
    """
    given: Any = read_with_base(Path(path))
    for word in overrides:
        given = merged(given, read_override(word))
    return _config_from(given, methods)


def parse_config(text: str, *, methods: Mapping[str, type]) -> Config:
    """The config that `config_text` wrote."""
    return _config_from(read_yaml(text, "config"), methods)


def _config_from(given: dict[str, Any], methods: Mapping[str, type]) -> Config:
    method = given.get("method")
    name = method.get("name") if isinstance(method, dict) else None
    if not isinstance(name, str) or name not in methods:
        raise ValueError(f"method.name must be one of {', '.join(sorted(methods))}, got {name!r}")
    config = filled(Config(method=methods[name]()), given, "")
    assert isinstance(config, Config)
    return config


def changed(config: Config, settings: Mapping[str, Any]) -> Config:
    """The config with other values for dotted keys, checked as a file's would be."""
    given: Any = {}
    for key, value in settings.items():
        inner = value
        for part in reversed(key.split(".")):
            inner = {part: inner}
        given = merged(given, inner)
    result = filled(config, given, "")
    assert isinstance(result, Config)
    return result


def save_config(config: Config, path: str | Path) -> None:
    """Write the resolved config as YAML that `load_config` reads back to an equal object."""
    Path(path).write_text(config_text(config))


def config_text(config: Config) -> str:
    """The resolved config as YAML."""
    from omegaconf import OmegaConf  # here, so that the engine imports without it

    return OmegaConf.to_yaml(OmegaConf.structured(config))
