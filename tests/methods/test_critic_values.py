"""Q by every critic network is that of scoring each completed caption on its own.

The slow way is here: one caption, one prefix, one rollout at a time, each word from a forward over
all words before it; each text unpadded and alone before the critic, with its image alone; means
and the mix of heads in Python's numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from tiny_decoders import tiny_decoder
from torch import Tensor

from distgan.completions import Samples
from distgan.methods.attend_gan_config import AttendGANConfig, CriticConfig
from distgan.methods.caption_networks import score_captions
from distgan.models.critics import Critic, GRUCritic, TextCNNCritic
from distgan.models.decoder import END, PAD, UNK
from distgan.randomness import STREAMS, Draw, uniforms
from distgan.rollouts import MonteCarlo, monte_carlo, sample, score_each
from distgan.work import Work

I, S, K, D, V, T, N = 2, 2, 4, 12, 9, 6, 3  # noqa: E741
DRAW = Draw(5, STREAMS["rollouts"], 2)
STYLE = torch.tensor([1, 0])
WORK = (
    Work(),
    Work(chunk_rows=1),
    Work(chunk_rows=7),
    Work(tile=4),
    Work(tile=64),
    Work(memory_gib=1e-9),  # one caption after the other
)
CRITICS: dict[str, Callable[..., Critic]] = {
    "gru": GRUCritic,
    "gru of two layers": lambda *a, **k: GRUCritic(*a, layers=2, **k),
    "textcnn": TextCNNCritic,  # windows of 1 to T words, highway
}
SEEN: dict[str, dict[str, Any]] = {
    "text": {},
    "style": {"sees_style": True, "loss": "bce"},
    "image": {"sees_image": True},
    "image and style": {"sees_image": True, "sees_style": True, "loss": "bce"},
    "separate": {"sees_image": True, "heads": "separate", "match_reward": 0.3},
    "separate and style": {
        "sees_image": True,
        "sees_style": True,
        "heads": "separate",
        "match_reward": 0.3,
        "loss": "bce",
    },
}


class Written:
    """Captions of a decoder, and their completions by three nested loops."""

    def __init__(self) -> None:
        self.decoder = tiny_decoder("lstm", 11, V, T, D).requires_grad_(False)
        self.regions = torch.randn(I, K, D, dtype=torch.float64)
        context = self.decoder.look(self.regions)
        position = torch.tensor([4, 2**31 + 7])
        words = DRAW._replace(stream=STREAMS["words"])
        self.samples = sample(self.decoder, context, words, position, copies=S)
        self.context = context
        self.texts: dict[int, list[list[list[int]]]] = {}  # by caption, prefix, rollout
        for r, row in enumerate(self.samples.words.tolist()):
            caption = [word for word in row if word != PAD]
            prefixes = [caption[:p] for p in range(len(caption))]
            rolled = [[self._finish(r, prefix, n) for n in range(N)] for prefix in prefixes]
            self.texts[r] = [*rolled, [caption]]

    def _finish(self, row: int, words: list[int], n: int) -> list[int]:
        _, image, position, copy = (values[row : row + 1] for values in self.samples)
        key = {"rollout": copy * N + n, "prefix": len(words)}
        while len(words) < T and END not in words:
            seen = torch.tensor([[*words, PAD]])
            logits = self.decoder(self.regions[image], seen, None)[0][0, len(words)]
            p = [0.0 if w == UNK else math.exp(x) for w, x in enumerate(logits.tolist())]
            left = float(uniforms(DRAW, position, **key, position=len(words))) * sum(p)
            word = 0
            while left >= p[word]:
                left, word = left - p[word], word + 1
            words = [*words, word]
        return words


@pytest.fixture(scope="module")
def written() -> Written:
    return Written()


def build(kind: str, config: CriticConfig) -> Critic:
    torch.manual_seed(3)
    critic = CRITICS[kind](
        V,
        T,
        channels=D if config.sees_image else None,
        num_styles=2 if config.sees_style else None,
        heads=config.heads,
        embedding_size=5,
        hidden_size=12,
        attention_size=4,
        attention_heads=2,
    )
    with torch.no_grad():
        for weight in critic.parameters():
            weight.mul_(3)  # far from the same answer to every text
    return critic.double().eval().requires_grad_(False)


def slow_values(written: Written, critic: Critic, config: CriticConfig) -> Tensor:
    """V_0..V_L of every caption, (R, T + 1)."""
    values = torch.zeros(I * S, T + 1, dtype=torch.float64)
    for r, prefixes in written.texts.items():
        for p, texts in enumerate(prefixes):
            rewards = [slow_reward(written, critic, config, text, r // S) for text in texts]
            values[r, p] = math.fsum(rewards) / len(rewards)
    return values


def slow_reward(
    written: Written, critic: Critic, config: CriticConfig, words: list[int], image: int
) -> float:
    regions = written.regions[image : image + 1] if config.sees_image else None
    style = STYLE[image : image + 1] if config.sees_style else None
    context = critic.look(regions, style)
    scores = critic(torch.tensor([words]), context, torch.tensor([0]))[0].tolist()
    if config.loss == "bce":
        scores = [1 / (1 + math.exp(-score)) for score in scores]
    if config.heads == "separate":
        return (1 - config.match_reward) * scores[0] + config.match_reward * scores[1]
    return scores[0]


def fast(written: Written, score: Any, work: Work) -> MonteCarlo:
    samples, how = written.samples, {"rollouts": N, "draw": DRAW, "work": work}
    return monte_carlo(written.decoder, written.context, samples, score, **how)


@pytest.mark.parametrize("seen", SEEN)
@pytest.mark.parametrize("kind", CRITICS)
def test_q_is_that_of_each_caption_scored_alone(kind: str, seen: str, written: Written) -> None:
    config = AttendGANConfig(critic=CriticConfig(**SEEN[seen]))
    critic = build(kind, config.critic)
    slow, real = slow_values(written, critic, config.critic), written.samples.words != PAD
    assert slow[:, 1:][real].std() > 1e-2  # the critic tells texts apart
    score = score_captions(critic, config, written.regions, STYLE)
    for work in WORK:
        values = fast(written, score, work)
        torch.testing.assert_close(values.q, slow[:, 1:] * real, atol=1e-12, rtol=0)
        torch.testing.assert_close(values.value_before, slow[:, :-1] * real, atol=1e-12, rtol=0)


@pytest.mark.parametrize("kind", CRITICS)
def test_every_chunk_of_the_critic_gives_the_same_scores(kind: str, written: Written) -> None:
    config = AttendGANConfig(critic=CriticConfig(**SEEN["separate and style"]))
    critic = build(kind, config.critic)
    score = score_captions(critic, config, written.regions, STYLE)
    texts = [(r // S, text) for r, ps in written.texts.items() for p in ps for text in p]
    words = torch.tensor([text + [PAD] * (T - len(text)) for _, text in texts])
    image = torch.tensor([i for i, _ in texts])
    slow = [slow_reward(written, critic, config.critic, text, i) for i, text in texts]
    for rows in (1, 2, 3, 5, 8, 13, 21, len(texts) - 1, len(texts), 1024):
        got = score_each(score, words, image, rows)
        torch.testing.assert_close(got, torch.tensor(slow, dtype=torch.float64), atol=1e-12, rtol=0)


def test_the_captions_are_of_several_lengths(written: Written) -> None:
    """Else chunks and padding would not be put to the test."""
    samples: Samples = written.samples
    assert len(samples.lengths.unique()) > 1
    lengths = {len(text) for ps in written.texts.values() for p in ps for text in p}
    assert len(lengths) > 3
