"""Runs of ATTEND-GAN through the trainer: stages, starts, pictures, and what they learn."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_captioning import CLIPPED, TEXT_CRITIC, build, same_bits, tiny
from torch import Tensor

import distgan
from distgan.data.dataset import Dataset, Split
from distgan.engine import checkpoint
from distgan.engine.world import World
from distgan.losses import word_log_probs
from distgan.methods.attend_gan import AttendGAN
from distgan.methods.captioning import Captioner
from distgan.methods.training import Outcome, train

pytestmark = pytest.mark.xdist_group("attend gan runs")  # they share one trained captioner

STAGES = ("factual", "style", "critic", "adversarial")
ROUND_ENDS = (2, 4, 6, 8)


def run(folder: Path, data: Path, *overrides: str) -> Outcome:
    return train(tiny(data, *overrides), folder, World.local(), resume=False)


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def state(folder: Path) -> dict[str, Any]:
    return checkpoint.load(checkpoint.find(folder))


@pytest.fixture(scope="module")
def trained(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run through all stages, with pictures at the end of each."""
    folder = tmp_path_factory.mktemp("runs") / "first"
    given = ("log.pictures_every=100", "method.pool=10", "method.generator.optimizer.ema=0.5")
    assert run(folder, shapes, *given).finished
    return folder


@pytest.fixture(scope="module")
def captioner(trained: Path) -> Captioner:
    return distgan.load(trained)


@pytest.fixture(scope="module")
def val(shapes: Path) -> Split:
    return Dataset.open(shapes).split("val")


@pytest.fixture(scope="module")
def images(val: Split) -> Tensor:
    return torch.stack([val.image(i, 32) for i in range(len(val))])


def test_all_stages_are_played_and_logged(trained):
    logged = lines(trained)
    assert [line["stage"] for line in logged] == [s for s in STAGES for _ in range(2)]
    assert all(
        v is not None and math.isfinite(v)
        for line in logged
        for v in line.values()
        if isinstance(v, float)
    )
    last = logged[-1]
    for name in (
        "generator/mle",
        "generator/attention",
        "generator/policy",
        "generator/entropy",
        "generator/q_first",
        "generator/q_middle",
        "generator/q_last",
        "generator/reward",
        "generator/advantage_std",
        "generator/length",
        "generator/distinct_2",
        "generator/endless",
        "generator/policy_gradient_ratio",
        "discriminator/critic_gap",
        "discriminator/critic_auc",
        "discriminator/match_auc",
    ):
        assert name in last, name
    ratio = math.sqrt(last["generator/policy_push"] / last["generator/mle_push"])
    assert last["generator/policy_gradient_ratio"] == pytest.approx(ratio)


def test_pictures_are_drawn_at_the_end_of_each_stage(trained):
    found = {path.name for path in (trained / "pictures").iterdir()}
    assert found == {
        f"{kind}-{style}-{step:07d}.png"
        for style in ("positive", "negative")
        for kind, steps in (("captions", ROUND_ENDS), ("rewards", ROUND_ENDS[2:]))
        for step in steps
    }


def test_pictures_change_nothing(shapes, tmp_path):
    """Not even where the first stage draws the images that later ones learn from."""
    ends = []
    for every in (0, 1):
        given = ("method.images=val", f"log.pictures_every={every}", "data.style=positive")
        steps = {"factual_steps": 2, "style_steps": 0, "critic_steps": 0, "rounds": 1}
        short = [f"method.{name}={count}" for name, count in steps.items()]
        run(tmp_path / str(every), shapes, *given, *short)
        ends.append(state(tmp_path / str(every)))
    assert same_bits(ends[0]["learners"], ends[1]["learners"])


def test_only_the_stages_asked_for_are_played(shapes, tmp_path):
    outcome = run(tmp_path, shapes, "stages=[style,factual]")
    assert outcome.finished
    assert [line["stage"] for line in lines(tmp_path)] == ["factual"] * 2 + ["style"] * 2
    found = state(tmp_path)
    assert found["identity"]["stages"] == ["factual: 2", "style: 2"]
    assert found["learners"]["discriminator"]["updates"] == 0
    assert set(found["streams"]) >= {"generator/styled", "discriminator/images"}


