"""Damaged samples of a whole run: replaced alike on every rank, named at its end."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from ranks import run_on_ranks
from tiny_captioning import tiny

from distgan.config import Config
from distgan.data.damage import TooManyBadSamples
from distgan.data.dataset import Dataset
from distgan.engine.world import World
from distgan.methods.bad_samples import FILE, METRIC
from distgan.methods.training import train

STAGES = "stages=[factual]"  # its images are decoded by the stream


@pytest.fixture
def damaged(shapes: Path, tmp_path: Path) -> Path:
    """Two images of the training split with a flipped bit."""
    root = tmp_path / "damaged"
    shutil.copytree(shapes, root)
    split = Dataset.open(root).split("train")
    for i in (3, 30):
        extent = split.extent(i)
        data = bytearray((root / extent.name).read_bytes())
        data[extent.offset + extent.size // 2] ^= 4
        (root / extent.name).write_bytes(data)
    return root


def config(root: Path, *more: str) -> Config:
    return tiny(root, STAGES, "method.factual_steps=10", "data.max_bad_samples=4", *more)


def train_in(world: World, config: Config, run: Path) -> dict[str, float]:
    return train(config, run, world, resume=False).metrics


def named(root: Path) -> list[str]:
    split = Dataset.open(root).split("train")
    keys = sorted(split.key(i) for i in (3, 30))
    reason = "its bytes changed (checksum differs)"
    return [f"generator/factual_images: {split.shard(0)}: {key}: {reason}" for key in keys]


def test_a_run_names_them_at_its_end(
    damaged: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    metrics = train_in(World.local(), config(damaged), run)
    assert metrics[METRIC] == 2
    assert (run / FILE).read_text().splitlines() == named(damaged)
    shown = capsys.readouterr().out
    assert f"2 damaged samples were replaced by others; all are named in {run / FILE}" in shown
    assert all(f"  {line}" in shown for line in named(damaged))


def test_a_sound_run_says_nothing(shapes: Path, tmp_path: Path) -> None:
    assert train_in(World.local(), config(shapes), tmp_path / "run")[METRIC] == 0
    assert not (tmp_path / "run" / FILE).exists()


def test_more_than_the_bound_stops_it(damaged: Path, tmp_path: Path) -> None:
    with pytest.raises(TooManyBadSamples, match=r"max_bad_samples=3.*its bytes changed"):
        train_in(World.local(), config(damaged, "data.max_bad_samples=3"), tmp_path / "run")


@pytest.mark.slow
@pytest.mark.parametrize("size", [2, 4])
def test_every_rank_tells_the_same(size: int, damaged: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    alone = train_in(World.local(), config(damaged, "engine.precision=float64"), tmp_path / "alone")
    each = run_on_ranks(size, train_in, config(damaged, "engine.precision=float64"), run)
    assert [metrics[METRIC] for metrics in each] == [2] * size
    assert (run / FILE).read_text().splitlines() == named(damaged)
    for name in ("generator/mle", "generator/attention"):  # the same samples stood in for them
        assert each[0][name] == pytest.approx(alone[name], rel=1e-9)
