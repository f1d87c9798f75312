"""Imports as users do, through the programs: prepare, verify, and two steps of training."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from made_up_samples import picture

from distgan.data.dataset import Dataset

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared" / "data"
CONFIG = ROOT / "configs" / "attend_gan" / "shapes.yaml"
TINY = [
    *("method.factual_steps=2", "method.style_steps=2", "method.critic_steps=2", "method.rounds=2"),
    *("method.batch=2", "method.critic_batch=2", "method.rollouts=1"),
    *("method.generator.hidden=16", "method.generator.embedding=8"),
    *("method.generator.attention=8", "method.critic.hidden=16", "method.critic.embedding=8"),
    *("data.styled_split=train", "data.image_size=32", "engine.threads=1", "engine.device=cpu"),
    *("log.pictures_every=0", "log.tensorboard=false"),
]

KARPATHY_SPLITS = ("train", "train", "restval", "val", "test")

Captured = pytest.CaptureFixture[str]


def needs_shared(folder: str) -> pytest.MarkDecorator:
    """Skips where the real data do not lie beside the repository."""
    return pytest.mark.skipif(not (SHARED / folder).is_dir(), reason=f"no {folder} here")


def program(name: str) -> ModuleType:
    """A program of launch/ as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "launch" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_prepare = program("prepare")


def prepare(*words: object) -> int:
    return _prepare.main([str(word) for word in words])


def prepared(out: Path, *words: object) -> Dataset:
    """The dataset that `prepare.py WORDS --out OUT` makes, after `verify` found it whole."""
    assert prepare(*words, "--out", out, "--jobs", 1) == 0
    assert prepare("verify", out, "--contents") == 0
    return Dataset.open(out)


def refusal(capsys: Captured, out: Path, *words: object) -> str:
    """What `prepare.py WORDS` says when it refuses, having written nothing."""
    capsys.readouterr()
    assert prepare(*words, "--out", out, "--jobs", 1) == 2
    assert not out.exists()
    return capsys.readouterr().err


def train(out: Path, data: Path, *words: object) -> None:
    """Two rounds of each stage asked for, on this dataset."""
    given = [CONFIG, f"data.path={data}", *TINY, f"out={out}", "--name", "run", "--local", *words]
    assert program("train").main([str(word) for word in given]) == 0


def write_images(folder: Path, names: Iterable[str]) -> None:
    """Image files whose colours depend on their place in `names`, for `picture`."""
    for i, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture(i, kind="PNG" if name.endswith(".png") else "JPEG"))


def write_json(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def texts_by_key(dataset: Dataset) -> Mapping[str, dict[str, list[str]]]:
    """By split and key, the captions."""
    splits = [dataset.split(name) for name in dataset.splits]
    return {
        split.name: {split.key(i): [c.text for c in split.captions(i)] for i in range(len(split))}
        for split in splits
    }


def captions_file(path: Path, names: dict[int, str], captions: list[tuple[int, str]]) -> Path:
    """A file as published; annotation ids count from 100."""
    info: dict[str, Any] = {"info": {}, "licenses": [], "type": "captions"}
    images = [{"id": i, "file_name": n, "height": 16, "width": 20} for i, n in names.items()]
    annotations = [
        {"id": 100 + number, "image_id": i, "caption": text}
        for number, (i, text) in enumerate(captions)
    ]
    return write_json(path, {**info, "images": images, "annotations": annotations})


def of_2014(split: str, *numbers: int) -> dict[int, str]:
    return {number: f"COCO_{split}2014_{number:012d}.jpg" for number in numbers}


def tiny_words() -> list[object]:
    """What `prepare.py coco` is told of coco_tiny."""
    folder = SHARED / "coco_tiny"
    return [
        word
        for split in ("train", "val")
        for word in (
            f"--{split}",
            folder / "annotations" / f"captions_{split}2017.json",
            folder / f"{split}2017",
        )
    ]


def karpathy_entry(i: int, split: str, **more: Any) -> dict[str, Any]:
    """An image of Karpathy's files; `more` are filename and, of COCO's, filepath and cocoid."""
    sentences = [
        {"tokens": ["number", str(i)], "raw": f"Number {i}.\n", "imgid": i, "sentid": 2 * i},
        {"tokens": ["a", "thing"], "raw": "A thing", "imgid": i, "sentid": 2 * i + 1},
    ]
    return {
        "imgid": i,
        "split": split,
        "sentids": [2 * i, 2 * i + 1],
        "sentences": sentences,
    } | more


def karpathy_file(path: Path) -> tuple[Path, list[str]]:
    """Five images in all four splits; their names with the folders of 2014."""
    entries, names = [], []
    for i, split in enumerate(KARPATHY_SPLITS):
        folder = "train2014" if split == "train" else "val2014"
        name = f"COCO_{folder}_{i + 10:012d}.jpg"
        entries.append(karpathy_entry(i, split, filepath=folder, filename=name, cocoid=i + 10))
        names.append(f"{folder}/{name}")
    return write_json(path, {"images": entries, "dataset": "coco"}), names
