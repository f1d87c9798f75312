"""Trains a tiny GAN on a Ray cluster: the program that the tests start, stop and kill.

python tests/cluster/tiny_run.py RUN [workers=2] [rounds=40] [pause=0.0] [fault=...] [zero=1]
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from distgan.cluster.train import train
from distgan.config import (
    BackendConfig,
    CheckpointConfig,
    Config,
    EngineConfig,
    LogConfig,
    OptimizerConfig,
)
from distgan.engine.log import Log
from distgan.engine.runs import RunError
from distgan.engine.stages import Batch, Loss, Stage, Update
from distgan.engine.stop import StopOnSignal
from distgan.engine.world import World
from distgan.randomness import Draw, normals

ROWS = 12


@dataclass(frozen=True, kw_only=True)
class TinyConfig:
    name: str = "tiny"
    rounds: int = 40
    pause: float = 0.0  # seconds a round takes at least
    fault: str = ""
    pids: str = ""  # where each worker leaves a file RANK-PID


class Points:
    """Keyed points of a plane; the last rank takes a little more than its share."""

    rows = ROWS

    def __init__(self, world: World, seed: int) -> None:
        cuts = [ROWS * rank // world.size for rank in range(world.size + 1)]
        self.rank, self.mine = world.rank, torch.arange(cuts[world.rank], cuts[world.rank + 1])
        self.seed, self.batches = seed, 0

    def __next__(self) -> Batch:
        position = self.mine + self.batches * ROWS
        self.batches += 1
        noise = normals(Draw(self.seed, 5, 0), position, 6)
        return {
            "key": [str(p) for p in position.tolist()],
            "position": position,
            "weight": torch.full((len(position),), 1 / ROWS, dtype=torch.float64),
            "real": noise[:, :2] * 0.5 + 1,
            "noise": noise[:, 2:],
        }

    def state_dict(self, total: Callable[[Tensor], Tensor]) -> dict[str, Any]:
        seen = total(torch.tensor(len(self.mine) * self.batches))
        return {"batches": self.batches, "samples": int(seen)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.batches = state["batches"]


class TinyGAN:
    """Two small networks, one of them with dropout; faults on demand."""

    def __init__(self, config: Config, world: World) -> None:
        self.config, self.world, self.seed = config.method, world, config.seed
        generator = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Dropout(0.1), nn.Linear(16, 2))
        critic = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 1))
        self.networks: Mapping[str, nn.Module] = {"generator": generator, "critic": critic}
        self.optimizers = {name: OptimizerConfig(lr=1e-2) for name in self.networks}
        Path(self.config.pids, f"{world.rank}-{os.getpid()}").touch()

    @classmethod
    def check(cls, config: Config) -> None:
        """Nothing can be wrong."""

    def algorithm(self) -> tuple[Stage, ...]:
        critic = Update("critic", self.judge, ("points",), times=2)
        generator = Update("generator", self.fool, ("points",))
        half = self.config.rounds // 2
        return (
            Stage("critic", half, (critic,)),
            Stage("both", self.config.rounds - half, (critic, generator)),
        )

    def streams(self) -> Mapping[str, Points]:
        return {"points": Points(self.world, self.seed)}

    def judge(self, batch: Batch) -> Loss:
        time.sleep(self.config.pause / 2)
        self._misbehave(batch)
        return self._loss(batch, self._scores(batch["real"]) - self._scores(self._fakes(batch)))

    def fool(self, batch: Batch) -> Loss:
        return self._loss(batch, self._scores(self._fakes(batch)))

    def _fakes(self, batch: Batch) -> Tensor:
        return self.networks["generator"](batch["noise"].to(self.dtype))

    def _scores(self, points: Tensor) -> Tensor:
        return self.networks["critic"](points.to(self.dtype))[:, 0]

    @property
    def dtype(self) -> torch.dtype:
        return next(self.networks["critic"].parameters()).dtype

    def _loss(self, batch: Batch, scores: Tensor) -> Loss:
        penalised = -scores + 0.1 * scores**2
        return Loss(
            (batch["weight"] * penalised).sum(), {"scores": (batch["weight"] * scores).sum()}
        )

    def _misbehave(self, batch: Batch) -> None:
        late = int(batch["position"][0]) > 20 * ROWS and self.world.rank == self.world.size - 1
        if late and self.config.fault == "error":
            raise ValueError("data.path='shapes': the caption of zebra-17 is empty")
        if late and self.config.fault == "exit":
            os._exit(1)

    def identity(self) -> dict[str, Any]:
        return {"data": "points", "vocabulary": "none"}

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """There is no state."""

    def show(self, log: Log, stage: Stage, step: int) -> None:
        """There are no pictures."""

    def interpret(self, metrics: dict[str, float]) -> tuple[dict[str, float], list[str]]:
        return metrics, []


def config_of(run: Path, given: dict[str, str]) -> Config:
    """The config of a run; with `zero` its critic is under DeepSpeed at that stage."""
    zero = given.get("zero")
    deep = {} if zero is None else {"critic": BackendConfig(backend="deepspeed", zero=int(zero))}
    return Config(
        method=TinyConfig(
            rounds=int(given.get("rounds", 40)),
            pause=float(given.get("pause", 0)),
            fault=given.get("fault", ""),
            pids=str(run / "pids"),
        ),
        engine=EngineConfig(
            workers=int(given.get("workers", 2)),
            cpus_per_worker=0.25,
            precision="float64" if zero is None else "float32",
            networks=deep,
            device="cpu",
            threads=1,
            max_failures=int(given.get("max_failures", 3)),
        ),
        checkpoint=CheckpointConfig(every=int(given.get("every", 10))),
        log=LogConfig(every=5, pictures_every=0, tensorboard=False),
        seed=7,
    )


def main(run: Path, given: dict[str, str]) -> int:
    config = config_of(run, given)
    (run / "pids").mkdir(parents=True, exist_ok=True)
    with StopOnSignal() as stop:
        try:
            outcome = train(config, run, should_stop=stop, build=TinyGAN)
        except RunError as error:
            print(f"error: {error}", flush=True)
            return 1
    print(f"finished: {outcome.finished}", flush=True)
    return 0 if outcome.finished else stop.exit_code


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), dict(word.split("=") for word in sys.argv[2:])))
