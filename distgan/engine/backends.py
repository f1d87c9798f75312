"""What exchanges each network's gradients: chosen from the config, refused where it cannot work.

A process of its own (`--local`, evaluation) trains plainly whatever the backend: the same
training, as the number of workers changes nothing.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from importlib.util import find_spec

import torch
from torch import nn

from distgan.config import EngineConfig, OptimizerConfig
from distgan.engine.learner import Learner
from distgan.engine.world import World

_AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Choice:
    """One network's backend, with DeepSpeed's settings, and the config keys that chose them."""

    backend: str
    zero: int
    offload: bool
    keys: dict[str, str]  # of backend, zero and offload: "engine.networks.critic.zero=2"


def choose(engine: EngineConfig, network: str) -> Choice:
    """What the config says for a network; ValueError where a setting would be ignored."""
    own = engine.networks.get(network)
    values, keys = {"backend": engine.backend, "zero": 1, "offload": "none"}, {}
    for name in values:
        for where, config in (("engine", engine), (f"engine.networks.{network}", own)):
            if config is not None and vars(config)[name] is not None:
                values[name] = vars(config)[name]
                keys[name] = f"{where}.{name}={values[name]}"
    if values["backend"] != "deepspeed" and own is not None:
        for name in ("zero", "offload"):
            if vars(own)[name] is not None:
                raise ValueError(
                    f"{keys[name]} is deepspeed's, but {keys['backend']}; "
                    f"set engine.networks.{network}.backend=deepspeed"
                )
    return Choice(
        str(values["backend"]), int(str(values["zero"])), values["offload"] == "cpu", keys
    )


def plainly(engine: EngineConfig) -> EngineConfig:
    """The same without any backend, for networks that will not learn."""
    return replace(engine, backend="auto", zero=None, offload=None, networks={})


def check_backends(engine: EngineConfig, networks: Collection[str], *, local: bool = False) -> None:
    """Raise a ValueError naming key and value for what cannot work; starts nothing.

    `local`: it is for one process of its own, which trains plainly.
    """
    for name in engine.networks:
        if name not in networks:
            raise ValueError(f"engine.networks.{name}: the networks are {', '.join(networks)}")
    choices = {name: choose(engine, name) for name in networks}
    for key in ("zero", "offload"):
        if vars(engine)[key] is not None and "deepspeed" not in [
            choice.backend for choice in choices.values()
        ]:
            raise ValueError(
                f"engine.{key}={vars(engine)[key]} is deepspeed's, but engine.backend="
                f"{engine.backend}"
            )
    for name, choice in choices.items():
        _check(engine, name, choice, local)


def _check(engine: EngineConfig, name: str, choice: Choice, local: bool) -> None:
    said, precision = choice.keys["backend"], f"engine.precision={engine.precision}"
    if choice.backend == "local" and engine.workers > 1 and not local:
        raise ValueError(f"{said} is one process, but engine.workers={engine.workers}")
    if engine.precision == "fp16" and (local or choice.backend != "deepspeed"):
        plain = "--local trains plainly" if local else said
        raise ValueError(
            f"{precision} needs loss scaling, which only engine.backend=deepspeed has, but for "
            f"{name}: {plain}; bf16 needs none"
        )
    if choice.backend != "deepspeed":
        return
    if engine.precision == "fp16" and engine.device == "cpu":
        raise ValueError(f"{precision} needs a GPU, but engine.device=cpu")
    if engine.precision == "float64" and not local:
        raise ValueError(f"{precision}: DeepSpeed computes in float32 at most, and {said}")
    zero = choice.keys.get("zero", "zero=0")
    if choice.zero == 0 and choice.offload:
        raise ValueError(f"{choice.keys['offload']} needs zero=1, 2 or 3, but {zero}")
    if choice.zero == 0 and engine.precision == "fp16":
        raise ValueError(f"{precision} needs zero=1, 2 or 3, but {zero} for {name}")
    if not local and find_spec("deepspeed") is None:
        raise ValueError(
            f"{said}, but deepspeed is not installed: pip install 'distgan[deepspeed]'"
        )


def build_learner(
    name: str, network: nn.Module, optimizer: OptimizerConfig, world: World, engine: EngineConfig
) -> Learner:
    """The learner of a network that is on its device, in its precision."""
    choice, autocast = choose(engine, name), _AUTOCAST.get(engine.precision)
    if choice.backend != "deepspeed" or not world.has_group:
        return Learner(name, network, optimizer, world, autocast=autocast)
    from distgan.engine.deepspeed import DeepSpeedLearner

    return DeepSpeedLearner(
        name,
        network,
        optimizer,
        world,
        autocast=autocast,
        zero=choice.zero,
        offload=choice.offload,
    )
