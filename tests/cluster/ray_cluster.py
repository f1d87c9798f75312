"""A Ray cluster of the tests' own, and what they ask of runs on it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from distgan.engine import checkpoint

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 900  # seconds; machines are busy at times


def free_ports(count: int) -> list[str]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [str(one.getsockname()[1]) for one in sockets]
    for one in sockets:
        one.close()
    return ports


class Cluster:
    """A Ray head on loopback that asks for a token, with everything of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.started: list[subprocess.Popen[str]] = []
        port, dashboard, client, agent, agent_grpc, metrics = free_ports(6)
        self.jobs = f"http://127.0.0.1:{dashboard}"
        self.environment = os.environ | {
            "HOME": str(folder),  # the token's home
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": "0123456789abcdef" * 4,
            "RAY_ADDRESS": f"127.0.0.1:{port}",
            "OMP_NUM_THREADS": "1",
            "RAY_raylet_start_wait_time_s": "300",
            "PYTHONPATH": str(ROOT),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        }
        command = ["start", "--head", "--block", "--num-cpus=2", "--disable-usage-stats"]
        command += ["--node-ip-address=127.0.0.1", f"--port={port}", f"--temp-dir={folder}/r"]
        command += ["--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}"]
        command += [f"--ray-client-server-port={client}", f"--metrics-export-port={metrics}"]
        command += [f"--dashboard-agent-listen-port={agent}"]
        command += [f"--dashboard-agent-grpc-port={agent_grpc}"]
        with (folder / "ray.log").open("w") as log:
            environment = {k: v for k, v in self.environment.items() if k != "RAY_ADDRESS"}
            self.process = subprocess.Popen(
                ["ray", *command],
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait(self) -> None:
        log = self.folder / "ray.log"
        try:
            until(lambda: "Ray runtime started" in log.read_text(), self.process)
        except AssertionError as error:
            raise AssertionError(f"ray start: {error}: {log.read_text()}") from error

    def run(self, *command: object, **variables: str) -> subprocess.Popen[str]:
        """Start a Python program on the cluster; its output is one text."""
        process = subprocess.Popen(
            [sys.executable, *map(str, command)],
            env=self.environment | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.started.append(process)
        return process

    def stop(self) -> None:
        """Its own processes and drivers die here; workers follow their raylet."""
        for process in self.started:
            process.kill()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def until(holds: Callable[[], bool], process: subprocess.Popen[Any]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert process.poll() is None, f"it ended with {process.returncode}"
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.05)


def ended(process: subprocess.Popen[str]) -> tuple[str, int]:
    said, _ = process.communicate(timeout=PATIENCE)
    return said, process.returncode


def has_logged(run: Path, round: int) -> Callable[[], bool]:
    path = run / "metrics.jsonl"
    return lambda: path.exists() and f'"round": {round},' in path.read_text()


def final_state(run: Path) -> dict[str, Any]:
    state = checkpoint.load(checkpoint.find(run))
    return {name: state[name] for name in ("progress", "learners", "streams")}


def same_bits(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same_bits(one[k], other[k]) for k in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same_bits, one, other))
    return bool(one == other)
