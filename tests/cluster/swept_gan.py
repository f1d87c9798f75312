"""The tiny GAN with a schedule to sweep; in a module of its own, so that workers import it."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass, field, replace
from pathlib import Path

from tiny_run import TinyConfig, TinyGAN

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
        return critic, replace(both, updates=updates, enter=self._tell)

    def _tell(self) -> None:
        """What this start of the adversarial stage begins with."""
        digest = hashlib.sha256()
        for network in self.networks.values():
            for value in network.state_dict().values():
                digest.update(value.double().numpy().tobytes())
        line = {
            "run": self.run.name,
            "weights": digest.hexdigest(),
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
