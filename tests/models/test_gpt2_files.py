"""Our GPT-2 is transformers' GPT-2, given its files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel

from distgan.models.decoder import END, START, UNK, shifted
from distgan.models.gpt2_captioner import GPT2Captioner
from distgan.models.gpt2_files import load_gpt2

V, T, D, K, B, PIECES = 24, 7, 5, 4, 3, 20
SIZE = {"layers": 3, "heads": 4, "width": 32, "prefix": 2}


@pytest.fixture(scope="module")
def theirs() -> GPT2LMHeadModel:
    """Far from its start, so that every weight matters."""
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=PIECES,
        n_positions=16,
        n_embd=32,
        n_layer=3,
        n_head=4,
        bos_token_id=PIECES - 1,
        eos_token_id=PIECES - 1,
        attn_implementation="eager",
    )
    model = GPT2LMHeadModel(config).eval()
    with torch.no_grad():
        for value in model.parameters():
            value.add_(torch.randn_like(value) * 0.2)
    return model


@pytest.fixture(scope="module")
def folder(theirs: GPT2LMHeadModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("gpt2")
    theirs.save_pretrained(path)
    return path


def captioner(folder: Path, **size: int) -> GPT2Captioner:
    torch.manual_seed(1)
    made = GPT2Captioner(V, T, D, **SIZE | size, num_styles=2)
    load_gpt2(made, folder)
    return made.requires_grad_(False)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
def test_logits_are_those_of_transformers(
    theirs: GPT2LMHeadModel, folder: Path, dtype: torch.dtype, tolerance: float
) -> None:
    """Whole and step by step, after an image's tokens; words are its pieces, four on."""
    ours = captioner(folder)
    wte = theirs.transformer.wte.weight.detach()
    vectors = torch.cat([torch.full((4, 32), float("nan")), wte])
    ours.load_word_vectors(vectors)
    ours, theirs = ours.to(dtype), theirs.to(dtype)
    regions, style = torch.randn(B, K, D, dtype=dtype), torch.tensor([0, 1, 1])
    words = torch.randint(4, V, (B, T))
    sequence = torch.cat([ours.prefix(regions, style), ours.embedding(shifted(words))], 1)
    with torch.no_grad():
        expected = theirs(inputs_embeds=sequence).logits[:, -T:]

    def compare(logits: Tensor, expected: Tensor) -> None:
        torch.testing.assert_close(logits[..., 4:], expected, atol=tolerance, rtol=0)
        torch.testing.assert_close(logits[..., END], expected[..., -1], atol=tolerance, rtol=0)

    compare(ours(regions, words, style)[0], expected)
    context = ours.look(regions, style)
    state = ours.start(context, torch.arange(B))
    for t, read in enumerate(shifted(words).unbind(1)):
        logits, state = ours.step(read, state, context)
        compare(logits, expected[:, t])
    theirs.to(torch.float32)


def test_start_and_end_are_the_end_of_text(theirs: GPT2LMHeadModel, folder: Path) -> None:
    ours = captioner(folder)
    for word in (START, END):
        assert torch.equal(ours.embedding.weight[word], theirs.transformer.wte.weight[-1])
    assert not torch.equal(ours.embedding.weight[UNK], theirs.transformer.wte.weight[-1])


def test_files_without_the_long_names_or_in_torchs_own_form(folder: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    state = {
        name.removeprefix("transformer."): value
        for name, value in load_file(folder / "model.safetensors").items()
    }
    torch.save(state, tmp_path / "pytorch_model.bin")
    one, other = captioner(folder).state_dict(), captioner(tmp_path).state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_what_does_not_fit_is_said(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"config.json does not exist"):
        captioner(tmp_path)
    with pytest.raises(ValueError, match=r"layers is 2, but .* has n_layer=3"):
        captioner(folder, layers=2)
    with pytest.raises(ValueError, match=r"18 tokens are to be read, but .* has 16 places"):
        captioner(folder, prefix=10)
    settings = json.loads((folder / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(settings))
    with pytest.raises(ValueError, match=r"holds neither model.safetensors nor pytorch_model.bin"):
        captioner(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(ValueError, match="damaged"):
        captioner(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(settings | {"activation_function": "relu"}))
    with pytest.raises(ValueError, match=r"activation_function must be gelu_new .* got 'relu'"):
        captioner(tmp_path)
