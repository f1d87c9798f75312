"""Tiny methods on a backend of the config's choice."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from tiny_runs import Case

from distgan.config import BackendConfig, Config
from distgan.engine.deepspeed import DeepSpeedLearner


@dataclass(frozen=True)
class BackendCase(Case):
    """A case in float32 whose config says the backend: `zero` is DeepSpeed's stage, None is none.

    `discriminator` is that network's own.
    """

    precision: str = "float32"
    zero: int | None = None
    offload: str | None = None
    discriminator: BackendConfig | None = None

    def config(self) -> Config:
        config = super().config()
        own = {} if self.discriminator is None else {"discriminator": self.discriminator}
        backend = "auto" if self.zero is None else "deepspeed"
        engine = replace(
            config.engine, backend=backend, zero=self.zero, offload=self.offload, networks=own
        )
        return replace(config, engine=engine)


def under(zero: int, learner: type[DeepSpeedLearner] = DeepSpeedLearner, **settings: Any) -> Any:
    """A learner class for `Case.learner`, at a stage."""
    return partial(learner, zero=zero, **settings)
