"""What every decoder promises: steps, prefixes and forward are one distribution."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny_decoders import DECODERS, tiny_decoder
from torch import Tensor

from distgan.models.decoder import END, PAD, START

B, K, D, V, T = 3, 4, 5, 9, 6
WORDS = torch.tensor([[4, 5, 2, 0, 0, 0], [6, 7, 8, 4, 5, 6], [2, 0, 0, 0, 0, 0]])


@pytest.fixture(params=[0, 3], ids=["plain", "styled"])
def styles(request: pytest.FixtureRequest) -> int:
    return request.param


@pytest.fixture(params=list(DECODERS))
def decoder(request: pytest.FixtureRequest, styles: int) -> Any:
    return tiny_decoder(request.param, 1, V, T, D, num_styles=styles)


@pytest.fixture
def regions() -> Tensor:
    return torch.randn(B, K, D, dtype=torch.float64)


def style_of(decoder: Any) -> Tensor | None:
    return torch.tensor([2, 0, 1]) if decoder.num_styles else None


def test_steps_on_gathered_rows_equal_forward(decoder: Any, regions: Tensor) -> None:
    """Rows in any order, repeated, split and joined: always their own caption's logits."""
    expected, _ = decoder(regions, WORDS, style_of(decoder))
    context = decoder.look(regions, style_of(decoder))
    row = torch.tensor([2, 0, 1, 1, 0])
    state, read = decoder.start(context, row), torch.full_like(row, START)
    for t in range(T):
        logits, state = decoder.step(read, state, context)
        torch.testing.assert_close(logits, expected[row, t], atol=1e-12, rtol=0)
        shuffled = torch.tensor([4, 0, 0, 1, 3, 2])
        state, row = state.rows(shuffled), row[shuffled]
        halves = state.rows(torch.arange(2)), state.rows(torch.arange(2, 6))
        state = halves[0].join(halves[1:])
        read = WORDS[row, t]


def test_branches_off_every_prefix_equal_forward(decoder: Any, regions: Tensor) -> None:
    """Rows that leave a caption anywhere and go on in their own words."""
    context, image = decoder.look(regions, style_of(decoder)), torch.arange(B)
    prefixes = decoder.read(WORDS, image, context)
    expected, _ = decoder(regions, WORDS, style_of(decoder))
    every = decoder.logits(prefixes, context).unflatten(0, (T, B)).transpose(0, 1)
    torch.testing.assert_close(every, expected, atol=1e-12, rtol=0)
    caption, length = torch.tensor([1, 0, 1, 1, 2]), torch.tensor([4, 1, 0, 4, 2])
    own = torch.randint(4, V, (5, T))
    branched = torch.where(torch.arange(T) < length[:, None], WORDS[caption], own)
    style = style_of(decoder)
    told = None if style is None else style[caption]
    expected, _ = decoder(regions[caption], branched, told)
    state, row = prefixes.rows(length * B + caption), torch.arange(5)
    for _ in range(T):
        logits = decoder.logits(state, context)
        torch.testing.assert_close(logits, expected[row, length[row]], atol=1e-12, rtol=0)
        kept = (length[row] < T - 1).nonzero()[:, 0].flip(0)
        if len(kept) == 0:
            break
        state = decoder.advance(branched[row, length[row]][kept], state.rows(kept), context)
        row = row[kept]
        length[row] += 1


def test_a_state_is_a_value(decoder: Any, regions: Tensor) -> None:
    """Going on from it, once or again, does not change it, nor what came of it before."""
    context, image = decoder.look(regions, style_of(decoder)), torch.arange(B)
    state = decoder.read(WORDS, image, context).rows(image)
    one, other = torch.tensor([4, 5, 6]), torch.tensor([5, 8, 4])
    for _ in range(T - 2):
        before = decoder.logits(state, context)
        said, after = decoder.step(one, state, context)
        then, _ = decoder.step(one, after, context)
        otherwise, beside = decoder.step(other, state, context)
        decoder.step(other, beside, context)
        assert not torch.allclose(otherwise[:, END:], said[:, END:])
        assert torch.equal(decoder.logits(state, context), before)
        assert torch.equal(decoder.logits(after, context), said)
        assert torch.equal(decoder.step(one, after, context)[0], then)
        state = after


def test_pad_and_start_are_ruled_out_by_the_network(decoder: Any, regions: Tensor) -> None:
    logits, _ = decoder(regions, WORDS, style_of(decoder))
    assert torch.isneginf(logits[..., [PAD, START]]).all()
    assert torch.isfinite(logits[..., 2:]).all()


def test_the_image_and_the_style_move_the_distribution(decoder: Any, regions: Tensor) -> None:
    style = style_of(decoder)
    said = decoder(regions, WORDS, style)[0].softmax(-1)
    other = decoder(regions.flip(0), WORDS, style)[0].softmax(-1)
    assert (said - other).abs().amax() > 1e-3
    if style is not None:
        other = decoder(regions, WORDS, style.flip(0))[0].softmax(-1)
        assert (said - other).abs().amax() > 1e-3
    with pytest.raises(ValueError, match=f"num_styles is {decoder.num_styles}"):
        decoder(regions, WORDS, None if style is not None else torch.zeros(B, dtype=torch.int64))


def test_every_parameter_learns(decoder: Any, regions: Tensor) -> None:
    logits, attention = decoder(regions, WORDS, style_of(decoder))
    (logits[..., 2:].log_softmax(-1)[..., 3].sum() + attention.square().sum()).backward()
    for name, value in decoder.named_parameters():
        assert value.grad is not None and value.grad.abs().amax() > 0, name


def test_attention_is_where_it_says(decoder: Any, regions: Tensor) -> None:
    _, attention = decoder(regions, WORDS, style_of(decoder))
    if decoder.has_attention:
        torch.testing.assert_close(attention.sum(2), torch.ones(B, T, dtype=torch.float64))
    else:
        assert attention.shape == (B, T, 0)


@pytest.mark.parametrize("name", list(DECODERS))
def test_dropout_acts_in_training_only(name: str, regions: Tensor) -> None:
    decoder = tiny_decoder(name, 0, V, T, D, dropout=0.5)
    first, second = decoder(regions, WORDS)[0], decoder(regions, WORDS)[0]
    assert not torch.equal(first, second)
    decoder.eval()
    assert torch.equal(decoder(regions, WORDS)[0], decoder(regions, WORDS)[0])
    context = decoder.look(regions)
    stepped, _ = decoder.step(
        torch.full((B,), START), decoder.start(context, torch.arange(B)), context
    )
    torch.testing.assert_close(stepped, decoder(regions, WORDS)[0][:, 0], atol=1e-12, rtol=0)


@pytest.mark.parametrize("name", list(DECODERS))
def test_it_learns_captions_by_heart_quickly(name: str) -> None:
    """Two captions that differ by what is at one region: solved within 60 updates."""
    torch.manual_seed(0)
    size = {"layers": 2, "heads": 2, "width": 32, "prefix": 2}
    if not name.startswith("gpt2"):
        size = {"embedding": 32, "hidden": 32, "attention": 16}
    decoder = DECODERS[name](V, T, D, **size)
    regions = torch.zeros(2, K, D)
    regions[0, 1, 0] = regions[1, 1, 1] = 1.0
    words = torch.tensor([[4, 5, 6, 2], [4, 7, 8, 2]])
    optimizer = torch.optim.Adam(decoder.parameters(), lr=1e-2)
    for _ in range(60):
        loss = -decoder(regions, words)[0].log_softmax(-1).gather(2, words[..., None]).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.02
