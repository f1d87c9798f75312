"""Both critics learn their two jobs on a tiny world: two coloured cells of a 3 x 3 grid.

A caption reads `colour relation colour END`, as in "red left blue". The regions are one-hot
colours beside their place, so that telling left from right needs places, not a mean region.
"""

import pytest
import torch
from torch import Tensor

from distgan import losses
from distgan.models.critics import build_critic
from distgan.models.decoder import END

COLOURS, LEFT, RIGHT, V = 5, 9, 10, 11  # colours are words 4..8
N = 64


def world(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Captions (count, 4) and regions (count, 9, 8): colour, nothing there, column and row."""
    colours = torch.rand(count, COLOURS, generator=generator).argsort(1)[:, :2]
    columns = torch.rand(count, 3, generator=generator).argsort(1)[:, :2]
    cells = torch.randint(3, (count, 2), generator=generator) * 3 + columns
    regions = torch.zeros(count, 9, COLOURS + 3)
    regions[..., COLOURS] = 1
    for thing in range(2):
        at = torch.arange(count), cells[:, thing]
        regions[*at, colours[:, thing]] = 1
        regions[*at, torch.tensor(COLOURS)] = 0
    place = torch.arange(9)
    regions[..., COLOURS + 1], regions[..., COLOURS + 2] = place % 3 - 1.0, place // 3 - 1.0
    relation = torch.where(columns[:, 0] < columns[:, 1], LEFT, RIGHT)
    end = torch.full((count,), END)
    return torch.stack([colours[:, 0] + 4, relation, colours[:, 1] + 4, end], 1), regions


def scramble(words: Tensor) -> Tensor:
    """The relation in front: the same words, outside the grammar."""
    return words[:, [1, 0, 2, 3]]


def auc(real: Tensor, fake: Tensor) -> float:
    return (real[:, None] > fake[None]).float().mean().item()


@pytest.mark.parametrize(
    "name, steps", [("gru", 250), pytest.param("textcnn", 250, marks=pytest.mark.slow)]
)
def test_a_critic_learns_grammar_match_and_relation(name: str, steps: int) -> None:
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    critic = build_critic(
        name, V, 4, channels=COLOURS + 3, heads="separate", embedding_size=16, hidden_size=32
    )
    optimizer = torch.optim.Adam(critic.parameters(), lr=4e-3)
    weight = torch.full((N,), 1 / N, dtype=torch.float64)
    rows = torch.arange(N)
    image = torch.cat([rows, rows.roll(1), rows])
    for _ in range(steps):
        words, regions = world(N, generator)
        every = torch.cat([words, words, scramble(words)])
        real, elsewhere, scrambled = critic(every, critic.look(regions, None), image).split(N)
        loss = losses.bce_critic(real[:, 1], elsewhere[:, 1], weight, weight)
        loss = loss + losses.bce_critic(real[:, 0], scrambled[:, 0], weight, weight)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    words, regions = world(500, generator)
    context, rows = critic.eval().look(regions, None), torch.arange(500)
    turned = words.clone()
    turned[:, 1] = LEFT + RIGHT - words[:, 1]
    with torch.no_grad():
        real = critic(words, context, rows)
        assert auc(real[:, 0], critic(scramble(words), context, rows)[:, 0]) > 0.99
        assert auc(real[:, 1], critic(words, context, rows.roll(1))[:, 1]) > 0.9
        assert (real[:, 1] > critic(turned, context, rows)[:, 1]).float().mean() > 0.8
