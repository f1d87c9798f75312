"""The Ray cluster a run uses: the one that is up, else one of its own, and whether it is enough."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import ray

from distgan.config import EngineConfig
from distgan.engine.stop import SIGNALS

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
    with _own_signals():
        try:
            ray.init(address=address or "auto", **QUIET)
        except (ConnectionError, ray.exceptions.AuthenticationError) as error:
            if address:
                raise ValueError(
                    f"RAY_ADDRESS={address}: no Ray cluster answers there, or it asks for its "
                    "token (RAY_AUTH_MODE=token and the cluster's ~/.ray/auth_token)"
                ) from error
            # One machine is not taken away from below us: a process less for every run.
            os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")
            ray.init(address="local", include_dashboard=False, **QUIET)


def choose_device(config: EngineConfig) -> Device:
    """`cpu` or `cuda` for every worker; a ValueError when the cluster is too small for them."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    gpus = int(sum(node.get("GPU", 0) for node in nodes))
    if config.device == "cuda" and not gpus:
        raise ValueError("engine.device=cuda, but the cluster has no GPU")
    device: Device = "cuda" if gpus and config.device != "cpu" else "cpu"
    room = sum(_fit(node, config, device) for node in nodes)
    if room < config.workers:
        cpus = sum(node.get("CPU", 0) for node in nodes)
        raise ValueError(
            f"engine.workers={config.workers}, but the cluster has room for {room}: "
            f"{cpus:g} CPUs, {gpus} GPUs on {len(nodes)} machines; a worker takes "
            f"engine.cpus_per_worker={config.cpus_per_worker:g}"
            + (" and a GPU (engine.device=cpu: none)" if device == "cuda" else "")
        )
    return device


def runs_at_once(config: EngineConfig) -> int:
    """How many runs like this one the whole cluster has room for; at least 1 or a ValueError."""
    device = choose_device(config)
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return sum(_fit(node, config, device) for node in nodes) // config.workers


def _fit(node: dict[str, float], config: EngineConfig, device: Device) -> int:
    by_cpu = int(node.get("CPU", 0) / config.cpus_per_worker + 1e-9)
    by_gpu = int(node.get("GPU", 0) / config.gpus_per_worker + 1e-9)
    return min(by_cpu, by_gpu) if device == "cuda" else by_cpu


@contextmanager
def _own_signals() -> Iterator[None]:
    """Ray takes over SIGTERM when it starts: this program's own handlers are put back."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            if callable(handler) and threading.current_thread() is threading.main_thread():
                signal.signal(number, handler)
