"""What a run is told: frozen dataclasses, filled from YAML files and `dotted=override` words.

Defaults stand here and in each method's own `Config`, nowhere else. A YAML file may name one
`base:` file, relative to itself; later values win: defaults < base < file < overrides.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

PATH = {"path": "always"}
WORD_OR_PATH = {"path": "if it is there"}
"""Metadata of a field that holds, or may hold, a file's name: see `with_absolute_paths`."""


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
    max_bad_samples: int = 0  # damaged samples a run may replace before it stops

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
    given: Any = _read_with_base(Path(path))
    for word in overrides:
        given = _merged(given, _read_override(word))
    return _config_from(given, methods)


def parse_config(text: str, *, methods: Mapping[str, type]) -> Config:
    """The config that `config_text` wrote."""
    return _config_from(_read_yaml(text, "config"), methods)


def _config_from(given: dict[str, Any], methods: Mapping[str, type]) -> Config:
    method = given.get("method")
    name = method.get("name") if isinstance(method, dict) else None
    if not isinstance(name, str) or name not in methods:
        raise ValueError(f"method.name must be one of {', '.join(sorted(methods))}, got {name!r}")
    config = _filled(Config(method=methods[name]()), given, "")
    assert isinstance(config, Config)
    return config


def changed(config: Config, settings: Mapping[str, Any]) -> Config:
    """The config with other values for dotted keys, checked as a file's would be."""
    given: Any = {}
    for key, value in settings.items():
        inner = value
        for part in reversed(key.split(".")):
            inner = {part: inner}
        given = _merged(given, inner)
    result = _filled(config, given, "")
    assert isinstance(result, Config)
    return result


def load_plain(path: str | Path, overrides: Sequence[str], default: Any) -> Any:
    """The frozen dataclass `default` with the values of a YAML file and of overrides."""
    given: Any = _read_with_base(Path(path))
    for word in overrides:
        given = _merged(given, _read_override(word))
    return _filled(default, given, "")


def save_plain(value: Any, path: str | Path) -> None:
    """Write a dataclass as YAML that `load_plain` reads back to an equal one."""
    from omegaconf import OmegaConf

    Path(path).write_text(OmegaConf.to_yaml(OmegaConf.create(asdict(value))))


def save_config(config: Config, path: str | Path) -> None:
    """Write the resolved config as YAML that `load_config` reads back to an equal object."""
    Path(path).write_text(config_text(config))


def config_text(config: Config) -> str:
    """The resolved config as YAML."""
    from omegaconf import OmegaConf  # here, so that the engine imports without it

    return OmegaConf.to_yaml(OmegaConf.structured(config))


def with_absolute_paths(config: Any, root: Path) -> Any:
    """The config with its file names taken from `root`: a worker may stand in another folder.

    URIs stay as they are, and so does a bare word that names no file where a word is as good
    (`style: positive`).
    """
    changed: dict[str, Any] = {}
    for entry in fields(config):
        value = vars(config)[entry.name]
        if is_dataclass(value):
            changed[entry.name] = with_absolute_paths(value, root)
        elif isinstance(value, tuple) and any(is_dataclass(part) for part in value):
            changed[entry.name] = tuple(with_absolute_paths(part, root) for part in value)
        elif entry.metadata.get("path") and value and "://" not in value:
            path = root / Path(value).expanduser()
            is_word = entry.metadata["path"] != "always" and "/" not in value and not path.exists()
            changed[entry.name] = value if is_word else str(path.resolve())
    return replace(config, **changed)


def _read_with_base(path: Path, seen: tuple[Path, ...] = ()) -> dict[str, Any]:
    if not path.is_file():
        raise ValueError(f"config file {path} does not exist")
    if path.resolve() in seen:
        raise ValueError(f"{path}: its base: files form a circle")
    given = _read_yaml(path.read_text(), str(path))
    base = given.pop("base", None)
    if base is None:
        return given
    if not isinstance(base, str):
        raise ValueError(f"{path}: base must be one file's name, got {base!r}")
    return _merged(_read_with_base(path.parent / base, (*seen, path.resolve())), given)


def _read_override(word: str) -> dict[str, Any]:
    """`a.b=value` as a nested mapping; the value is YAML."""
    keys, is_assignment, value = word.partition("=")
    if not is_assignment or not all(key.isidentifier() for key in keys.split(".")):
        raise ValueError(f"overrides look like key.subkey=value, got {word!r}")
    inner: Any = _read_yaml(f"value: {value}", word).get("value")
    for key in reversed(keys.split(".")):
        inner = {key: inner}
    return inner


