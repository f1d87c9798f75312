"""launch/evaluate.py and launch/sample.py on a run of a few rounds."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest
from PIL import Image

from distgan.config import load_config
from distgan.data.importers.shapes import Shapes
from distgan.data.shapes.world import ShapesOptions
from distgan.data.shards import WriteOptions, write_dataset
from distgan.engine.runs import open_run
from distgan.engine.world import World
from distgan.methods import CONFIGS, training

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / "configs/attend_gan/shapes.yaml"
TINY = [
    *("method.factual_steps=2", "method.style_steps=2", "method.critic_steps=2"),
    *("method.rounds=2", "method.batch=8", "method.critic_batch=8", "method.rollouts=2"),
    *("method.generator.hidden=16", "method.generator.embedding=8"),
    *("method.generator.attention=8", "method.critic.hidden=16", "method.critic.embedding=8"),
    *("data.image_size=32", "engine.threads=1", "engine.device=cpu", "name=tiny"),
    *("log.pictures_every=0", "log.tensorboard=false"),
]


def program(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / f"launch/{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight rounds in four stages, on eight test images."""
    home = tmp_path_factory.mktemp("evaluated")
    options = ShapesOptions(
        images=60, size=32, styled=10, lines=60, unlabelled=20, val=8, test=8, unseen=0
    )
    assert write_dataset(Shapes(options), {"name": "shapes"}, home / "shapes", WriteOptions())
    overrides = [*TINY, f"data.path={home}/shapes", f"out={home}"]
    config = load_config(CONFIG, overrides, methods=CONFIGS)
    config, folder = open_run(config, CONFIG, resume=False)
    assert training.train(config, folder, World.local(), resume=False).finished
    return folder


@pytest.fixture(autouse=True)
def no_java(monkeypatch: pytest.MonkeyPatch) -> None:
    """METEOR takes seconds to start and is tested elsewhere."""
    monkeypatch.setenv("PATH", "/nowhere")


def test_stages_and_people_stand_side_by_side(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [str(run), "--checkpoint", "style", "adversarial", "--controls", "--limit", "5"]
    assert program("evaluate").main(words) == 0
    shown = capsys.readouterr().out
    head = "references mean | shuffled references mean | style mean | adversarial mean"
    assert head in shown.splitlines()[0] and "truth_f1" in shown
    columns = json.loads((run / "report.json").read_text())["columns"]
    assert [c["style"] for c in columns] == ["negative", "positive", "mean"] * 4
    assert all(len(c["captions"]) == 5 for c in columns if c["style"] != "mean")
    assert columns[2]["scores"]["truth_f1"] == pytest.approx(1)
    for style in ("negative", "positive"):
        assert Image.open(run / f"pictures/evaluation-{style}.png").width > 500
        assert f"pictures/evaluation-{style}.png" in (run / "report.md").read_text()


@pytest.mark.parametrize("how", [["--greedy"], ["--beam", "2"], ["--temperature", "0.7"]])
def test_the_newest_checkpoint_by_default(
    run: Path, how: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    words = [str(run), *how, "--limit", "3", "--style", "positive", "--split", "val"]
    assert program("evaluate").main(words) == 0
    assert "| tiny positive |" in capsys.readouterr().out


def test_images_are_captioned(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = []
    for n, colour in enumerate(("red", "blue")):
        images.append(str(run / f"{colour}.png"))
        Image.new("RGB", (40 + n, 50), colour).save(images[-1])
    picture = run / "captions.png"
    words = [str(run), *images, "--style", "positive", "--out", str(picture)]
    assert program("sample").main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("\t")[0] for line in lines] == [*images, str(picture)]
    assert Image.open(picture).width > 500


@pytest.mark.parametrize(
    ("name", "words", "message"),
    [
        ("evaluate", ["{run}", "--checkpoint", "nothing"], "--checkpoint nothing: neither a stage"),
        ("evaluate", ["{run}", "--split", "nothing"], "no split 'nothing'"),
        ("evaluate", ["{run}", "--style", "sad"], "style must be one of"),
        ("evaluate", ["{run}", "--limit", "0"], "limit must be at least 1, got 0"),
        ("evaluate", ["{run}", "--beam", "0"], "beam must be at least 1, got 0"),
        ("evaluate", ["{run}", "--temperature", "0"], "temperature must be above 0, got 0"),
        ("evaluate", ["{run}/checkpoints"], "is no run"),
        ("sample", ["{run}", "none.jpg"], "image none.jpg does not exist"),
        ("sample", ["{run}", "{run}/config.yaml"], "config.yaml: undecodable image"),
        ("sample", ["{run}/none", "{run}/config.yaml"], "neither a checkpoint nor a run"),
    ],
)
def test_wrong_input_is_one_line(
    run: Path, name: str, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert program(name).main([word.format(run=run) for word in words]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and message in said and said.count("\n") == 1
