"""ATTEND-GAN with a GRU or GPT-2 in the LSTM's place: every stage, and every use of the result."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from ranks import run_on_ranks
from test_attend_gan_parity import differences
from test_attend_gan_resume import KILLED, ended_alike, play
from test_byte_pair_captioner import byte_pair_files
from tiny_captioning import play_config, play_configs, tiny
from transformers import GPT2Config, GPT2LMHeadModel

import distgan
from distgan.engine.checkpoint import find, load
from distgan.engine.world import World
from distgan.methods.training import check, train
from distgan.models.decoder import END, START
from distgan.models.gpt2_captioner import GPT2Captioner
from distgan.models.gru_captioner import GRUCaptioner

SMALL = {"layers": 2, "heads": 2, "width": 16, "prefix": 3}
PAPERS = {"embedding": 300, "hidden": 512, "attention": 512, "style_size": 64}  # not GPT-2's
GPT2 = (
    "method.generator.network=gpt2",
    *(f"method.generator.gpt2.{name}={value}" for name, value in SMALL.items()),
    *(f"method.generator.{name}={value}" for name, value in PAPERS.items()),
    "method.lambda_attention=0",
)
NETWORKS = {
    "gru": ("method.generator.network=attention_gru",),
    "gpt2": GPT2,
    "gpt2-attending": (*GPT2, "method.generator.gpt2.mapper=attention"),
}
DROPPING = (
    "method.generator.dropout=0.3",
    "method.pool=20",
    *(f"method.{name}=3" for name in ("factual_steps", "style_steps", "critic_steps", "rounds")),
    "checkpoint.every=2",
)


@pytest.fixture(scope="module", params=["gru", "gpt2"])
def trained(request: pytest.FixtureRequest, shapes: Path, tmp_path_factory) -> tuple[str, Path]:
    folder = tmp_path_factory.mktemp(request.param)
    short = ("style_steps=0", "critic_steps=0", "factual_steps=1", "rounds=1")
    given = ("data.style=positive", "log.pictures_every=10", *(f"method.{word}" for word in short))
    config = tiny(shapes, *NETWORKS[request.param], *given)
    assert train(config, folder, World.local(), resume=False).finished
    return request.param, folder


def test_a_run_writes_captions_in_every_way(trained: tuple[str, Path]) -> None:
    name, folder = trained
    captioner = distgan.load(folder)
    kind = GRUCaptioner if name == "gru" else GPT2Captioner
    assert type(captioner.generator.captioner) is kind
    images = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8)
    for decode in ("greedy", "sample", "beam"):
        said = captioner.caption(images, "positive", decode)
        assert said == captioner.caption(images, "positive", decode)
        assert len(said) == 3 and all(isinstance(caption, str) for caption in said)
    nats, others, words = captioner.surprise(images, ["a red star"] * 3, "negative")
    assert words == 12 and nats > 0 and others > 0


def test_where_words_looked_or_that_none_did(trained: tuple[str, Path]) -> None:
    name, folder = trained
    captioner = distgan.load(folder)
    regions, words = torch.randn(2, 49, 128), torch.full((2, 12), 4)
    assert captioner.attends == (name == "gru")
    if name == "gru":
        assert captioner.attend(regions, "positive", words).shape == (2, 12, 49)
    else:
        with pytest.raises(ValueError, match="network=gpt2 attends to no regions"):
            captioner.attend(regions, "positive", words)
    drawn = {path.name.partition("-")[0] for path in (folder / "pictures").iterdir()}
    assert drawn == {"captions", "rewards"}


@pytest.mark.parametrize("name", list(NETWORKS))
def test_every_stage_moves_the_captioner(name: str, shapes: Path) -> None:
    trace = play_config(World.local(), tiny(shapes, *NETWORKS[name])).trace
    for network, end in trace.end.items():
        still = [key for key, value in end.items() if value.equal(trace.start[network][key])]
        assert still == [], network


CONTRADICTIONS = {
    "method.generator.gpt2.layers=3": "gpt2=.*layers=3.* has no part in .*network=attention_lstm",
    "method.generator.network=gpt2": "method.generator.embedding=8 has no part in .*network=gpt2",
    "method.generator.network=transformer": "network must be one of attention_lstm, attention_gru",
}
GPT2_CONTRADICTIONS = {
    "method.lambda_attention=0.5": "method.lambda_attention=0.5 needs a generator that attends",
    "method.generator.gpt2.heads=3": r"gpt2.width=16 must be a multiple of heads=3",
    "method.generator.gpt2.prefix=0": "method.generator.gpt2.prefix must be at least 1, got 0",
    "method.generator.hidden=16": "method.generator.hidden=16 has no part in .*network=gpt2",
}


@pytest.mark.parametrize("word", CONTRADICTIONS)
def test_a_network_that_contradicts_its_settings(word: str, shapes: Path) -> None:
    with pytest.raises(ValueError, match=CONTRADICTIONS[word]):
        tiny(shapes, word)


@pytest.mark.parametrize("word", GPT2_CONTRADICTIONS)
def test_a_gpt2_that_contradicts_its_settings(word: str, shapes: Path) -> None:
    with pytest.raises(ValueError, match=GPT2_CONTRADICTIONS[word]):
        tiny(shapes, *GPT2, word)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GPT-2 with a tokeniser of bytes, two merges and an end of text, on the disk."""
    folder = byte_pair_files(tmp_path_factory.mktemp("files") / "gpt2")
    pieces = json.loads((folder / "vocab.json").read_text())
    pieces["<|endoftext|>"] = end = len(pieces)
    (folder / "vocab.json").write_text(json.dumps(pieces))
    torch.manual_seed(3)
    config = GPT2Config(
        vocab_size=len(pieces),
        n_positions=32,
        n_embd=16,
        n_layer=2,
        n_head=2,
        bos_token_id=end,
        eos_token_id=end,
    )
    GPT2LMHeadModel(config).save_pretrained(folder)
    return folder


