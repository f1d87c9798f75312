"""Which settings are tried next: the grid, a draw, or what Optuna makes of the results so far."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from distgan.sweeps import space
from distgan.sweeps.plan import Sweep

Values = Sequence[float] | None
"""A trial's objectives in order; None where it has none (it failed)."""


class Searcher(Protocol):
    """Settings by trial number. `tell` may come in any order, also for trials of the past."""

    def ask(self, number: int) -> dict[str, Any]: ...
    def tell(self, number: int, settings: Mapping[str, Any], values: Values) -> None: ...


class Listed:
    """Settings known from the start."""

    def __init__(self, points: Sequence[Mapping[str, Any]]) -> None:
        self.points = points

    def ask(self, number: int) -> dict[str, Any]:
        return dict(self.points[number])

    def tell(self, number: int, settings: Mapping[str, Any], values: Values) -> None:
        """Nothing follows."""


class Drawn:
    """Independent draws, each a function of the seed and the trial's number."""

    def __init__(self, domains: space.Space, seed: int) -> None:
        self.domains, self.seed = domains, seed

    def ask(self, number: int) -> dict[str, Any]:
        return space.draw(self.domains, self.seed, number)

    def tell(self, number: int, settings: Mapping[str, Any], values: Values) -> None:
        """Nothing follows."""


class Learned:
    """Optuna's TPE; several objectives are weighed by its multi-objective form."""

    def __init__(self, sweep: Sweep) -> None:
        try:
            import optuna
        except ImportError as error:
            raise ValueError(
                "searcher=optuna needs Optuna: pip install 'distgan[tune]'; "
                "searcher=random needs nothing"
            ) from error
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._optuna, self._domains, self._seed = optuna, sweep.search, sweep.seed
        modes = ["maximize" if each.mode == "max" else "minimize" for each in sweep.objectives]
        self._study = optuna.create_study(directions=modes)
        self._asked: dict[int, Any] = {}

    def ask(self, number: int) -> dict[str, Any]:
        # A sampler of its own for every trial: what is asked depends on the seed, the number
        # and the results told, not on how often the sweep was interrupted.
        seed = self._seed * 1_000_003 + number
        self._study.sampler = self._optuna.samplers.TPESampler(seed=seed % 2**32)
        trial = self._study.ask(
            {key: self._distribution(domain) for key, domain in self._domains.items()}
        )
        self._asked[number] = trial
        return {key: self._value(key, trial.params[key]) for key in self._domains}

    def tell(self, number: int, settings: Mapping[str, Any], values: Values) -> None:
        states = self._optuna.trial.TrialState
        state = states.FAIL if values is None else states.COMPLETE
        if number in self._asked:
            self._study.tell(self._asked.pop(number), values, state=state)
            return
        self._study.add_trial(
            self._optuna.trial.create_trial(
                state=state,
                params={key: self._code(key, settings[key]) for key in self._domains},
                distributions={k: self._distribution(d) for k, d in self._domains.items()},
                values=values,
            )
        )

    def _distribution(self, domain: space.Domain) -> Any:
        kinds = self._optuna.distributions
        if domain.values:  # by place: a value may be a list
            return kinds.CategoricalDistribution(tuple(range(len(domain.values))))
        if domain.integer:
            return kinds.IntDistribution(*domain.integer)
        low, high = domain.loguniform or domain.uniform or (0.0, 0.0)
        return kinds.FloatDistribution(low, high, log=domain.loguniform is not None)

    def _value(self, key: str, code: Any) -> Any:
        values = self._domains[key].values
        return values[code] if values else code

    def _code(self, key: str, value: Any) -> Any:
        values = self._domains[key].values
        return values.index(value) if values else value


def searcher(sweep: Sweep) -> Searcher:
    """The one that the sweep names."""
    if sweep.searcher == "grid":
        return Listed(space.grid(sweep.search))
    return Drawn(sweep.search, sweep.seed) if sweep.searcher == "random" else Learned(sweep)


def trial_count(sweep: Sweep) -> int:
    """How many trials there will be."""
    if sweep.searcher != "grid":
        return int(sweep.trials or 0)
    whole = len(space.grid(sweep.search))
    return whole if sweep.trials is None else min(whole, sweep.trials)
