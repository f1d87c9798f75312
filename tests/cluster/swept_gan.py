"""The tiny GAN with a schedule to sweep; in a module of its own, so that workers import it."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from tiny_run import TinyConfig, TinyGAN
from torch import Tensor

from distgan.config import Config, OptimizerConfig
from distgan.engine.stages import Batch, Loss, Stage
from distgan.engine.world import World


@dataclass(frozen=True, kw_only=True)
class SweptConfig(TinyConfig):
    lam: float = 1.0
    g_steps: int = 1
    broken: bool = False
    folder: str = ""  # where each start leaves a line of what it started from
    optimizer: OptimizerConfig = field(default_factory=lambda: OptimizerConfig(lr=1e-2))


def digest(networks: Mapping[str, Mapping[str, Tensor]]) -> str:
    """One name for the bits of all weights."""
    found = hashlib.sha256()
    for name in sorted(networks):
        for key, value in networks[name].items():
            found.update(f"{name}.{key}".encode() + value.numpy().tobytes())
    return found.hexdigest()


class Swept(TinyGAN):
    """The tiny GAN with a schedule; its objective is how large lambda is, so a test knows best."""

    def __init__(self, config: Config, world: World) -> None:
        super().__init__(config, world)
        self.optimizers = {name: self.config.optimizer for name in self.networks}
        self.run = Path(config.out) / str(config.name)

    def algorithm(self) -> tuple[Stage, ...]:
        critic, both = super().algorithm()
        judge, fool = both.updates
        updates = (judge, replace(fool, times=self.config.g_steps))
        return replace(critic, enter=self._tell), replace(both, updates=updates, enter=self._tell)

    def _tell(self) -> None:
        """What a stage begins with, or goes on with after a restart."""
        line = {
            "run": self.run.name,
            "weights": digest({n: x.state_dict() for n, x in self.networks.items()}),
            "lam": self.config.lam,
            "g_steps": self.config.g_steps,
            "lr": self.config.optimizer.lr,
            "pid": os.getpid(),
        }
        with (Path(self.config.folder) / "starts.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")

    def fool(self, batch: Batch) -> Loss:
        if self.config.broken:
            raise ValueError("method.broken=True: as the test wants it")
        loss = super().fool(batch)
        return loss._replace(total=self.config.lam * loss.total)

    def evaluate(self, *, temperature: float = 1.0) -> dict[str, float]:
        return {"lam": self.config.lam, "boldness": temperature - self.config.lam}