def test_a_run_from_a_checkpoint_of_gpt2(checkpoint: Path, shapes: Path, tmp_path: Path) -> None:
    """Its pieces keep their rows, END is its end of text, and the run needs the files no more."""
    from safetensors.torch import load_file

    weights = load_file(checkpoint / "model.safetensors")
    given = (
        *GPT2,
        f"method.generator.gpt2.weights={checkpoint}",
        f"data.byte_pairs={checkpoint}",
        "method.factual_steps=0",
        "method.style_steps=1",
        "stages=[style]",
        "method.generator.optimizer.lr=1e-30",  # as it was read
    )
    assert train(tiny(shapes, *given), tmp_path / "run", World.local(), resume=False).finished
    moved = checkpoint.rename(checkpoint.with_name("moved"))
    try:
        captioner = distgan.load(tmp_path / "run").generator.captioner
    finally:
        moved.rename(checkpoint)
    wte = weights["transformer.wte.weight"]
    assert torch.equal(captioner.embedding.weight[4:], wte)
    assert torch.equal(captioner.embedding.weight[[START, END]], wte[[-1, -1]])
    inner = weights["transformer.h.1.mlp.c_fc.weight"]
    assert torch.equal(captioner.body.blocks[1].inner.weight, inner.t())
    regions = torch.randn(2, 49, 128)
    logits, _ = captioner(regions, torch.full((2, 12), 5), torch.tensor([0, 1]))
    assert torch.isneginf(logits[..., -1]).all(), "END alone stands for the end of text"
    assert torch.isfinite(logits[..., END:-1]).all()


def test_words_begin_as_the_mean_of_their_pieces(checkpoint: Path, shapes: Path) -> None:
    from distgan.data.word_vectors import read_word_vectors
    from distgan.methods.attend_gan import AttendGAN

    words = (*GPT2, f"method.generator.gpt2.weights={checkpoint}")
    method = AttendGAN(tiny(shapes, *words), World.local())
    expected = read_word_vectors(checkpoint, method.corpora.vocabulary)
    assert torch.equal(method.captioner.embedding.weight[4:], expected[4:])


def test_a_checkpoint_of_gpt2_that_does_not_fit_is_said(checkpoint: Path, shapes: Path) -> None:
    key = "method.generator.gpt2.weights"
    with pytest.raises(ValueError, match=rf"{key}=/nowhere: .*config.json does not exist"):
        check(tiny(shapes, *GPT2, f"{key}=/nowhere"), 1)
    with pytest.raises(ValueError, match=rf"{key}=.* layers is 3, but .* has n_layer=2"):
        check(tiny(shapes, *GPT2, f"{key}={checkpoint}", "method.generator.gpt2.layers=3"), 1)
    with pytest.raises(ValueError, match=r"word_vectors=x.txt: the words have those of"):
        tiny(shapes, *GPT2, f"{key}={checkpoint}", "method.generator.word_vectors=x.txt")


@pytest.mark.slow
@pytest.mark.parametrize("name", list(NETWORKS))
def test_two_ranks_train_as_one(name: str, shapes: Path) -> None:
    exact = ("engine.precision=float64", "method.critic_batch=9", "data.style=all")
    cases = [tiny(shapes, *exact, *NETWORKS[name], *more) for more in ((), ACCUMULATED)]
    one = play_config(World.local(), cases[0])
    assert any(bool(earned.any()) for earned in one.earned), "nothing was earned"
    ranks = run_on_ranks(2, play_configs, cases)
    for case in range(len(cases)):
        assert differences(one, [outcomes[case] for outcomes in ranks]) == [], (name, case)


ACCUMULATED = ("engine.accumulate=2",)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gru", "gpt2"])
def test_killed_in_every_stage_it_ends_in_the_same_bits(name: str, shapes: Path, tmp_path) -> None:
    config = tiny(shapes, *NETWORKS[name], *DROPPING)
    whole, folder = tmp_path / "whole", tmp_path / "cut"
    assert run_on_ranks(1, play, config, whole, 0) == [True]
    for last in KILLED:
        with pytest.raises(Exception, match="exit codes"):
            run_on_ranks(1, play, config, folder, last)
    assert run_on_ranks(1, play, config, folder, 0) == [True]
    ended_alike(folder, whole)
    assert set(load(find(folder))["learners"]) == {"generator", "discriminator"}
