"""What a sweep is told: a frozen dataclass, filled from a YAML file and overrides."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from distgan.config import Config, changed
from distgan.settings import filled, merged, read_override, read_with_base, require
from distgan.sweeps.space import Domain

Settings = Mapping[str, Any]
"""Values by dotted key of a run's config."""


@dataclass(frozen=True, kw_only=True)
class Objective:
    """A logged number that should be large, or small."""

    metric: str = ""
    mode: Literal["max", "min"] = "max"

    def better(self, value: float) -> float:
        """The value turned so that higher is better."""
        return value if self.mode == "max" else -value


@dataclass(frozen=True, kw_only=True)
class StopRule:
    """When a trial is given up: its metric is out of bounds, or not finite, `times` logged lines
    in a row."""

    metric: str = "*"  # a logged number; `*`: any, which then must be finite
    below: float | None = None
    above: float | None = None
    of_first: bool = False  # bounds are multiples of the first value that the trial logged
    times: int = 1
    after: int = 0  # rounds of the trial before it is looked at

    def __post_init__(self) -> None:
        require(bool(self.metric), "metric", self.metric, "a logged number's name")
        require(self.times >= 1, "times", self.times, "at least 1")
        if self.metric == "*" and (self.below is not None or self.above is not None):
            raise ValueError("metric=* has no bounds: name one")


@dataclass(frozen=True, kw_only=True)
class WarmStart:
    """Stages that all trials share: computed once, under the fixed settings."""

    stages: tuple[str, ...] = ()  # the algorithm's first ones
    temperatures: tuple[float, ...] = ()  # of sampling, at which the shared model is measured

    def __post_init__(self) -> None:
        require(all(t > 0 for t in self.temperatures), "temperatures", self.temperatures, "above 0")
        if self.temperatures and not self.stages:
            raise ValueError(f"temperatures={self.temperatures} needs stages, whose model they are")


@dataclass(frozen=True, kw_only=True)
class Halving:
    """Asynchronous successive halving (ASHA): at each rung the best 1/factor go on."""

    grace: int = 20  # rounds of a trial before the first rung
    factor: float = 3.0

    def __post_init__(self) -> None:
        require(self.grace >= 1, "grace", self.grace, "at least 1")
        require(self.factor > 1, "factor", self.factor, "above 1")


@dataclass(frozen=True, kw_only=True)
class Population:
    """Population-based training: every `interval` rounds the worst take the best's place."""

    interval: int = 50  # rounds of a generation
    quantile: float = 0.25  # share of the population that is replaced, and of the donors
    resample: float = 0.25  # chance of a fresh draw of a setting instead of a nudge

    def __post_init__(self) -> None:
        require(self.interval >= 1, "interval", self.interval, "at least 1")
        require(0 < self.quantile <= 0.5, "quantile", self.quantile, "in (0, 0.5]")
        require(0 <= self.resample <= 1, "resample", self.resample, "a chance")


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """One sweep, whole."""

    config: str = ""  # of the runs, a file seen from the sweep's own
    settings: dict[str, Any] = field(default_factory=dict)  # dotted keys, the same in all trials
    search: dict[str, Domain] = field(default_factory=dict)  # dotted keys, what each may be
    searcher: Literal["grid", "random", "optuna"] = "grid"
    scheduler: Literal["none", "asha", "pbt"] = "none"
    trials: int | None = None  # None: the whole grid
    objectives: tuple[Objective, ...] = ()  # the first one decides; all are in the report
    warm_start: WarmStart = field(default_factory=WarmStart)
    asha: Halving = field(default_factory=Halving)
    pbt: Population = field(default_factory=Population)
    stop: dict[str, StopRule] = field(default_factory=dict)  # by the name given as the reason
    max_concurrent: int | None = None  # trials at once; None: as many as fit
    max_failures: int = 1  # restarts of a trial whose process died, beside engine.max_failures
    max_seconds: float | None = None  # of training, each trial
    name: str | None = None
    out: str = "runs"
    seed: int = 0  # of what is tried; each run's own is the config's

    def __post_init__(self) -> None:
        for each in self.objectives:
            require(bool(each.metric), "objectives.metric", each.metric, "a logged number's name")
        for key in ("trials", "max_concurrent"):
            value = vars(self)[key]
            require(value is None or value >= 1, key, value, "at least 1, or null")
        require(self.max_failures >= 0, "max_failures", self.max_failures, "at least 0")
        limit = self.max_seconds
        require(limit is None or limit > 0, "max_seconds", limit, "above 0, or null")
        self._check_together()

    def _check_together(self) -> None:
        if self.searcher == "grid":
            for key, domain in self.search.items():
                if not domain.values:
                    raise ValueError(f"search.{key} needs grid: [...] with searcher=grid")
            if self.scheduler == "pbt":
                raise ValueError("scheduler=pbt draws its first settings: searcher=random")
        elif self.trials is None:
            raise ValueError(f"searcher={self.searcher} needs trials, how many")
        if self.scheduler == "pbt" and (self.searcher == "optuna" or (self.trials or 0) < 2):
            raise ValueError(
                f"scheduler=pbt needs searcher=random and trials of at least 2, its population; "
                f"got searcher={self.searcher}, trials={self.trials}"
            )


def load_sweep(path: str | Path, overrides: Sequence[str]) -> Sweep:
    """A sweep's YAML file with overrides; both may nest the dotted keys of settings and search."""
    given: Any = _flattened(read_with_base(Path(path)))
    for word in overrides:
        given = merged(given, _flattened(read_override(word)))
    result = filled(Sweep(), given, "")
    assert isinstance(result, Sweep)
    return result


def _flattened(given: Mapping[str, Any]) -> dict[str, Any]:
    """With settings and search as mappings of dotted keys to values and to domains."""
    flat = dict(given)
    for name, is_leaf in (("settings", _is_value), ("search", _is_domain)):
        if isinstance(flat.get(name), dict):
            flat[name] = {
                key: value
                for first, inner in flat[name].items()
                for key, value in _leaves(str(first), inner, is_leaf)
            }
    return flat


def _leaves(key: str, value: Any, is_leaf: Callable[[Any], bool]) -> Iterator[tuple[str, Any]]:
    if is_leaf(value):
        yield key, value
        return
    for name, inner in value.items():
        yield from _leaves(f"{key}.{name}", inner, is_leaf)


def _is_value(value: Any) -> bool:
    return not (isinstance(value, dict) and value)


def _is_domain(value: Any) -> bool:
    """A domain holds lists, a level of keys holds mappings alone."""
    return _is_value(value) or not all(isinstance(inner, dict) for inner in value.values())


def trial_config(base: Config, sweep: Sweep, settings: Settings) -> Config:
    """A trial's whole config; a ValueError names what does not fit."""
    return changed(changed(base, sweep.settings), settings)
