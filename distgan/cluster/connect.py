"""The Ray cluster a run uses: the one that is up, else one of its own, and whether it is enough."""

from __future__ import annotations

import logging
import os
from typing import Any, Literal

import ray

from distgan.config import EngineConfig

Device = Literal["cpu", "cuda"]
QUIET: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.WARNING}
"""Workers' lines reach the user through the run's own log, see `distgan.cluster.train`."""


def connect() -> None:
    """Join the cluster of RAY_ADDRESS, or the one on this machine, or start one."""
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.5")
    os.environ.setdefault("RAY_TRAIN_V2_ENABLED", "1")
    if ray.is_initialized():
        return
    address = os.environ.get("RAY_ADDRESS", "")
    if address.startswith("http"):
        raise ValueError(
            f"RAY_ADDRESS={address} is where jobs are submitted: use `ray job submit`, or unset it"
        )
    try:
        ray.init(address=address or "auto", **QUIET)
    except ConnectionError as error:
        if address:
            raise ValueError(f"RAY_ADDRESS={address}: no Ray cluster answers there") from error
        ray.init(address="local", include_dashboard=False, **QUIET)


def choose_device(config: EngineConfig) -> Device:
    """`cpu` or `cuda` for every worker; a ValueError when the cluster is too small for them."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    gpus = int(sum(node.get("GPU", 0) for node in nodes))
    if config.device == "cuda" and not gpus:
        raise ValueError("engine.device=cuda, but the cluster has no GPU")
    device: Device = "cuda" if gpus and config.device != "cpu" else "cpu"
    room = sum(_fit(node, config.cpus_per_worker, device) for node in nodes)
    if room < config.workers:
        cpus = sum(node.get("CPU", 0) for node in nodes)
        raise ValueError(
            f"engine.workers={config.workers}, but the cluster has room for {room}: "
            f"{cpus:g} CPUs, {gpus} GPUs on {len(nodes)} machines; a worker takes "
            f"engine.cpus_per_worker={config.cpus_per_worker:g}"
            + (" and a GPU (engine.device=cpu: none)" if device == "cuda" else "")
        )
    return device


def _fit(node: dict[str, float], cpus_per_worker: float, device: Device) -> int:
    by_cpu = int(node.get("CPU", 0) / cpus_per_worker + 1e-9)
    return min(by_cpu, int(node.get("GPU", 0))) if device == "cuda" else by_cpu