def starting_weights(shapes: Path, tmp_path: Path, *overrides: str) -> dict[str, Any]:
    """The weights that a run begins with: each network's after a stage of the other's."""
    found = {}
    for stage, name in (("critic", "generator"), ("style", "discriminator")):
        folder = tmp_path / stage
        run(folder, shapes, f"stages=[{stage}]", f"method.{stage}_steps=1", *overrides)
        found[name] = state(folder)["learners"][name]["network"]
    return found


def test_a_run_starts_from_anothers_weights(shapes, trained, tmp_path):
    donor = {name: learner["network"] for name, learner in state(trained)["learners"].items()}
    fresh = starting_weights(shapes, tmp_path / "none")
    assert same_bits(starting_weights(shapes, tmp_path / "both", f"init_from={trained}"), donor)
    only = "init_networks=[generator]"
    one = starting_weights(shapes, tmp_path / "one", f"init_from={trained}", only)
    assert same_bits(one["generator"], donor["generator"])
    assert same_bits(one["discriminator"], fresh["discriminator"])
    assert not same_bits(fresh["generator"], donor["generator"])
    at = f"init_from={checkpoint.find(trained)}"
    assert same_bits(starting_weights(shapes, tmp_path / "at", at), donor)


def test_a_start_that_does_not_fit_is_said(shapes, plain, trained, tmp_path):
    with pytest.raises(ValueError, match=r"init_from=\S+: its vocabulary is not this run's"):
        run(tmp_path, plain, f"data.styled={shapes}", f"init_from={trained}")
    with pytest.raises(ValueError, match=r"init_from=\S+: generator does not fit"):
        run(tmp_path, shapes, f"init_from={trained}", "method.generator.hidden=20")
    with pytest.raises(ValueError, match="init_networks: no network 'critic'"):
        run(tmp_path, shapes, f"init_from={trained}", "init_networks=[critic]")


def test_the_first_numbers_and_the_pool_come_back(trained, shapes):
    """Health is judged against the first adversarial round, also after a resume."""
    saved = state(trained)["extra"]
    assert saved["first_numbers"]["generator/entropy"] > 0
    assert len(saved["pool"]["image"]) == 10
    method, *_ = build(World.local(), tiny(shapes, "method.pool=10"), AttendGAN)
    method.load_state_dict(saved)
    assert same_bits(method.state_dict(), saved)
    now = {"generator/policy": 1.0, "generator/entropy": 1e-3}
    _, remarks = method.interpret(now)
    assert any("entropy fell from" in line for line in remarks)


def test_a_style_from_a_text_file(shapes, tmp_path):
    text = tmp_path / "grand.txt"
    text.write_text("a most splendiferous circle\nbehold the magnificent square\n" * 3)
    for name, critic in (("separate", ()), ("text", (*TEXT_CRITIC, *CLIPPED))):
        folder = tmp_path / name
        given = (f"data.style={text}", "method.text_weight=1")
        assert run(folder, shapes, *given, *critic).finished
        assert "generator/text" in state(folder)["streams"]
        assert "generator/styled" not in state(folder)["streams"]
        loaded = distgan.load(folder)
        assert loaded.asked == ("grand",)
        assert "splendiferous" in loaded.vocabulary.words
        image = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
        assert loaded.caption(image) == loaded.caption(image, style="grand")


def test_one_style_alone_is_not_told(shapes, tmp_path):
    method, *_ = build(World.local(), tiny(shapes, "data.style=positive"))
    assert method.captioner.num_styles == 3, "factual captions are mixed in"
    given = ("data.style=positive", "method.factual_weight=0")
    method, _, stages = build(World.local(), tiny(shapes, *given))
    assert method.captioner.num_styles == 0 and method.captioner.styles is None
    assert stages[1].updates[0].data == ("generator/styled", "generator/text")
    run(tmp_path, shapes, *given, "method.rounds=1")
    loaded, image = distgan.load(tmp_path), torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
    assert loaded.caption(image) == loaded.caption(image, style="positive")
    with pytest.raises(ValueError, match="style must be positive, got 'negative'"):
        loaded.caption(image, style="negative")


