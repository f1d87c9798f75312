"""ATTEND-GAN on a Ray cluster in no hurry, so that it can be killed where one wants.

python tests/cluster/slow_attend_gan.py RUN CONFIG key=value...
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from distgan.cluster.train import train
from distgan.config import Config, load_config
from distgan.engine.world import World
from distgan.methods import CONFIGS
from distgan.methods.attend_gan import AttendGAN

SECONDS = 0.15  # a round takes at least


class SlowAttendGAN(AttendGAN):
    """Pauses before each round; each worker leaves a file RANK-PID in the run's `pids`."""

    def __init__(self, config: Config, world: World) -> None:
        super().__init__(config, world)
        folder = Path(config.out) / "pids"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{world.rank}-{os.getpid()}").touch()

    def interpret(self, metrics: dict[str, float]) -> tuple[dict[str, float], list[str]]:
        time.sleep(SECONDS)
        return super().interpret(metrics)


def main(run: Path, config: Path, settings: list[str]) -> int:
    given = load_config(config, [*settings, f"out={run}"], methods=CONFIGS)
    return 0 if train(given, run, build=SlowAttendGAN).finished else 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:]))
