"""Keyed noise: Philox's published answers, a reference in plain integers, and what it is for."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from distgan.randomness import STREAMS, Draw, normals, philox, uniforms

# From the authors' known-answer file (Random123, philox4x32 with 10 rounds).
KNOWN = [
    (
        (0, 0, 0, 0),
        (0, 0),
        (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8),
    ),
    (
        (0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF),
        (0xFFFFFFFF, 0xFFFFFFFF),
        (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD),
    ),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


def plain_philox(counter: tuple[int, ...], key: tuple[int, int]) -> tuple[int, ...]:
    """Philox4x32-10 in Python's integers, as the paper writes it."""
    c, k = list(counter), list(key)
    for _ in range(10):
        first, second = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [
            (second >> 32) ^ c[1] ^ k[0],
            second % 2**32,
            (first >> 32) ^ c[3] ^ k[1],
            first % 2**32,
        ]
        k = [(k[0] + 0x9E3779B9) % 2**32, (k[1] + 0xBB67AE85) % 2**32]
    return tuple(c)


def plain_uniform(draw: Draw, sample: int, rollout: int, prefix: int, position: int) -> float:
    counter = (draw.step, sample, rollout * 2**16 + prefix, position)
    high, low, _, _ = plain_philox(counter, (draw.seed, draw.stream))
    return ((high >> 5) * 2**26 + (low >> 6)) / 2**53


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN)
def test_known_answers(
    counter: tuple[int, ...], key: tuple[int, int], answer: tuple[int, ...]
) -> None:
    got = philox(tuple(torch.tensor(word) for word in counter), key)
    assert tuple(int(word) for word in got) == answer
    assert plain_philox(counter, key) == answer


def test_philox_equals_plain_integers() -> None:
    pick = random.Random(0)
    counters = [tuple(pick.getrandbits(32) for _ in range(4)) for _ in range(500)]
    key = (pick.getrandbits(32), pick.getrandbits(32))
    got = torch.stack(philox(tuple(torch.tensor(counters).unbind(1)), key), dim=1)
    assert [tuple(row) for row in got.tolist()] == [plain_philox(c, key) for c in counters]


def test_uniforms_equal_plain_integers() -> None:
    pick = random.Random(1)
    draw = Draw(seed=2**32 - 5, stream=STREAMS["rollouts"], step=2**31 + 7)
    places = [
        (pick.getrandbits(32), pick.getrandbits(16), pick.getrandbits(16), pick.getrandbits(32))
        for _ in range(300)
    ]
    sample, rollout, prefix, position = torch.tensor(places).unbind(1)
    got = uniforms(draw, sample, rollout=rollout, prefix=prefix, position=position)
    assert got.dtype == torch.float64
    assert got.tolist() == [plain_uniform(draw, *place) for place in places]


def test_a_draw_depends_on_nothing_but_its_name() -> None:
    draw = Draw(seed=3, stream=STREAMS["words"], step=11)
    sample, position = torch.arange(40), torch.arange(9)
    whole = uniforms(draw, sample[:, None], position=position)
    order = torch.randperm(40, generator=torch.Generator().manual_seed(0))
    assert torch.equal(uniforms(draw, sample[order, None], position=position), whole[order])
    parts = [uniforms(draw, part[:, None], position=position) for part in sample.split(7)]
    assert torch.equal(torch.cat(parts), whole)
    columns = [uniforms(draw, sample, position=int(p)) for p in position]
    assert torch.equal(torch.stack(columns, dim=1), whole)


def test_every_part_of_the_name_matters() -> None:
    sample = torch.arange(64)
    base = uniforms(Draw(1, 2, 3), sample)
    others = [
        uniforms(Draw(2, 2, 3), sample),
        uniforms(Draw(1, 3, 3), sample),
        uniforms(Draw(1, 2, 4), sample),
        uniforms(Draw(1, 2, 3), sample + 64),
        uniforms(Draw(1, 2, 3), sample, rollout=1),
        uniforms(Draw(1, 2, 3), sample, prefix=1),
        uniforms(Draw(1, 2, 3), sample, position=1),
    ]
    assert all((base != other).all() for other in others)
    assert len(set(STREAMS.values())) == len(STREAMS)


@pytest.mark.parametrize("axis", ["sample", "position", "rollout", "step"])
def test_uniform_along_every_axis(axis: str) -> None:
    """Chi-square over 256 bins, |z| < 4 by its normal approximation; neighbours uncorrelated."""
    count, bins, zero = 1 << 16, 256, torch.zeros(1, dtype=torch.int64)
    along = torch.arange(count)
    if axis == "sample":
        draws = uniforms(Draw(5, 1, 0), along)
    elif axis == "step":
        draws = torch.cat([uniforms(Draw(5, 1, step), along[:256]) for step in range(256)])
    else:
        draws = uniforms(Draw(5, 1, 0), zero, **{axis: along})
    assert draws.min() >= 0 and draws.max() < 1
    seen = np.bincount((draws * bins).long().numpy(), minlength=bins)
    expected = count / bins
    chi_square = float(((seen - expected) ** 2).sum() / expected)
    assert abs(chi_square - (bins - 1)) < 4 * (2 * (bins - 1)) ** 0.5
    correlation = torch.corrcoef(torch.stack([draws[:-1], draws[1:]]))[0, 1]
    assert abs(float(correlation)) < 4 / count**0.5


def test_normals_have_the_right_moments_and_keep_their_place() -> None:
    draw, sample = Draw(0, STREAMS["noise"], 1), torch.arange(4000)
    z = normals(draw, sample, 16)
    assert z.shape == (4000, 16) and z.dtype == torch.float64 and torch.isfinite(z).all()
    n = z.numel()
    assert abs(float(z.mean())) < 4 / n**0.5
    assert abs(float(z.var()) - 1) < 4 * (2 / n) ** 0.5
    assert abs(float((z**4).mean()) - 3) < 4 * (96 / n) ** 0.5
    assert torch.equal(normals(draw, sample[10:20], 5), z[10:20, :5])
