"""What trials must have in common to begin with the checkpoint of stages that they share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from distgan.config import Config
from distgan.engine.world import World
from distgan.methods import METHODS, training
from distgan.methods.method import Method
from distgan.sweeps.plan import Settings, Sweep, trial_config

Build = Callable[[Config, World], Method]


def check_shared(
    plan: Sweep, base: Config, points: Sequence[Settings] | None, build: Build | None
) -> None:
    """A ValueError names the first searched value that the shared run's checkpoint does not fit.

    Each value is tried alone, of a range both ends. Opens data and builds networks, trains nothing.
    """
    if not plan.warm_start.stages:
        return
    shared = trial_config(base, plan, {})
    theirs = _common(shared, build)
    for key, value in _values(plan, points):
        try:
            config = trial_config(base, plan, {key: value})
        except ValueError:
            continue  # it needs another key's value beside it
        own = theirs if config == shared else _common(config, build)
        for what, mine in own.items():
            if mine != theirs[what]:
                raise ValueError(
                    f"search.{key}={value!r} changes the run's {what}, but warm_start.stages="
                    f"{list(plan.warm_start.stages)} are played once for all trials: "
                    f"search without warm_start, or leave {key} out"
                )


def _values(plan: Sweep, points: Sequence[Settings] | None) -> Iterator[tuple[str, Any]]:
    if points is not None:
        yield from ((key, value) for settings in points for key, value in settings.items())
        return
    for key, domain in plan.search.items():
        bounds = domain.integer or domain.loguniform or domain.uniform or ()
        yield from ((key, value) for value in domain.values or bounds)


def _common(config: Config, build: Build | None) -> dict[str, Any]:
    """What a checkpoint must agree with to be gone on from, by what to call it."""
    method: Method = (build or METHODS[config.method.name])(config, World.local())
    stages = training.choose_stages(method.algorithm(), config.stages)
    identity = training.identity(config, stages, method)
    return {
        "stages or their rounds": identity["stages"],
        "data": identity["data"],
        "vocabulary": identity["vocabulary"],
        "streams": {  # what each would save before its first batch: seed, source, order
            name: stream.state_dict(lambda mine: mine) for name, stream in method.streams().items()
        },
        "networks": {
            name: {part: tuple(value.shape) for part, value in network.state_dict().items()}
            for name, network in method.networks.items()
        },
        "optimizers": {name: method.optimizers[name].name for name in method.networks},
    }
