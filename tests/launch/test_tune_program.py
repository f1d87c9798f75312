"""The sweeping program: what it refuses before anything starts, and that every config is one."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from distgan.config import load_config
from distgan.data.importers.shapes import Shapes
from distgan.data.shapes.world import ShapesOptions
from distgan.data.shards import WriteOptions, write_dataset
from distgan.methods import CONFIGS
from distgan.settings import load_settings
from distgan.sweeps.checks import check
from distgan.sweeps.journal import Journal
from distgan.sweeps.plan import Sweep, trial_config

ROOT = Path(__file__).resolve().parents[2]
SWEEPS = ROOT / "configs/sweeps"
SHAPES = SWEEPS / "attend_gan/shapes.yaml"


@pytest.fixture(scope="module")
def program() -> ModuleType:
    spec = importlib.util.spec_from_file_location("launch_tune", ROOT / "launch/tune.py")
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


@pytest.mark.parametrize("path", sorted(SWEEPS.glob("*/*.yaml")), ids=lambda path: path.name)
def test_every_sweep_is_one_that_its_runs_take(path: Path) -> None:
    plan = load_settings(path, [], Sweep())
    base = trial_config(load_config(path.parent / plan.config, methods=CONFIGS), plan, {})
    check(plan, base)
    lines = path.read_text().splitlines()
    assert lines[0].startswith("# ") and any("launch/tune.py" in line for line in lines)
    assert base.log.evaluate_every and base.checkpoint.every % base.log.evaluate_every == 0


BAD = {
    "absent.yaml": "absent.yaml does not exist",
    "serch={}": "unknown key serch; did you mean search",
    "search={method.g_steps: {gird: [1]}}": "did you mean search.method.g_steps.grid",
    "search={method.lamda_adversarial: {grid: [1, 2]}}": "lamda_adversarial; did you mean",
    "search={method.g_steps: {grid: [1, 0]}}": "method.g_steps must be at least 1, got 0",
    "search={method.g_steps: {grid: [1, many]}}": "must be a whole number, got 'many'",
    "search={method.g_steps: {grid: null, integer: [1, 4]}}": "needs grid: [...]",
    "searcher=optuna": "searcher=optuna needs trials",
    "scheduler=hyperband": "scheduler must be one of none, asha, pbt, got 'hyperband'",
    "scheduler=pbt": "scheduler=pbt",
    "settings.log.evaluate_every=0": "val/joint needs settings: {log.evaluate_every: N}",
    "settings.data.path=nowhere": "nowhere",
    "objectives=[]": "objectives must be at least one metric",
}


@pytest.mark.parametrize("bad", BAD)
def test_bad_input_is_refused_before_anything_starts(
    program: ModuleType, data: Path, here: Path, bad: str
) -> None:
    words = [str(SHAPES), f"settings.data.path={data}"]
    words = [bad, *words[1:]] if bad.endswith(".yaml") else [*words, bad]
    with pytest.raises(ValueError) as error:
        program.prepare(program.parse(words))
    assert BAD[bad] in str(error.value)
    assert not (here / "runs").exists()


def test_it_is_told_in_one_line(
    program: ModuleType, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert program.main(["absent.yaml"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1


def test_a_folder_remembers_its_sweep(program: ModuleType, data: Path, here: Path) -> None:
    words = [str(SHAPES), f"settings.data.path={data}", "trials=5", "--name", "first"]
    plan, base, folder = program.prepare(program.parse(words))
    assert folder == here / "runs/first" and base.data.path == str(data)
    again = program.prepare(program.parse([str(folder), "--resume", "max_concurrent=1"]))
    assert again[0].max_concurrent == 1 and again[0].search == plan.search
    assert again[1:] == (base, folder)
    Journal(folder).begin(4, {})
    program.prepare(program.parse([str(folder), "--resume", "trials=7"]))
    kept = program.prepare(program.parse([str(folder), "--resume"]))[0]
    assert (kept.trials, kept.max_concurrent) == (7, 1), "what was changed stays changed"
    for words, line in (
        ([str(folder)], "add --resume to continue it"),
        ([str(folder), "--resume", "trials=4"], "trials=4: 5 trials have begun"),
        ([str(folder), "--resume", "seed=3"], "of a sweep that has begun only trials"),
        ([str(SHAPES), "--name", "first"], "name=first is in use"),
        ([str(here), "--resume"], "is no sweep"),
    ):
        given = [*words, *([f"settings.data.path={data}"] if words[0] == str(SHAPES) else [])]
        with pytest.raises(ValueError, match=line):
            program.prepare(program.parse(given))
