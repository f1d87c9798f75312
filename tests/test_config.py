"""What a user may write, what comes of it, and what each mistake is answered with."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from distgan.config import (
    BackendConfig,
    CheckpointConfig,
    Config,
    DataConfig,
    EngineConfig,
    OptimizerConfig,
    changed,
    load_config,
    save_config,
)
from distgan.settings import require, with_absolute_paths


@dataclass(frozen=True, kw_only=True)
class ToyConfig:
    name: str = "toy"
    g_steps: int = 1
    d_steps: int = 3
    lambda_adversarial: float = 0.5
    critic: Literal["bce", "wasserstein"] = "bce"
    widths: tuple[int, ...] = (8, 16)
    critic_optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)

    def __post_init__(self) -> None:
        require(self.g_steps >= 0, "g_steps", self.g_steps, "at least 0")


METHODS = {"toy": ToyConfig}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "toy.yaml"
    path.write_text("method: {name: toy}\n")
    return path


def load(path: Path, *overrides: str) -> Config:
    return load_config(path, overrides, methods=METHODS)


def test_defaults_base_file_and_overrides_in_that_order(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "root.yaml").write_text(
        "method: {name: toy, g_steps: 2, d_steps: 2, widths: [1, 2, 3]}\nseed: 1\nname: root\n"
    )
    (tmp_path / "base.yaml").write_text("base: root.yaml\nseed: 2\ndata: {image_size: 32}\n")
    path = tmp_path / "deep" / "run.yaml"
    path.write_text("base: ../base.yaml\nmethod: {g_steps: 3}\nname: run\n")
    config = load(path, "name=override", "method.critic_optimizer.lr=1e-3", "stages=[a, b]")
    expected = Config(
        method=ToyConfig(
            g_steps=3, d_steps=2, widths=(1, 2, 3), critic_optimizer=OptimizerConfig(lr=0.001)
        ),
        data=DataConfig(image_size=32),
        seed=2,
        name="override",
        stages=("a", "b"),
    )
    assert config == expected


def test_saved_config_reads_back_equal(file: Path, tmp_path: Path) -> None:
    config = load(
        file,
        'data.path="/data/it\'s here: 1"',
        "method.widths=[]",
        "method.critic_optimizer={clip_norm: 5, schedule: cosine, decay_updates: 10, ema: 0.9}",
        "engine.threads=2",
        'name="2024"',
        'data.style="yes"',
    )
    save_config(config, tmp_path / "saved.yaml")
    again = load(tmp_path / "saved.yaml")
    assert again == config
    assert again.method.critic_optimizer.clip_norm == 5.0
    assert (again.name, again.data.style, again.method.widths) == ("2024", "yes", ())


def test_values_keep_their_meaning(file: Path) -> None:
    config = load(file, "method.lambda_adversarial=1", "name=2024", "init_from=null", "seed=1_000")
    assert type(config.method.lambda_adversarial) is float
    assert (config.name, config.init_from, config.seed) == ("2024", None, 1000)


WRONG = {
    # unknown keys
    "engine.worker=3": "unknown key engine.worker; did you mean engine.workers?",
    "method.d_step=3": "unknown key method.d_step; did you mean method.d_steps",
    "image_size=64": "unknown key image_size; did you mean data.image_size?",
    "clip_norm=1": "unknown key clip_norm; did you mean method.critic_optimizer.clip_norm?",
    "zebra=1": "unknown key zebra; known here: method, data, engine",
    # wrong types
    "engine.workers=two": "engine.workers must be a whole number, got 'two'",
    "engine.workers=2.0": "engine.workers must be a whole number, got 2.0",
    "engine.workers=true": "engine.workers must be a whole number, got True",
    "engine.workers=null": "engine.workers must be a whole number, got None",
    "overfit=some": "overfit must be a whole number or null, got 'some'",
    "method.lambda_adversarial=high": "method.lambda_adversarial must be a number, got 'high'",
    "log.tensorboard=maybe": "log.tensorboard must be true or false, got 'maybe'",
    "data.style=no": "data.style must be text, got False",
    "engine.device=tpu": "engine.device must be one of auto, cpu, cuda, got 'tpu'",
    "engine=3": "engine must be a mapping of keys to values, got 3",
    "seed.x=3": "seed must be a whole number, got {'x': 3}",
    "stages=mle": "stages must be a list, each text, got 'mle'",
    "method.widths=[8, x]": "method.widths[1] must be a whole number, got 'x'",
    "method.critic_optimizer.betas=[0.9]": "betas must be a list of 2, each a number, got [0.9]",
    "data.path=${seed}": "data.path must be a plain value; nothing is filled in for '${seed}'",
    # values out of range
    "seed=-1": "seed must be in [0, 2**32), got -1",
    "name=a/b": "name must be a folder's name, got 'a/b'",
    "name=..": "name must be a folder's name, got '..'",
    "stages=[]": "stages must be named, or null, got ()",
    "checkpoint.every=0": "checkpoint.every must be at least 1, got 0",
    "data.image_size=4": "data.image_size must be at least 16, got 4",
    "engine.threads=0": "engine.threads must be at least 1, or null, got 0",
    "log.pictures_every=-1": "log.pictures_every must be at least 0, got -1",
    "method.g_steps=-1": "method.g_steps must be at least 0, got -1",
    "method.critic_optimizer.lr=0": "method.critic_optimizer.lr must be above 0, got 0.0",
    # values that do not go together
    "method.critic_optimizer.schedule=linear": "schedule=linear needs decay_updates",
    "method.critic_optimizer.decay_updates=9": "decay_updates=9 needs schedule=linear or cosine",
    "method.critic_optimizer.momentum=0.9": "momentum=0.9 is sgd's, but name=adam",
    # not overrides at all
    "workers": "overrides look like key.subkey=value, got 'workers'",
    "--seed=3": "overrides look like key.subkey=value, got '--seed=3'",
    "a..b=3": "overrides look like key.subkey=value, got 'a..b=3'",
    "seed=[": "seed=[: not YAML",
    # the method
    "method.name=tyo": "method.name must be one of toy, got 'tyo'",
    "method=toy": "method.name must be one of toy, got None",
}


@pytest.mark.parametrize("override", WRONG)
def test_a_mistake_is_one_line_that_names_it(file: Path, override: str) -> None:
    with pytest.raises(ValueError) as caught:
        load(file, override)
    assert WRONG[override] in str(caught.value)
    assert "\n" not in str(caught.value)


def test_mistakes_in_files(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    wrong = {
        "base: absent.yaml": f"config file {tmp_path}/absent.yaml does not exist",
        "base: run.yaml": "base: files form a circle",
        "base: [a.yaml, b.yaml]": "base must be one file's name",
        "seed: 1\nseed: 2": "not YAML",
        "- 1": "a config is a mapping of keys to values",
        "just words": "a config is a mapping of keys to values",
        "a: [": "not YAML",
        "": "method.name must be one of toy, got None",
    }
    for text, message in wrong.items():
        path.write_text(text)
        with pytest.raises(ValueError) as caught:
            load(path)
        assert message in str(caught.value), text
        assert "\n" not in str(caught.value), text


def test_python_users_get_the_same_checks() -> None:
    with pytest.raises(ValueError, match="workers must be at least 1, got 0"):
        EngineConfig(workers=0)
    with pytest.raises(ValueError, match="keep must be at least 1, got 0"):
        CheckpointConfig(keep=0)
    with pytest.raises(ValueError, match=r"decay_updates must be above warmup_updates=5, got 5"):
        OptimizerConfig(schedule="linear", warmup_updates=5, decay_updates=5)


def test_paths_become_absolute_and_words_stay(file: Path, tmp_path: Path) -> None:
    (tmp_path / "lines.txt").touch()
    config = with_absolute_paths(
        load(file, "data.path=shapes", "data.styled=s3://bucket/x", "data.style=lines.txt"),
        tmp_path,
    )
    assert config.data.path == str(tmp_path / "shapes")
    assert config.data.styled == "s3://bucket/x"
    assert config.data.style == str(tmp_path / "lines.txt")
    assert (config.out, config.init_from) == (str(tmp_path / "runs"), None)
    assert with_absolute_paths(load(file, "data.style=positive"), tmp_path).data.style == "positive"
    assert with_absolute_paths(config, Path("/elsewhere")) == config


def test_changes_join_what_a_mapping_holds_already(file: Path) -> None:
    config = load(file, "engine.networks={generator: {backend: ddp}}")
    also = changed(config, {"engine.networks.critic.zero": 1, "engine.networks.generator.zero": 2})
    assert also.engine.networks["generator"] == BackendConfig(backend="ddp", zero=2)
    assert also.engine.networks["critic"] == BackendConfig(zero=1)
