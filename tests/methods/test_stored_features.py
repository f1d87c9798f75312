"""Training on feature shards is training on images with the same frozen encoder."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import torch
from tiny_captioning import play_config, same_bits, tiny

from distgan.data.dataset import Dataset
from distgan.data.feature_manifest import Dtype, Recipe
from distgan.data.feature_writing import FeaturePiece, write_features
from distgan.engine.world import World
from distgan.methods.attend_gan import AttendGAN
from distgan.methods.captioning import load
from distgan.methods.feature_making import EncoderFile, Maker, recipe_of
from distgan.methods.training import check, train
from distgan.models.encoders import ShapesCNN

PREPARE = Path(__file__).resolve().parents[2] / "launch/prepare.py"
FROZEN = ("method.encoder.learns=false", "method.batch=6")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(1)
    path = tmp_path_factory.mktemp("weights") / "shapes_cnn.pt"
    torch.save(ShapesCNN().state_dict(), path)
    return path


def made(data: Path, weights: Path, dtype: Dtype, out: Path) -> Path:
    """Features of all splits, made in this process as others make them."""
    dataset = Dataset.open(data)
    file, cpu = EncoderFile("shapes_cnn", str(weights)), torch.device("cpu")
    sizes = {"image_size": 32, "dtype": dtype, "shard_rows": 64}
    recipe = recipe_of(file.build(cpu), "shapes_cnn", dataset, **sizes)
    maker = Maker(file, str(data), recipe, cpu)

    def write(folder: Path, _: Recipe, pieces: Sequence[FeaturePiece]) -> Iterator[FeaturePiece]:
        for piece in pieces:
            maker.write(folder, piece)
            yield piece

    assert write_features(dataset, out, recipe, dataset.splits, write)
    return out


def test_float32_features_train_to_the_same_bits(
    shapes: Path, weights: Path, tmp_path: Path
) -> None:
    settings = (*FROZEN, f"method.encoder.weights={weights}")
    out = made(shapes, weights, "float32", tmp_path / "features")
    live = play_config(World.local(), tiny(shapes, *settings))
    read = play_config(World.local(), tiny(shapes, *settings, f"data.features={out}"))
    assert len(live.trace.drawn) == len(read.trace.drawn) > 0
    assert all(map(torch.equal, live.trace.drawn, read.trace.drawn))
    assert all(map(torch.equal, live.earned, read.earned))
    assert live.facts == read.facts
    assert same_bits(live.trace.end, read.trace.end)


def test_bfloat16_features_differ_by_rounding_alone(
    shapes: Path, weights: Path, tmp_path: Path
) -> None:
    settings = (*FROZEN, f"method.encoder.weights={weights}")
    out = made(shapes, weights, "bfloat16", tmp_path / "features")
    live = AttendGAN(tiny(shapes, *settings), World.local())
    read = AttendGAN(tiny(shapes, *settings, f"data.features={out}"), World.local())
    ids = torch.arange(6)
    exact, rounded = (m.corpora.regions("styled", ids) for m in (live, read))
    assert rounded.dtype == exact.dtype == torch.float32
    assert ((rounded - exact).abs() <= exact.abs() / 256).all() and not rounded.equal(exact)
    assert read.identity()["data"] != live.identity()["data"]


def test_a_run_on_features_is_evaluated_like_any_other(
    shapes: Path, weights: Path, tmp_path: Path
) -> None:
    out = made(shapes, weights, "float32", shapes / "features/mine")
    settings = (*FROZEN, f"method.encoder.weights={weights}", "data.features=mine")
    config = tiny(shapes, *settings)
    check(config, workers=1)
    assert train(config, tmp_path / "run", World.local(), resume=False).finished
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    assert len(load(tmp_path / "run").caption(images)) == 2
    assert out.is_dir()


def test_features_of_something_else_are_refused(
    shapes: Path, plain: Path, weights: Path, tmp_path: Path
) -> None:
    out = made(shapes, weights, "float32", tmp_path / "features")
    given = f"data.features={out}"
    ours = (*FROZEN, f"method.encoder.weights={weights}", given)
    other = tmp_path / "other.pt"
    torch.save(ShapesCNN().state_dict(), other)
    refused = {
        ("method.encoder.learns=true", given): "learns=true trains the encoder, which needs",
        (*ours, f"method.encoder.weights={other}"): r"features of weights \w+, not \w+ as in",
        (*ours, "data.image_size=48"): "features of image_size 32, not 48 as in",
        (*ours, "data.features=nothing"): "data.features=nothing: there are no features at",
        (*ours, f"data.mix=[{{path: {plain}}}]"): "was made from another dataset",
    }
    for settings, message in refused.items():
        with pytest.raises(ValueError, match=message):
            check(tiny(shapes, *settings), workers=1)


def test_an_encoder_from_another_run_is_noticed(
    shapes: Path, weights: Path, tmp_path: Path
) -> None:
    out = made(shapes, weights, "float32", tmp_path / "features")
    settings = (*FROZEN, f"method.encoder.weights={weights}", f"data.features={out}")
    method = AttendGAN(tiny(shapes, *settings), World.local())
    with torch.no_grad():
        next(method.generator.encoder.parameters()).add_(1)
    with pytest.raises(ValueError, match="the encoder has got other weights"):
        method.corpora.regions("styled", torch.arange(2))


@pytest.mark.slow
def test_the_command_makes_the_same_bytes_with_any_number_of_processes(
    shapes: Path, weights: Path, tmp_path: Path
) -> None:
    made(shapes, weights, "bfloat16", tmp_path / "expected")
    expected = {path.name: path.read_bytes() for path in (tmp_path / "expected").iterdir()}
    options = ["--encoder", "shapes_cnn", "--weights", weights, "--image-size", "32"]
    options += ["--shard-rows", "64", "--device", "cpu"]
    for jobs in (1, 2):
        out = tmp_path / f"jobs{jobs}"
        command = [sys.executable, PREPARE, "features", shapes, *options, "--jobs", str(jobs)]
        done = subprocess.run(
            [*command, "--out", out], check=True, capture_output=True, text=True, cwd=tmp_path
        )
        assert f"made: {out}" in done.stdout and f"data.features={out}" in done.stdout
        assert {path.name: path.read_bytes() for path in out.iterdir()} == expected


def test_a_damaged_row_within_the_bound_is_named_and_the_run_goes_on(
    shapes: Path, weights: Path, tmp_path: Path
) -> None:
    out = made(shapes, weights, "float32", tmp_path / "features")
    settings = (*FROZEN, f"method.encoder.weights={weights}", f"data.features={out}")
    split = AttendGAN(tiny(shapes, *settings), World.local()).corpora.album("styled").splits[0]
    path = sorted(out.glob(f"{split.name}-*.safetensors"))[0]
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    method = AttendGAN(tiny(shapes, *settings, "data.max_bad_samples=1"), World.local())
    last = min(len(split), 64) - 1  # of the first shard
    assert not method.corpora.regions("styled", torch.tensor([last])).any()
    assert ["its features changed" in what for what in method.bad_samples()] == [True]
    path.write_bytes(data[:-4])
    method = AttendGAN(tiny(shapes, *settings, "data.max_bad_samples=1"), World.local())
    assert not method.corpora.regions("styled", torch.tensor([last])).any()
    with pytest.raises(ValueError, match="bytes instead of"):
        AttendGAN(tiny(shapes, *settings), World.local())
