"""Whether a cluster is enough for a run, and how failures are told; no cluster is started."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

ray = pytest.importorskip("ray")

from distgan.cluster import connect  # noqa: E402 (needs ray)
from distgan.cluster.train import Failures, WorkerError, describe, first_cause  # noqa: E402
from distgan.config import EngineConfig  # noqa: E402


def nodes(*resources: dict[str, float]) -> list[dict[str, object]]:
    dead = {"Alive": False, "Resources": {"CPU": 64.0, "GPU": 8.0}}
    return [{"Alive": True, "Resources": each} for each in resources] + [dead]


BOX = {"CPU": 8.0, "GPU": 4.0}
LAPTOP = {"CPU": 2.0}


@pytest.mark.parametrize(
    ("cluster", "engine", "device"),
    [
        (nodes(LAPTOP), EngineConfig(workers=2), "cpu"),
        (nodes(LAPTOP), EngineConfig(workers=8, cpus_per_worker=0.25), "cpu"),
        (nodes(LAPTOP, LAPTOP), EngineConfig(workers=4), "cpu"),
        (nodes(BOX), EngineConfig(workers=4), "cuda"),
        (nodes(BOX, BOX), EngineConfig(workers=8, device="cuda"), "cuda"),
        (nodes(BOX), EngineConfig(workers=8, device="cpu"), "cpu"),
    ],
)
def test_a_cluster_that_is_enough(
    monkeypatch: pytest.MonkeyPatch, cluster: object, engine: EngineConfig, device: str
) -> None:
    monkeypatch.setattr(ray, "nodes", lambda: cluster)
    assert connect.choose_device(engine) == device


@pytest.mark.parametrize(
    ("cluster", "engine", "room"),
    [
        (nodes(LAPTOP), EngineConfig(workers=3), 2),
        (nodes(LAPTOP, LAPTOP), EngineConfig(workers=2, cpus_per_worker=3), 0),  # none has three
        (nodes(BOX), EngineConfig(workers=5), 4),
        (nodes(BOX, LAPTOP), EngineConfig(workers=5, device="cuda"), 4),
        (nodes(BOX), EngineConfig(workers=4, cpus_per_worker=4), 2),
    ],
)
def test_a_cluster_that_is_too_small(
    monkeypatch: pytest.MonkeyPatch, cluster: object, engine: EngineConfig, room: int
) -> None:
    monkeypatch.setattr(ray, "nodes", lambda: cluster)
    with pytest.raises(
        ValueError, match=f"engine.workers={engine.workers}, but .* room for {room}: "
    ):
        connect.choose_device(engine)


def test_a_gpu_asked_for_and_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "nodes", lambda: nodes(LAPTOP))
    with pytest.raises(ValueError, match=r"engine\.device=cuda, but the cluster has no GPU"):
        connect.choose_device(EngineConfig(device="cuda"))


MISTAKE = WorkerError(2, "ValueError: data.path: no", "trace", True)
FOLLOWS = WorkerError(0, "RuntimeError: connection closed by peer", "trace", False)
DEATH = RuntimeError("the actor died\nunexpectedly")


def test_the_first_cause_is_told() -> None:
    assert first_cause({0: FOLLOWS, 1: DEATH, 2: MISTAKE}) is MISTAKE
    assert first_cause({0: FOLLOWS, 1: DEATH}) is DEATH
    assert describe({0: FOLLOWS, 2: MISTAKE}) == "rank 2: ValueError: data.path: no"
    assert "rank 1: its process died" in describe({0: FOLLOWS, 1: DEATH})
    assert "\n" not in describe({1: DEATH})


def test_a_workers_error_travels() -> None:
    again = pickle.loads(pickle.dumps(MISTAKE))
    assert (again.rank, again.summary, again.trace, again.is_final) == MISTAKE.args


def test_what_befell_the_workers_is_in_the_log(tmp_path: Path) -> None:
    failures = Failures(tmp_path, max_failures=1)
    failures.after_exception(None, {0: FOLLOWS, 1: DEATH})
    assert "(0 more restarts)" in (tmp_path / "log.txt").read_text()
    failures.after_exception(None, {1: DEATH})  # the last one is the run's error, not a line
    assert len((tmp_path / "log.txt").read_text().splitlines()) == 1
    with pytest.raises(WorkerError, match="rank 2"):
        failures.after_exception(None, {0: FOLLOWS, 2: MISTAKE})
