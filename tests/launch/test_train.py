"""launch/train.py as people use it: with --local, stopped, killed, resumed, given bad input."""

from __future__ import annotations

import importlib.util
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from distgan.data.importers.shapes import Shapes
from distgan.data.shapes.world import ShapesOptions
from distgan.data.shards import WriteOptions, write_dataset
from distgan.engine import checkpoint

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = ROOT / "launch/train.py"
CONFIG = ROOT / "configs/attend_gan/shapes.yaml"
PATIENCE = 900  # seconds; machines are busy at times
TINY = [
    *("method.factual_steps=4", "method.style_steps=4", "method.critic_steps=4"),
    *("method.rounds=6", "method.batch=8", "method.critic_batch=8", "method.rollouts=2"),
    *("method.generator.hidden=16", "method.generator.embedding=8"),
    *("method.generator.attention=8", "method.critic.hidden=16", "method.critic.embedding=8"),
    *("data.image_size=32", "engine.threads=1", "engine.device=cpu", "checkpoint.every=3"),
    *("log.every=1", "log.pictures_every=0", "log.tensorboard=false"),
]
"""Eighteen rounds in four stages."""


@pytest.fixture(scope="module")
def program() -> ModuleType:
    spec = importlib.util.spec_from_file_location("launch_train", PROGRAM)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    options = ShapesOptions(
        images=60, size=32, styled=10, lines=60, unlabelled=20, val=8, test=8, unseen=0
    )
    out = tmp_path_factory.mktemp("data") / "shapes"
    assert write_dataset(Shapes(options), {"name": "shapes"}, out, WriteOptions())
    return out


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


Words = Callable[..., list[str]]


@pytest.fixture
def words(data: Path) -> Words:
    return lambda *more: [str(CONFIG), f"data.path={data}", *TINY, "--local", *more]


def start(words: list[str], here: Path) -> subprocess.Popen[str]:
    """Start the program in a fresh interpreter that has neither ray nor deepspeed."""
    block = "import runpy, sys; sys.modules['ray'] = sys.modules['deepspeed'] = None; "
    run = f"sys.argv = {[str(PROGRAM), *words]!r}; runpy.run_path(sys.argv[0], run_name='__main__')"
    return subprocess.Popen(
        [sys.executable, "-c", block + run],
        cwd=here,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_for_round(run: Path, round: int, process: subprocess.Popen[str]) -> None:
    path, deadline = run / "metrics.jsonl", time.monotonic() + PATIENCE
    while not (path.exists() and f'"round": {round},' in path.read_text()):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.01)


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


@pytest.fixture(scope="module")
def uninterrupted(
    program: ModuleType, data: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    out = tmp_path_factory.mktemp("uninterrupted")
    words = [str(CONFIG), f"data.path={data}", *TINY, f"out={out}", "--name", "whole", "--local"]
    assert program.main(words) == 0
    return final_state(out / "whole")


@pytest.mark.slow
def test_interrupted_runs_end_as_the_uninterrupted(
    words: Words, uninterrupted: dict[str, Any], here: Path
) -> None:
    """Ctrl-C in the second stage, SIGTERM in the third, SIGKILL in the fourth; no ray anywhere."""
    run = here / "runs/first"
    process = start(words("--name", "first"), here)
    wait_for_round(run, 5, process)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130, said
    assert "stopping after this round" in said
    again = shlex.split(said.rsplit("go on with: python launch/train.py ", 1)[1])
    assert again == [str(run), "--resume", "--local"]

    process = start(again, here)
    wait_for_round(run, 9, process)
    process.terminate()
    said, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 143, said

    process = start(words("--name", "first", "--resume"), here)
    wait_for_round(run, 14, process)
    process.kill()
    process.communicate()

    process = start(again, here)
    said, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, said
    assert f"finished: {run}" in said
    assert same_bits(final_state(run), uninterrupted)


@pytest.mark.slow
def test_a_second_ctrl_c_ends_it_at_once(words: Words, here: Path) -> None:
    process = start(words("--name", "first", "method.batch=60"), here)
    wait_for_round(here / "runs/first", 1, process)
    process.send_signal(signal.SIGSTOP)  # both signals wait for it: no round passes in between
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGCONT)
    process.communicate(timeout=PATIENCE)
    assert process.returncode in (-signal.SIGINT, -signal.SIGTERM)


def test_a_run_ends_and_its_name_is_taken(
    program: ModuleType, words: Words, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert program.main(words("--name", "first")) == 0
    run = here / "runs/first"
    assert f"finished: {run}" in capsys.readouterr().out
    assert len((run / "metrics.jsonl").read_text().splitlines()) == 18

    assert program.main(words("--name", "first")) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: name=first is in use") and "--resume" in said

    assert program.main([str(run), "--local"]) == 2
    assert "add --resume to continue it" in capsys.readouterr().err

    assert program.main(words("--resume")) == 2
    assert "which run? Add --name NAME" in capsys.readouterr().err

    assert program.main(["--name", "first", "--resume", "--local"]) == 0  # nothing is left to do


def test_names_are_made_and_differ(program: ModuleType, words: Words, here: Path) -> None:
    for _ in range(2):
        assert program.main(words("stages=[factual]", "method.factual_steps=1")) == 0
    names = [path.name for path in (here / "runs").iterdir()]
    assert len(names) == 2 and all(name.startswith("shapes-") for name in names)


BAD = {
    "absent.yaml": "absent.yaml does not exist: neither a config file nor a run's folder",
    "method.g_step=1": "unknown key method.g_step; did you mean method.g_steps",
    "engine.accumulate=none": "engine.accumulate must be a whole number, got 'none'",
    "data.path=nowhere": "nowhere",
    "data.path=": "data.path",
    "data.style=ironic": "ironic",
    "stages=[pretrain]": "stages: 'pretrain' is not one of factual, style, critic, adversarial",
    "init_from=nowhere": "nowhere",
    "engine.accumulate=9": "too small for engine.workers=1 x engine.accumulate=9",
    "out=/proc/none": "out=/proc/none: cannot make /proc/none",
}
if not torch.cuda.is_available():
    BAD["engine.device=cuda"] = "engine.device=cuda, but this machine has no usable GPU"


@pytest.mark.parametrize("bad", BAD)
def test_bad_input_is_one_line_before_anything_starts(
    program: ModuleType,
    words: Words,
    here: Path,
    capsys: pytest.CaptureFixture[str],
    bad: str,
) -> None:
    given = [bad, *words()[1:]] if bad.endswith(".yaml") else words(bad)
    assert program.main(given) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and BAD[bad] in said
    assert said.count("\n") == 1
    assert not (here / "runs").exists()
