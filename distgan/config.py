"""What a run is told: frozen dataclasses, filled from YAML files and `dotted=override` words.

Defaults stand here and in each method's own `Config`, nowhere else. A YAML file may name one
`base:` file, relative to itself; later values win: defaults < base < file < overrides.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal


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
        require(
            self.clip_norm is None or self.clip_norm > 0, "clip_norm", self.clip_norm, "above 0"
        )
        require(
            self.clip_weights is None or self.clip_weights > 0,
            "clip_weights",
            self.clip_weights,
            "above 0",
        )
        require(self.ema is None or 0 < self.ema < 1, "ema", self.ema, "between 0 and 1")
        if self.schedule != "constant" and self.decay_updates is None:
            raise ValueError(f"schedule={self.schedule} needs decay_updates, the update it ends at")


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which shards a run reads and how."""

    path: str = ""  # a dataset made by launch/prepare.py
    styled: str | None = None  # a dataset with styled captions; default: `path` itself
    style: str = "all"  # a style's name, `all` (one generator told the style), or a text file
    image_size: int = 224  # pixels, square
    shuffle_block: int = 256  # neighbours that stay together on disk reads
    shuffle_window: int = 4096  # samples mixed with each other
    loaders: int = 0  # decoding processes of each worker; 0 decodes in the worker itself
    max_bad_samples: int = 0  # damaged samples a run may replace before it stops

    def __post_init__(self) -> None:
        require(self.image_size >= 16, "data.image_size", self.image_size, "at least 16")
        require(self.shuffle_block >= 1, "data.shuffle_block", self.shuffle_block, "at least 1")
        require(self.shuffle_window >= 1, "data.shuffle_window", self.shuffle_window, "at least 1")
        require(self.loaders >= 0, "data.loaders", self.loaders, "at least 0")
        require(
            self.max_bad_samples >= 0, "data.max_bad_samples", self.max_bad_samples, "at least 0"
        )


@dataclass(frozen=True, kw_only=True)
class EngineConfig:
    """Where and how precisely a run computes."""

    workers: int = 1
    device: Literal["auto", "cpu", "cuda"] = "auto"
    accumulate: int = 1  # gradient passes per update; memory falls, results stay
    precision: Literal["float32", "float64", "bf16"] = "float32"  # bf16: autocast
    threads: int | None = None  # CPU threads of each worker; None: torch's choice
    timeout_seconds: int = 1800  # a collective that takes longer stops the run
    check_ranks_every: int = 100  # rounds between comparisons of the workers' parameters
    cpus_per_worker: float = 1.0  # what Ray reserves
    max_failures: int = 3  # restarts of the worker group by Ray

    def __post_init__(self) -> None:
        require(self.workers >= 1, "engine.workers", self.workers, "at least 1")
        require(self.accumulate >= 1, "engine.accumulate", self.accumulate, "at least 1")


@dataclass(frozen=True, kw_only=True)
class CheckpointConfig:
    """What is kept of a run, and how often."""

    every: int = 500  # rounds
    keep: int = 2  # newest ones kept, beside those at the end of a stage

    def __post_init__(self) -> None:
        require(self.every >= 1, "checkpoint.every", self.every, "at least 1")
        require(self.keep >= 1, "checkpoint.keep", self.keep, "at least 1")


@dataclass(frozen=True, kw_only=True)
class LogConfig:
    """What a run says while it goes."""

    every: int = 20  # rounds between lines of metrics
    pictures_every: int = 500  # rounds between pictures; 0: none
    tensorboard: bool = True


@dataclass(frozen=True, kw_only=True)
class Config:
    """One run, whole. `method` is the method's own dataclass (see distgan/methods)."""

    method: Any
    data: DataConfig = field(default_factory=DataConfig)
    engine: EngineConfig = field(default_factory=EngineConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    log: LogConfig = field(default_factory=LogConfig)
    name: str | None = None  # the run's folder under `out`; None: the config file's name and time
    out: str = "runs"
    seed: int = 0
    stages: tuple[str, ...] | None = None  # the stages to play, by name; None: all
    init_from: str | None = None  # a run or checkpoint whose weights this run starts from
    overfit: int | None = None  # train on the first N samples only, a check that learning works

    def __post_init__(self) -> None:
        require(0 <= self.seed < 2**32, "seed", self.seed, "in [0, 2**32)")
        require(self.overfit is None or self.overfit >= 1, "overfit", self.overfit, "at least 1")


def require(holds: bool, key: str, value: object, what: str) -> None:
    """Raise a ValueError that names the key and the value unless `holds`."""
    if not holds:
        raise ValueError(f"{key} must be {what}, got {value!r}")


def load_config(
    path: str | Path, overrides: Sequence[str] = (), *, methods: Mapping[str, type]
) -> Config:
    """Defaults < base YAML < YAML < dotted overrides; anything unknown or ill-typed is an error.

    `methods` maps a method's name (`method.name`) to its frozen config dataclass.
    """
    from omegaconf import OmegaConf  # here, so that the engine imports without it
    from omegaconf.errors import OmegaConfBaseException

    given = OmegaConf.merge(_read_with_base(Path(path)), _read_overrides(overrides))
    name = OmegaConf.select(given, "method.name")
    if name not in methods:
        raise ValueError(f"method.name must be one of {sorted(methods)}, got {name!r}")
    schema = OmegaConf.structured(Config(method=methods[name]()))
    _refuse_unknown(OmegaConf.to_container(given), OmegaConf.to_object(schema))
    try:
        config = OmegaConf.to_object(OmegaConf.merge(schema, given))
    except OmegaConfBaseException as error:
        raise ValueError(f"{path}: {error.full_key}: {error.msg or error}") from error
    assert isinstance(config, Config)
    return config


def save_config(config: Config, path: str | Path) -> None:
    """Write the resolved config as YAML that `load_config` reads back to an equal object."""
    Path(path).write_text(config_text(config))


def config_text(config: Config) -> str:
    """The resolved config as YAML."""
    from omegaconf import OmegaConf

    return OmegaConf.to_yaml(OmegaConf.structured(config))


def _read_with_base(path: Path, seen: tuple[Path, ...] = ()) -> Any:
    from omegaconf import OmegaConf

    if not path.is_file():
        raise ValueError(f"config file {path} does not exist")
    if path.resolve() in seen:
        raise ValueError(f"{path}: its base: files form a circle")
    given = OmegaConf.load(path)
    if not OmegaConf.is_dict(given):
        raise ValueError(f"{path}: a config file is a mapping of keys to values")
    base = given.pop("base", None)
    if base is None:
        return given
    parent = _read_with_base(path.parent / base, (*seen, path.resolve()))
    return OmegaConf.merge(parent, given)


def _read_overrides(overrides: Sequence[str]) -> Any:
    from omegaconf import OmegaConf

    for word in overrides:
        if "=" not in word or word.startswith("-"):
            raise ValueError(f"overrides look like key.subkey=value, got {word!r}")
    return OmegaConf.from_dotlist(list(overrides))


def _refuse_unknown(given: Any, schema: Any, prefix: str = "") -> None:
    """Name the first key of `given` that the dataclass `schema` lacks, with the nearest ones."""
    if not (isinstance(given, dict) and is_dataclass(schema)):
        return
    known = [f.name for f in fields(schema)]
    for key, value in given.items():
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=3) or known
            raise ValueError(f"unknown key {prefix}{key!s}; did you mean {', '.join(near)}?")
        _refuse_unknown(value, vars(schema)[key], f"{prefix}{key}.")