def _read_yaml(text: str, source: str) -> dict[str, Any]:
    """A YAML mapping in plain containers. Doubled keys are errors, 1e-3 is a number."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    try:
        given = OmegaConf.to_container(OmegaConf.create(text))
    except (YAMLError, OmegaConfBaseException) as error:
        raise ValueError(f"{source}: not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(given, dict) or given == {text: None}:
        raise ValueError(f"{source}: a config is a mapping of keys to values")
    return {str(key): value for key, value in given.items()}


def _merged(below: Any, above: Any) -> Any:
    """`above` wins, key by key where both are mappings."""
    if not (isinstance(below, dict) and isinstance(above, dict)):
        return above
    return below | {key: _merged(below.get(key), value) for key, value in above.items()}


def _filled(default: Any, given: Any, prefix: str) -> Any:
    """The dataclass `default` with the values of `given`; errors name the whole dotted key."""
    if not isinstance(given, dict):
        raise ValueError(f"{prefix[:-1]} must be a mapping of keys to values, got {given!r}")
    known = [f.name for f in fields(default)]
    hints, values = get_type_hints(type(default)), {}
    for key, value in given.items():
        if key not in known:
            raise ValueError(f"unknown key {prefix}{key}; {_suggestion(default, str(key), prefix)}")
        values[key] = _converted(value, hints[key], vars(default)[key], f"{prefix}{key}")
    try:
        return replace(default, **values)
    except ValueError as error:  # from __post_init__, which knows its own keys only
        named = str(error).startswith(prefix)
        raise ValueError(str(error) if named else f"{prefix}{error}") from error


def _suggestion(schema: Any, key: str, prefix: str) -> str:
    known = [f.name for f in fields(schema)]
    near = [prefix + name for name in difflib.get_close_matches(key, known, n=3)]
    near = near or [name for name in _keys(schema, prefix) if name.endswith(f".{key}")]
    if near:
        return f"did you mean {' or '.join(near)}?"
    return f"known here: {', '.join(prefix + name for name in known)}"


def _keys(schema: Any, prefix: str) -> Iterator[str]:
    for name, value in vars(schema).items():
        yield f"{prefix}{name}"
        if is_dataclass(value):
            yield from _keys(value, f"{prefix}{name}.")


def _converted(value: Any, hint: Any, default: Any, key: str) -> Any:
    """`value` as what the annotation `hint` says, or a ValueError naming key and value."""
    if is_dataclass(default):
        return _filled(default, value, f"{key}.")
    if hint is Any:
        return value
    if isinstance(value, str) and "${" in value:
        raise ValueError(f"{key} must be a plain value; nothing is filled in for {value!r}")
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return _converted_optional(value, arguments, hint, key)
    if is_dataclass(hint) and isinstance(hint, type):
        return _filled(hint(), value, f"{key}.")
    if origin is Literal and value in arguments:
        return value
    if origin is tuple and isinstance(value, (list, tuple)):
        inner = arguments[:1] * len(value) if arguments[-1] is ... else arguments
        if len(inner) == len(value):
            parts = zip(value, inner, strict=True)
            return tuple(_converted(v, h, None, f"{key}[{i}]") for i, (v, h) in enumerate(parts))
    if origin is dict and isinstance(value, dict):
        return {str(k): _converted(v, arguments[1], None, f"{key}.{k}") for k, v in value.items()}
    if type(value) is hint or (type(value) is int and hint in (float, str)):
        return hint(value)
    raise ValueError(f"{key} must be {_in_words(hint)}, got {value!r}")


def _converted_optional(value: Any, choices: tuple[Any, ...], hint: Any, key: str) -> Any:
    if value is None and type(None) in choices:
        return None
    real = [choice for choice in choices if choice is not type(None)]
    for choice in real:
        try:
            return _converted(value, choice, None, key)
        except ValueError:
            if len(real) == 1 and (is_dataclass(choice) or get_origin(choice) is tuple):
                raise  # it names the very part that is wrong
    raise ValueError(f"{key} must be {_in_words(hint)}, got {value!r}")


def _in_words(hint: Any) -> str:
    plain = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
    if hint in plain:
        return plain[hint]
    if hint is type(None):
        return "null"
    arguments = get_args(hint)
    if get_origin(hint) is Literal:
        return f"one of {', '.join(map(str, arguments))}"
    if get_origin(hint) in (Union, UnionType):
        return " or ".join(_in_words(argument) for argument in arguments)
    if get_origin(hint) is tuple:
        count = "" if arguments[-1] is ... else f" of {len(arguments)}"
        return f"a list{count}, each {_in_words(arguments[0])}"
    return "a mapping of keys to values"