def test_captions_of_tensors_and_of_files_are_the_same(captioner, images, val, tmp_path):
    files = [tmp_path / f"{i}.jpg" for i in range(len(val))]
    for i, file in enumerate(files):
        file.write_bytes(val.image_bytes(i))
    for style in (None, "positive", "negative", "factual"):
        said = captioner.caption(images, style)
        assert len(said) == 8 and all(isinstance(text, str) for text in said)
        assert captioner.caption(files, style) == said
        assert captioner.caption([str(file) for file in files], style) == said
    assert captioner.caption(images) == captioner.caption(images, captioner.asked[0])


def test_the_averaged_weights_write_the_captions(trained, captioner):
    learner = state(trained)["learners"]["generator"]
    assert same_bits(dict(captioner.generator.state_dict()), dict(learner["average"]))
    assert not same_bits(learner["average"], learner["network"])


def test_ways_of_decoding(captioner, images):
    greedy = captioner.caption(images)
    assert captioner.caption(images, decode="beam", beam=1) == greedy
    assert captioner.caption(images, decode="sample", temperature=1e-4) == greedy
    sampled = captioner.caption(images, decode="sample", seed=1)
    assert captioner.caption(images, decode="sample", seed=1) == sampled
    assert captioner.caption(images, decode="sample", seed=2) != sampled
    regions = captioner.see(images)

    def likelihood(words: Tensor) -> Tensor:
        told = torch.full((8,), captioner.styles.index(captioner.asked[0]))
        logits, _ = captioner.generator.captioner(regions, words, told)
        return word_log_probs(logits, words).sum(1)

    best = captioner.write(regions, None, "beam", size=8)
    assert likelihood(best).mean() >= likelihood(captioner.write(regions, None)).mean() - 1e-5


def test_what_a_captioner_cannot_do_is_said(captioner, images):
    with pytest.raises(ValueError, match="style must be one of negative, positive, factual, got"):
        captioner.caption(images, "angry")
    with pytest.raises(ValueError, match="decode must be greedy, sample or beam, got 'nucleus'"):
        captioner.caption(images, decode="nucleus")
    with pytest.raises(ValueError, match="neither a checkpoint nor a run"):
        distgan.load("/nowhere")


def test_where_each_word_looked(captioner, images):
    regions = captioner.see(images)
    words = captioner.write(regions, "positive")
    attention = captioner.attend(regions, "positive", words)
    assert attention.shape == (8, 12, 49)
    torch.testing.assert_close(attention.sum(-1), torch.ones(words.shape))


@pytest.mark.slow
def test_it_learns(shapes, tmp_path):
    """Eight captions are learned by heart, in each of the first two stages, and said again."""
    given = (
        "overfit=8",
        "data.style=positive",
        "method.generator.hidden=64",
        "method.generator.max_length=16",
        "method.factual_weight=0",
        "method.text_weight=0",
        "method.lambda_attention=0",
        "method.factual_steps=150",
        "method.style_steps=200",
        "method.batch=8",
        "stages=[factual,style]",
        "log.every=10",
        "checkpoint.every=1000",
        "engine.check_ranks_every=1000",
    )
    run(tmp_path, shapes, *given)
    logged = lines(tmp_path)
    by_stage = {s: [x["generator/mle"] for x in logged if x["stage"] == s] for s in STAGES[:2]}
    assert by_stage["factual"][0] > 10
    assert by_stage["factual"][-1] < 2, "images have two captions each, ln 2 apart at the least"
    assert by_stage["style"][-1] < 0.2
    split = Dataset.open(shapes).split("styled")
    own = [i for i in range(len(split)) if split.captions(i)[0].style == "positive"][:8]
    said = distgan.load(tmp_path).caption(torch.stack([split.image(i, 32) for i in own]))
    written = [split.captions(i)[0].text for i in own]
    assert sum(one == other for one, other in zip(said, written, strict=True)) >= 6
