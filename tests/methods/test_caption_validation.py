"""Measuring a captioner while it trains: right numbers, and no trace in the training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from ranks import run_on_ranks
from tiny_captioning import same_bits, tiny

from distgan.data.shapes import truth
from distgan.engine.checkpoint import find, graft, load
from distgan.engine.world import World
from distgan.methods.attend_gan import AttendGAN
from distgan.methods.captioning import load as load_captioner
from distgan.methods.training import check, evaluate, plan, train

LOCAL = World.local()
SAMPLES = ("log.evaluate_samples=5",)


def lines(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def learned(run: Path) -> dict[str, Any]:
    state = load(find(run))
    return {name: state[name] for name in ("progress", "learners", "streams", "extra")}


def test_evaluation_changes_no_bit_and_is_logged_when_due(shapes: Path, tmp_path: Path) -> None:
    dropping = ("method.generator.dropout=0.3", "method.critic.dropout=0.3")
    for name, every in (("without", 0), ("with", 3)):
        config = tiny(shapes, *dropping, *SAMPLES, f"log.evaluate_every={every}", "log.every=5")
        train(config, tmp_path / name, LOCAL, resume=False)
    assert same_bits(learned(tmp_path / "without"), learned(tmp_path / "with"))
    rounds = [line["round"] for line in lines(tmp_path / "with") if "val/joint" in line]
    assert rounds == [2, 3, 4, 6, 8]  # every three, and at the ends of the four stages
    assert not any("val/joint" in line for line in lines(tmp_path / "without"))


def test_the_numbers_are_those_of_the_captions(shapes: Path, tmp_path: Path) -> None:
    config = tiny(shapes, *SAMPLES, "log.evaluate_every=100")
    train(config, tmp_path, LOCAL, resume=False)
    captioner = load_captioner(tmp_path)
    method = AttendGAN(config, LOCAL)
    expected = []
    for style in captioner.asked:
        split = method.corpora.styled.split("val")
        rows = range(5)
        images = torch.stack([split.image(row, 32) for row in rows])
        said = captioner.caption(images, style=style)
        expected.append(truth.score(said, [split.facts(r)["scene"] for r in rows], [style] * 5))
    logged = lines(tmp_path)[-1]
    for name in ("truth_f1", "joint", "style"):
        mean = sum(each[name] for each in expected) / len(expected)
        assert logged[f"val/{name}"] == pytest.approx(mean)
    again = evaluate(config, find(tmp_path), LOCAL)
    assert again == {k: v for k, v in logged.items() if k.startswith("val/")}
    assert again.keys() >= {"val/CIDEr", "val/sampled_distinct_2", "val/sampled_joint"}


def test_temperature_is_how_boldly_it_samples(shapes: Path, tmp_path: Path) -> None:
    config = tiny(shapes, *SAMPLES)
    train(config, tmp_path, LOCAL, resume=False)
    cold, hot = (evaluate(config, find(tmp_path), LOCAL, temperature=t) for t in (0.01, 3.0))
    assert cold["val/truth_f1"] == hot["val/truth_f1"]  # greedy
    assert cold["val/sampled_distinct_2"] < hot["val/sampled_distinct_2"]
    assert cold["val/sampled_truth_f1"] == pytest.approx(cold["val/truth_f1"])


def measure(world: World, data: Path) -> dict[str, float]:
    config = tiny(data, *SAMPLES, "engine.precision=float64")
    torch.manual_seed(3)
    method = AttendGAN(config, world)
    method.generator.to(torch.float64).eval()
    return method.evaluate()


def test_ranks_share_the_work_and_agree(shapes: Path) -> None:
    alone = measure(LOCAL, shapes)
    assert all(found == alone for found in run_on_ranks(2, measure, shapes))


def test_a_dataset_without_held_out_images_is_refused_before_anything_starts(
    shapes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("distgan.methods.caption_validation.SPLIT", "dev")
    check(tiny(shapes), 1)
    with pytest.raises(ValueError, match=r"log.evaluate_every needs a split 'dev'; .* has train"):
        check(tiny(shapes, "log.evaluate_every=2"), 1)


def test_until_stops_and_a_graft_goes_on_in_the_same_bits(shapes: Path, tmp_path: Path) -> None:
    """A run cut after the critic's stage and grafted into another folder is the whole run."""
    config = tiny(shapes, "method.generator.dropout=0.3")
    assert [stage.name for stage in plan(config)][-1] == "adversarial"
    assert train(config, tmp_path / "whole", LOCAL, resume=False).finished
    assert not train(config, tmp_path / "warm", LOCAL, resume=False, until=6).finished
    for _ in range(2):
        place = graft(find(tmp_path / "warm"), tmp_path / "trial")
    assert place.name == "step-00000006-a000"
    assert train(config, tmp_path / "trial", LOCAL, resume=True).finished
    assert same_bits(learned(tmp_path / "trial"), learned(tmp_path / "whole"))
