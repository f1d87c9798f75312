from __future__ import annotations

import math
import pickle
from collections import Counter, deque
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from distgan.data.damage import DamagedSample, TooManyBadSamples
from distgan.data.dataset import Dataset
from distgan.data.folder import ArrowStorage, Read
from distgan.data.order import OneOfEach, Shuffled, Shuffling
from distgan.data.sources import CaptionedImages, Images, Lines, Mixture, Part, Source
from distgan.data.stream import Reader, Stream, _Plan


class Plain(Source):
    """Items that are their own numbers; some are damaged."""

    digest = "plain"

    def __init__(self, items: int, bad: tuple[int, ...] = ()) -> None:
        self.items, self.bad = items, bad

    def __len__(self) -> int:
        return self.items

    def sample(self, item: int, read: Read) -> dict[str, Any]:
        if item in self.bad:
            raise DamagedSample("shard.tar", self.key(item), "made so")
        return {"value": torch.tensor(item)}

    def id(self, item: int) -> int:
        return item

    def key(self, item: int) -> str:
        return f"key{item}"


def make(source: Any, rows: int = 6, **options: Any) -> Stream:
    defaults = {"name": "s", "seed": 3, "block": 4, "window": 16}
    return Stream(source, rows=rows, **{**defaults, **options})


def summed(streams: list[Stream]) -> list[dict[str, Any]]:
    """Every rank's state, its sums taken over all ranks as a collective would."""
    parts: list[torch.Tensor] = []

    def note(mine: torch.Tensor) -> torch.Tensor:
        parts.append(mine)
        raise StopIteration

    for stream in streams:
        with pytest.raises(StopIteration):
            stream.state_dict(note)
    total = torch.stack(parts).sum(0)
    return [stream.state_dict(lambda mine: total) for stream in streams]


def draw(streams: list[Stream], batches: int) -> list[tuple[int, int]]:
    """(position, id) of the next global batches, in rank order."""
    drawn = []
    for _ in range(batches):
        for stream in streams:
            batch = next(stream)
            drawn += list(zip(batch["position"].tolist(), batch["id"].tolist(), strict=True))
    return drawn


def with_loaders(stream: Stream, loaders: int) -> Stream:
    """The stream as so many processes would feed it: each has a copy of the reader and every
    so-manieth share, and they prepare batches that perhaps nobody takes."""
    plan = _Plan(stream.read_ahead, stream.read_ahead_bytes, stream.rows * loaders)
    reader = Reader(stream.source, stream.order, stream.rows, plan)
    copies = [pickle.loads(pickle.dumps(reader)) for _ in range(loaders)]

    def batches() -> Iterator[Any]:
        prepared: deque[Any] = deque()
        for number, share in enumerate(stream._shares()):
            prepared.append(copies[number % loaders].__getitems__(share))
            if len(prepared) > 2 * loaders:
                yield prepared.popleft()

    stream._batches = batches()
    return stream


class Grouped(Plain):
    """Images with captions: an epoch takes one of each."""

    def __init__(self, counts: list[int]) -> None:
        super().__init__(sum(counts))
        self.ends = np.cumsum(counts)

    def order(self, shuffling: Shuffling) -> OneOfEach:
        return OneOfEach(shuffling, self.ends)

    def group(self, item: int) -> int:
        return int(np.searchsorted(self.ends, item, side="right"))


def play(
    source: Source, rows: int, plan: list[tuple[int, int, int]], options: dict[str, Any]
) -> list[tuple[int, int]]:
    """(position, item) of what runs of (workers, loaders, batches) draw, each going on from
    where the last was stopped."""
    drawn, state = [], None
    for workers, loaders, batches in plan:
        streams = [make(source, rows, rank=r, size=workers, **options) for r in range(workers)]
        for stream in streams:
            if state is not None:
                stream.load_state_dict(pickle.loads(pickle.dumps(state)))
            if loaders:
                with_loaders(stream, loaders)
        drawn += draw(streams, batches)
        states = summed(streams)
        assert all(other == states[0] for other in states)
        state = states[0]
    return drawn


runs = st.lists(
    st.tuples(st.integers(1, 8), st.integers(0, 4), st.integers(1, 6)), min_size=1, max_size=5
)
layouts = st.fixed_dictionaries({"block": st.integers(1, 20), "window": st.integers(1, 40)})


