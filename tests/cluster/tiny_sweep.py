"""Sweeps a tiny GAN on a Ray cluster: the program that the tests start, stop and kill.

python tests/cluster/tiny_sweep.py FOLDER search={...} [sweep settings: trials=4 scheduler=pbt ...]
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import ray
from ray._private import state as ray_state  # the public one needs the dashboard
from swept_gan import Swept, SweptConfig

from distgan.cluster.connect import connect
from distgan.cluster.tune import sweep
from distgan.config import CheckpointConfig, Config, EngineConfig, LogConfig
from distgan.engine.stop import StopOnSignal
from distgan.settings import load_settings
from distgan.sweeps import results
from distgan.sweeps.journal import Journal
from distgan.sweeps.plan import Objective, Sweep

COORDINATOR = "_AutoscalingCoordinatorActor"
"""Ray Train's own: one for a whole cluster, from the first run on."""


def base(folder: Path) -> Config:
    (folder / "pids").mkdir(parents=True, exist_ok=True)
    return Config(
        method=SweptConfig(rounds=24, pids=str(folder / "pids"), folder=str(folder)),
        engine=EngineConfig(
            cpus_per_worker=0.5, precision="float64", device="cpu", threads=1, max_failures=2
        ),
        checkpoint=CheckpointConfig(every=4),
        log=LogConfig(every=2, pictures_every=0, tensorboard=False, evaluate_every=4),
        seed=7,
    )


PLAN = Sweep(objectives=(Objective(metric="val/lam"), Objective(metric="val/boldness")))


def left_behind() -> dict[str, Any]:
    """Placement groups and actors that are still there, and CPUs that are not free."""
    job = ray.get_runtime_context().get_job_id()
    deadline = time.monotonic() + 20  # what has been told to go needs a moment
    while True:
        groups = ray.util.placement_group_table().values()
        held = ray.cluster_resources().get("CPU", 0) - ray.available_resources().get("CPU", 0)
        actors = [
            actor["ActorClassName"]
            for actor in ray_state.actors().values()
            if actor["State"] == "ALIVE" and actor["JobID"] == job
        ]
        found = {
            "groups": [group for group in groups if group["state"] != "REMOVED"],
            "cpus": held,
            "actors": [name for name in actors if name != COORDINATOR],
        }
        if not any(found.values()) or time.monotonic() > deadline:
            return found
        time.sleep(0.5)


def main(folder: Path, words: list[str]) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "plan.yaml").write_text("{}")
    plan = load_settings(folder / "plan.yaml", words, PLAN)
    connect()
    with StopOnSignal() as stop:
        ended = sweep(plan, base(folder), folder, should_stop=stop, build=Swept)
    results.write(Journal(folder), plan, base(folder))
    print("left behind:", json.dumps(left_behind(), default=str), flush=True)
    return 0 if ended else stop.exit_code


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
