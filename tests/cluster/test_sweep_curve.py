"""The measures of temperatures are no condition for a sweep's end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ray")

import ray

from distgan.cluster.tune import _keep_curve


@pytest.mark.parametrize("dies", [False, True])
def test_a_measurement_that_dies_is_told(
    dies: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def get(task: Any) -> list[float]:
        if dies:
            raise ray.exceptions.WorkerCrashedError
        return [1.0]

    monkeypatch.setattr(ray, "wait", lambda tasks, timeout: (tasks, []))
    monkeypatch.setattr(ray, "get", get)
    path = tmp_path / "temperatures.json"
    _keep_curve("task", path, lambda: False)
    assert ("temperatures: not measured" in capsys.readouterr().out) == dies
    assert path.exists() != dies and (dies or json.loads(path.read_text()) == [1.0])


def test_a_sweep_that_is_stopped_does_not_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cancelled: list[Any] = []
    monkeypatch.setattr(ray, "wait", lambda tasks, timeout: ([], tasks))
    monkeypatch.setattr(ray, "cancel", cancelled.append)
    _keep_curve("task", tmp_path / "temperatures.json", lambda: True)
    assert cancelled == ["task"] and not list(tmp_path.iterdir())
