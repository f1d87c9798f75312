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