@settings(deadline=None, max_examples=60)
@given(items=st.integers(1, 60), rows=st.integers(8, 20), plan=runs, layout=layouts)
def test_the_order_is_one_whatever_the_workers_and_the_interruptions(
    items: int, rows: int, plan: list[tuple[int, int, int]], layout: dict[str, int]
) -> None:
    """Runs of a few batches each at 1 to 8 workers with 0 to 4 loaders each draw what the order
    says, nothing else; so every epoch holds each item once."""
    drawn = play(Plain(items), rows, plan, layout)
    order = Shuffled(Shuffling("s", 3, **layout), items)
    assert drawn == [(p, int(order.epoch(p // items)[p % items])) for p in range(len(drawn))]
    for first in range(0, len(drawn) - items + 1, items):
        assert sorted(i for _, i in drawn[first : first + items]) == list(range(items))


@settings(deadline=None, max_examples=25)
@given(
    counts=st.lists(st.integers(1, 5), min_size=1, max_size=20),
    rows=st.integers(8, 20),
    plan=runs,
    layout=layouts,
)
def test_epochs_of_images_are_exact_too(
    counts: list[int], rows: int, plan: list[tuple[int, int, int]], layout: dict[str, int]
) -> None:
    source = Grouped(counts)
    drawn = play(source, rows, plan, layout)
    assert drawn == play(source, rows, [(1, 0, sum(b for _, _, b in plan))], layout)
    for first in range(0, len(drawn) - len(counts) + 1, len(counts)):
        groups = [source.group(item) for _, item in drawn[first : first + len(counts)]]
        assert sorted(groups) == list(range(len(counts)))


@settings(deadline=None, max_examples=30)
@given(
    parts=st.lists(st.tuples(st.integers(1, 30), st.integers(1, 5)), min_size=1, max_size=3),
    grouped=st.booleans(),
    rows=st.integers(8, 20),
    plan=runs,
    layout=layouts,
)
def test_mixtures_are_exact_whatever_the_workers_and_the_interruptions(
    parts: list[tuple[int, int]],
    grouped: bool,
    rows: int,
    plan: list[tuple[int, int, int]],
    layout: dict[str, int],
) -> None:
    """Every period holds each part as often as its weight says; every part's own epochs hold
    each of its items once."""
    sources: list[Plain] = [Plain(size) for size, _ in parts]
    if grouped:
        sources[0] = Grouped([2] * parts[0][0])
    given = zip(sources, parts, strict=True)
    source = Mixture([Part(s, weight, len(s)) for s, (_, weight) in given])
    drawn = play(source, rows, plan, layout)
    assert drawn == play(source, rows, [(1, 0, sum(b for _, _, b in plan))], layout)
    ends = np.cumsum([len(s) for s in sources])
    part = np.searchsorted(ends, [item for _, item in drawn], side="right")
    divisor = math.gcd(*(weight for _, weight in parts))
    period = sum(weight for _, weight in parts) // divisor
    for first in range(0, len(drawn) - period + 1, period):
        found = np.bincount(part[first : first + period], minlength=len(parts))
        assert found.tolist() == [weight // divisor for _, weight in parts]
    for number, (size, _) in enumerate(parts):
        own = [item - int(ends[number]) + len(sources[number]) for _, item in drawn]
        own = [item for item, p in zip(own, part, strict=True) if p == number]
        groups = [item // 2 if grouped and number == 0 else item for item in own]
        for first in range(0, len(groups) - size + 1, size):
            assert sorted(groups[first : first + size]) == list(range(size))


@pytest.mark.parametrize("size", [1, 2, 4])
def test_damage_in_a_mixture_is_the_same_on_any_number_of_ranks(size: int) -> None:
    """The substitute is one of the same part, chosen by the position, whoever reads it."""
    parts = [Part(Plain(30, bad=(3, 4, 5, 29)), 2, 30), Part(Plain(9, bad=(1,)), 1, 9)]
    source = Mixture(parts)
    options = {"max_bad_samples": 5}
    streams = [make(source, 9, rank=r, size=size, **options) for r in range(size)]
    drawn = draw(streams, 12)
    order = streams[0].order
    for position, item in drawn:
        planned = int(order.item_at(np.array([position]))[0])
        others = [i for i in order.substitutes(position, 64).tolist() if i not in BAD]
        assert item == (others[0] if planned in BAD else planned)
        assert (item < 30) == (planned < 30)
    states = summed(streams)
    assert [state["bad"] for state in states] == [states[0]["bad"]] * size
    assert sum(n for _, _, n in states[0]["bad"]) <= 5
    names = {name for stream in streams for name in stream.bad}
    assert names == {f"shard.tar: key{i}: made so" for i in (3, 4, 5, 29, 1)}
    with pytest.raises(TooManyBadSamples, match="max_bad_samples=4"):
        tight = [make(source, 9, rank=r, size=size, max_bad_samples=4) for r in range(size)]
        for _ in range(12):
            draw(tight, 1)
            summed(tight)


BAD = {3, 4, 5, 29, 31}


def test_shares_are_balanced_and_weigh_one_together() -> None:
    streams = [make(Plain(50), rows=11, rank=r, size=4) for r in range(4)]
    batches = [next(stream) for stream in streams]
    sizes = [len(batch["key"]) for batch in batches]
    assert sum(sizes) == 11 and max(sizes) - min(sizes) <= 1
    assert sum(float(b["weight"].sum()) for b in batches) == pytest.approx(1, abs=1e-15)
    assert all(batch["weight"].dtype == torch.float64 for batch in batches)
    assert [k for b in batches for k in b["key"]] == [f"key{i}" for b in batches for i in b["id"]]


@pytest.fixture
def pairs(written: Callable[..., Path]) -> CaptionedImages:
    dataset = Dataset.open(written())
    return CaptionedImages(dataset.split("train"), dataset.vocabulary, 6, image_size=16)


def test_loaders_change_nothing(pairs: CaptionedImages) -> None:
    """Two reading processes, stopped and resumed with batches prepared that nobody took."""
    plain, ahead = make(pairs), make(pairs, loaders=2)
    before = torch.get_rng_state()
    expected, found = [next(plain) for _ in range(20)], [next(ahead) for _ in range(5)]
    state = ahead.state_dict()
    assert state["consumed"] == 30
    ahead.close()
    again = make(pairs, loaders=1)
    again.load_state_dict(state)
    found += [next(again) for _ in range(15)]
    assert torch.equal(before, torch.get_rng_state())
    assert again.state_dict() == plain.state_dict()
    again.close()
    for a, b in zip(expected, found, strict=True):
        assert a.keys() == b.keys()
        for name, value in a.items():
            same = torch.equal(value, b[name]) if isinstance(value, torch.Tensor) else True
            assert same and a["key"] == b["key"], name


def test_captions_come_with_their_image_and_style(pairs: CaptionedImages) -> None:
    split, words = pairs.split, pairs.vocabulary
    seen = Counter()
    for batch in islice(make(pairs, rows=len(pairs)), 1):
        for row in range(len(pairs)):
            i = int(batch["id"][row])
            style = (*split.dataset.styles, None)[int(batch["style"][row])]
            said = words.decode(batch["words"][row].tolist())
            texts = [c.text for c in split.captions(i) if c.style == style]
            assert said in [words.decode(words.encode(text, 6)) for text in texts]
            assert torch.equal(batch["image"][row], split.image(i, 16))
            assert batch["key"][row] == split.key(i)
            seen[i, said, style] += 1
    assert set(seen.values()) == {1} and len(seen) == sum(
        len(split.captions(i)) for i in range(len(split))
    )


def test_styles_and_limit_choose_captions(pairs: CaptionedImages) -> None:
    split, words = pairs.split, pairs.vocabulary
    cheerful = CaptionedImages(split, words, 6, styles="cheerful")
    assert [cheerful.id(i) for i in range(len(cheerful))] == list(range(0, 23, 3))
    factual = CaptionedImages(split, words, 6, styles=("factual",))
    assert len(factual) == 46 and "image" not in factual[0]
    assert len(CaptionedImages(split, words, 6, limit=5)) == 5
    with pytest.raises(ValueError, match=r"no style \['sad'\].*cheerful"):
        CaptionedImages(split, words, 6, styles="sad")


def test_lines_and_images(pairs: CaptionedImages) -> None:
    lines = Lines({"cheerful": ["what a lovely day", "oh joy"]}, pairs.vocabulary, 3)
    batch = next(make(lines, rows=2))
    assert sorted(batch["key"]) == ["cheerful:1", "cheerful:2"]
    assert batch["words"].shape == (2, 3) and batch["style"].tolist() == [0, 0]
    assert "image" not in next(make(Images(pairs.split), rows=2))
    pictures = Images(pairs.split, 16)
    assert sorted(next(make(pictures, rows=23))["id"].tolist()) == list(range(23))


def test_bad_samples_are_counted_named_replaced_and_bounded(
    caplog: pytest.LogCaptureFixture,
) -> None:
    streams = [make(Plain(40, bad=(7, 19)), 8, rank=r, size=2, max_bad_samples=2) for r in range(2)]
    drawn = draw(streams, 5)
    order = Shuffled(Shuffling("s", 3, 4, 16), 40)
    for position, item in drawn:
        planned = int(order.epoch(0)[position])
        if planned in (7, 19):
            others = [i for i in order.substitutes(position, 64).tolist() if i not in (7, 19)]
            assert item == others[0]
        else:
            assert item == planned
    assert "s: another takes the place of shard.tar: key7: made so" in caplog.messages
    assert sorted(name for s in streams for name in s.bad) == [
        "shard.tar: key19: made so",
        "shard.tar: key7: made so",
    ]
    assert summed(streams)[0]["bad"] == [[0, 0, 2]]
    with pytest.raises(TooManyBadSamples, match=r"max_bad_samples=0.*shard.tar: key(7|19)"):
        draw([make(Plain(40, bad=(7, 19)), 8)], 5)


def test_the_bound_holds_over_all_workers_together() -> None:
    """Each worker alone stays within the bound; the sum does not."""
    bad = tuple(range(20))
    for bound, fits in ((20, True), (19, False)):
        streams = [make(Plain(40, bad), 8, rank=r, size=8, max_bad_samples=bound) for r in range(8)]
        draw(streams, 5)
        if fits:
            assert summed(streams)[0]["bad"] == [[0, 0, 20]]
        else:
            with pytest.raises(TooManyBadSamples, match="20 bad samples"):
                summed(streams)


def test_a_source_without_a_good_sample_stops_the_run() -> None:
    with pytest.raises(TooManyBadSamples, match="others tried in its place"):
        next(make(Plain(5, bad=(0, 1, 2, 3, 4)), max_bad_samples=1000))


def test_reading_is_tried_again_then_fatal(
    pairs: CaptionedImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("distgan.data.folder._READ_WAITS", (0.0, 0.0))
    read, failures = ArrowStorage.read_at, [2]

    def fail(self: ArrowStorage, name: str, offset: int, size: int) -> bytes:
        failures[0] -= 1
        if failures[0] >= 0:
            raise OSError("the network is away")
        return read(self, name, offset, size)

    monkeypatch.setattr(ArrowStorage, "read_at", fail)
    stream = make(pairs)
    assert len(next(stream)["key"]) == 6 and stream.bad == []
    failures[0] = 3
    with pytest.raises(OSError, match=r"tar: not readable in 3 tries: the network is away"):
        next(stream)


def test_a_state_resumes_only_what_it_was_taken_from() -> None:
    stream = make(Plain(10))
    next(stream)
    state = stream.state_dict()
    for change, error in (
        ({"seed": 4}, "seed was 3 when saved, now 4"),
        ({"name": "t"}, "name was 's'"),
        ({"window": 8}, "window"),
    ):
        with pytest.raises(ValueError, match=error):
            make(Plain(10), **change).load_state_dict(state)
    with pytest.raises(ValueError, match="items was 10"):
        make(Plain(11)).load_state_dict(state)
    for wrong in ({"consumed": 5}, {"digest": state["digest"] ^ 1}):
        with pytest.raises(ValueError, match="digest is not that of positions"):
            make(Plain(10)).load_state_dict(state | wrong)


def test_what_was_given_out_is_checked_against_the_order() -> None:
    """A worker that lost a share or read one twice cannot save a state."""
    streams = [make(Plain(10), rank=r, size=2) for r in range(2)]
    draw(streams, 2)
    next(streams[0])
    with pytest.raises(AssertionError):
        summed(streams)


def test_more_workers_than_rows_is_an_error() -> None:
    with pytest.raises(ValueError, match="3 rows cannot feed 4 workers"):
        make(Plain(10), rows=3, size=4)
