"""The captioner is equations (4)-(7), one word at a time or all at once."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from distgan.models.captioner import AttentionCaptioner
from distgan.models.decoder import PAD, START

B, K, D, V, T = 3, 4, 5, 9, 6


@pytest.fixture(params=[0, 3], ids=["plain", "styled"])
def captioner(request: pytest.FixtureRequest) -> AttentionCaptioner:
    torch.manual_seed(1)
    return AttentionCaptioner(
        V, T, D, embedding=7, hidden=6, attention=8, num_styles=request.param, style_size=3
    ).double()


def inputs(captioner: AttentionCaptioner) -> tuple:
    regions = torch.randn(B, K, D, dtype=torch.float64)
    style = torch.tensor([2, 0, 1]) if captioner.num_styles else None
    words = torch.tensor([[4, 5, 2, 0, 0, 0], [6, 7, 8, 4, 5, 6], [2, 0, 0, 0, 0, 0]])
    return regions, words, style


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def slow_caption(p: dict, a: np.ndarray, words: list[int], style: int | None) -> tuple:
    """Equations (4)-(7) for one image a (K, D), word by word: probabilities and attention."""
    told = p["styles.weight"][style] if style is not None else np.zeros(0)
    start = p["initial.weight"] @ np.concatenate([a.mean(0), told]) + p["initial.bias"]
    h, c = np.split(start, 2)
    W, H, A = (p[f"{name}_gates.weight"] for name in ("word", "hidden", "region"))
    b, previous, probabilities, attention = p["word_gates.bias"], START, [], []
    if style is not None:
        b = b + p["style_gates.weight"] @ told
    for word in words:
        inner = [np.tanh(p["region_keys.weight"] @ a_k + p["hidden_keys.weight"] @ h) for a_k in a]
        scores = np.array([p["scores.weight"][0] @ x for x in inner])
        e = np.exp(scores) / np.exp(scores).sum()
        seen = sum(e_k * a_k for e_k, a_k in zip(e, a, strict=True))
        i, f, o, g = np.split(W @ p["embedding.weight"][previous] + H @ h + A @ seen + b, 4)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        logits = p["readout.weight"] @ np.concatenate([h, seen]) + p["readout.bias"]
        mass = np.exp(logits)
        mass[[PAD, START]] = 0
        probabilities.append(mass / mass.sum())
        attention.append(e)
        previous = word
    return np.stack(probabilities), np.stack(attention)


def test_forward_is_the_papers_equations(captioner: AttentionCaptioner) -> None:
    regions, words, style = inputs(captioner)
    logits, attention = captioner(regions, words, style)
    p = {name: value.detach().numpy() for name, value in captioner.state_dict().items()}
    for row in range(B):
        chosen = None if style is None else int(style[row])
        expected = slow_caption(p, regions[row].numpy(), words[row].tolist(), chosen)
        np.testing.assert_allclose(logits[row].softmax(1).detach(), expected[0], atol=1e-13)
        np.testing.assert_allclose(attention[row].detach(), expected[1], atol=1e-13)


def test_pad_and_start_are_ruled_out_by_the_network(captioner: AttentionCaptioner) -> None:
    regions, words, style = inputs(captioner)
    logits, _ = captioner(regions, words, style)
    assert torch.isneginf(logits[..., [PAD, START]]).all()
    assert torch.isfinite(logits[..., 2:]).all()


def test_steps_on_gathered_rows_equal_forward(captioner: AttentionCaptioner) -> None:
    """Rows in any order, repeated, split and joined: always their own caption's logits."""
    regions, words, style = inputs(captioner)
    expected, _ = captioner(regions, words, style)
    context = captioner.look(regions, style)
    row = torch.tensor([2, 0, 1, 1, 0])
    state = captioner.start(context, row)
    read = torch.full_like(row, START)
    for t in range(T):
        logits, state = captioner.step(read, state, context)
        torch.testing.assert_close(logits, expected[row, t], atol=1e-12, rtol=0)
        shuffled = torch.tensor([4, 0, 0, 1, 3, 2])
        state, row = state.rows(shuffled), row[shuffled]
        halves = state.rows(torch.arange(2)), state.rows(torch.arange(2, 6))
        state = halves[0].join(halves[1:])
        read = words[row, t]


def test_style_moves_the_distribution_and_is_required() -> None:
    captioner = AttentionCaptioner(V, T, D, embedding=7, hidden=6, attention=8, num_styles=2)
    regions, words = torch.randn(B, K, D), torch.full((B, T), 4)
    zero, one = (captioner(regions, words, torch.full((B,), s))[0].softmax(-1) for s in (0, 1))
    assert (zero - one).abs().amax() > 1e-3
    with pytest.raises(ValueError, match="num_styles is 2"):
        captioner(regions, words)


def test_every_parameter_learns(captioner: AttentionCaptioner) -> None:
    regions, words, style = inputs(captioner)
    logits, attention = captioner(regions, words, style)
    (logits[..., 2:].log_softmax(-1)[..., 3].sum() + attention.square().sum()).backward()
    for name, value in captioner.named_parameters():
        assert value.grad is not None and value.grad.abs().amax() > 0, name


def test_it_learns_captions_by_heart_quickly() -> None:
    """Two captions that differ by what is at one region: solved within 60 updates."""
    torch.manual_seed(0)
    captioner = AttentionCaptioner(V, T, D, embedding=32, hidden=32, attention=16)
    regions = torch.zeros(2, K, D)
    regions[0, 1, 0] = regions[1, 1, 1] = 1.0
    words = torch.tensor([[4, 5, 6, 2], [4, 7, 8, 2]])
    optimizer = torch.optim.Adam(captioner.parameters(), lr=1e-2)
    for _ in range(60):
        loss = -captioner(regions, words)[0].log_softmax(-1).gather(2, words[..., None]).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.02


def test_word_vectors_are_copied_except_unknown_rows() -> None:
    captioner = AttentionCaptioner(V, T, D, embedding=7, hidden=6, attention=8)
    before = captioner.embedding.weight.detach().clone()
    vectors = torch.randn(V, 7)
    vectors[5] = float("nan")
    captioner.load_word_vectors(vectors)
    torch.testing.assert_close(captioner.embedding.weight[4], vectors[4])
    torch.testing.assert_close(captioner.embedding.weight[5], before[5])
    with pytest.raises(ValueError, match="shape"):
        captioner.load_word_vectors(vectors[:3])


def test_dropout_acts_in_training_only() -> None:
    captioner = AttentionCaptioner(V, T, D, embedding=7, hidden=6, attention=8, dropout=0.5)
    regions, words = torch.randn(B, K, D), torch.full((B, T), 4)
    first, second = captioner(regions, words)[0], captioner(regions, words)[0]
    assert not torch.equal(first, second)
    captioner.eval()
    assert torch.equal(captioner(regions, words)[0], captioner(regions, words)[0])
