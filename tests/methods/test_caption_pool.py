"""The pool of earlier captions: the newest ones, the same on every rank, shown by keyed chance."""

from __future__ import annotations

import torch
from ranks import run_on_ranks
from tiny_captioning import JOINT, build, prepared, tiny, updates_of

from distgan.engine.stages import Moment
from distgan.engine.world import World
from distgan.methods.caption_pool import CaptionPool, Written
from distgan.randomness import Draw

T = 3


def written(first: int, count: int) -> Written:
    number = torch.arange(first, first + count)
    return Written(number, number % 2, number[:, None] * 10 + torch.arange(T))


def shares(world: World, size: int, counts: list[int]) -> tuple[list[int], list[list[int]]]:
    """Each count a global batch; what the pool then holds, and which images were shown."""
    pool, shown, first = CaptionPool(size, T, world), [], 0
    for step, rows in enumerate(counts):
        start, end = (rows * rank // world.size for rank in (world.rank, world.rank + 1))
        position = torch.arange(first + start, first + end)
        mine = written(first + start, end - start)
        met = pool.exchange(mine, position, Draw(1, 2, step), rows)
        assert torch.equal(met.words, met.image[:, None] * 10 + torch.arange(T)), "torn apart"
        assert torch.equal(met.style, met.image % 2)
        shown.append(met.image.tolist())
        first += rows
    return pool.kept.image.tolist(), shown


def test_it_keeps_the_newest():
    kept, shown = shares(World.local(), 8, [5, 5, 5])
    assert kept == list(range(7, 15))
    assert shown[0] == [0, 1, 2, 3, 4], "nothing is earlier than the first"
    assert shares(World.local(), 3, [5])[0] == [2, 3, 4]
    assert shares(World.local(), 100, [5, 5])[0] == list(range(10))


def test_all_ranks_hold_the_same_and_show_what_one_would():
    counts = [5, 7, 4]
    kept, shown = shares(World.local(), 8, counts)
    ranks = run_on_ranks(3, shares, 8, counts)
    assert [rank_kept for rank_kept, _ in ranks] == [kept] * 3
    together = [[image for _, seen in ranks for image in seen[step]] for step in range(3)]
    assert together == shown


def test_half_are_earlier_ones_evenly():
    pool = CaptionPool(50, T, World.local())
    pool.exchange(written(0, 50), torch.arange(50), Draw(0, 1, 0), 50)
    rows = 8000
    met = pool.exchange(written(1000, rows), torch.arange(rows), Draw(0, 1, 1), rows)
    earlier = met.image < 1000
    assert abs(float(earlier.double().mean()) - 0.5) < 0.03
    assert torch.equal(met.image[~earlier], torch.arange(1000, 1000 + rows)[~earlier])
    counts = torch.bincount(met.image[earlier], minlength=50)
    assert counts.min() > 40 and counts.max() < 130


def test_its_state_comes_back():
    pool, other = CaptionPool(8, T, World.local()), CaptionPool(8, T, World.local())
    pool.exchange(written(0, 9), torch.arange(9), Draw(0, 1, 0), 9)
    other.load_state_dict(pool.state_dict())
    assert all(map(torch.equal, other.kept, pool.kept))
    smaller = CaptionPool(4, T, World.local())
    smaller.load_state_dict(pool.state_dict())
    assert smaller.kept.image.tolist() == [5, 6, 7, 8]
    nothing = CaptionPool(8, T, World.local())
    nothing.load_state_dict(CaptionPool(0, T, World.local()).state_dict())
    assert len(nothing) == 0


def test_the_critic_meets_earlier_captions_with_their_own_images(shapes):
    method, players, stages = build(World.local(), tiny(shapes, *JOINT, "method.pool=30"))
    judge = updates_of(stages, "critic", "discriminator")
    fakes = [prepared(players, judge, Moment(5, update))[0] for update in range(4)]
    before: set[tuple[int, int, tuple[int, ...]]] = set()
    earlier = 0
    for update, group in enumerate(fakes):
        fresh = method.pool.kept
        assert torch.equal(group["regions"], method.corpora.regions("images", group["id"]))
        for image, style, words in zip(group["id"], group["style"], group["words"], strict=True):
            earlier += (int(image), int(style), tuple(words.tolist())) in before
        rows = slice(update * 6, update * 6 + 6)
        kept = zip(fresh.image[rows], fresh.style[rows], fresh.words[rows], strict=True)
        before |= {(int(i), int(s), tuple(w.tolist())) for i, s, w in kept}
    assert 4 <= earlier <= 14, "about half of 18"
    assert torch.equal(fakes[0]["words"], method.pool.kept.words[:6])


def test_without_a_pool_samples_are_shown_as_they_are(shapes):
    """As with one that is still empty; and none is kept."""
    made = []
    for size in (0, 30):
        method, players, stages = build(World.local(), tiny(shapes, f"method.pool={size}"))
        made.append(prepared(players, updates_of(stages, "critic", "discriminator")))
        assert len(method.pool) == (6 if size else 0)
    for one, other in zip(*made, strict=True):
        assert all(torch.equal(one[key], other[key]) for key in one if key != "key")
