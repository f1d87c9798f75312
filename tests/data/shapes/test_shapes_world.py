"""What the world holds: splits, naming order, styles, unseen looks, wrong captions, pictures."""

import io
import json
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from distgan.data.importers.shapes import Shapes, ShapesOptions
from distgan.data.shapes.drawing import picture
from distgan.data.shapes.grammar import MAX_WORDS, Meaning, parse
from distgan.data.shapes.scenes import (
    COLOURS,
    SHAPES,
    UNSEEN,
    Scene,
    Thing,
    has_unseen,
    salience,
)
from distgan.data.shapes.styles import ADJECTIVES, FITTING, STYLES, ZIPF_WEIGHTS
from distgan.data.shapes.telling import alike
from distgan.data.shapes.truth import score
from distgan.data.shapes.world import World

SMALL = ShapesOptions(images=40, styled=10, unlabelled=10, val=10, test=20, lines=50)


def _meaning(caption: str) -> Meaning:
    meaning = parse(caption)
    assert meaning is not None, caption
    return meaning


def test_the_same_whatever_is_asked_first():
    one, other = Shapes(SMALL), Shapes(SMALL)
    for split in one.splits:
        forwards = list(one.samples(split))
        assert len(forwards) == one.num_samples(split)
        backwards = [other.sample(split, n) for n in reversed(range(len(forwards)))]
        assert forwards == backwards[::-1]
    assert one.texts() == other.texts()


def test_more_samples_leave_the_first_ones_alone_and_seeds_differ():
    few, more = World(SMALL), World(ShapesOptions())
    assert few.scene("train", 3) == more.scene("train", 3)
    assert few.captions("train", 3) == more.captions("train", 3)
    seeded = World(ShapesOptions(seed=1))
    assert seeded.scene("train", 3) != more.scene("train", 3)
    assert more.scene("train", 3) != more.scene("test", 3)


def test_known_captions():
    """Datasets made today and tomorrow are the same; changing them is a decision."""
    world = World(ShapesOptions())
    assert [c.text for c in world.captions("train", 7)] == [
        "there is a large orange square to the right of a little white triangle",
        "there is a white triangle and below it an orange square",
        "a little white triangle left of a large orange square",
    ]
    assert world.line("positive", 5) == (
        "a small yellow star above a small red square and a cheerful little blue circle"
    )


def test_samples_hold_what_the_splits_promise():
    shapes = Shapes(SMALL)
    expected = {
        "train": Counter({None: 3}),
        "unlabelled": Counter(),
        "val": Counter({None: 3, "positive": 3, "negative": 3}),
        "test": Counter({None: 3, "positive": 3, "negative": 3}),
    }
    for split in shapes.splits:
        for n, sample in enumerate(shapes.samples(split)):
            if split != "styled":
                assert Counter(c.style for c in sample.captions) == expected[split]
            else:
                assert [c.style for c in sample.captions] == [STYLES[n % 2]]
            scene = Scene.from_json(json.loads(json.dumps(sample.facts["scene"])))
            assert scene.to_json() == sample.facts["scene"]
            image = Image.open(io.BytesIO(sample.image))
            assert (image.format, image.size) == ("JPEG", (64, 64))
    assert {style: len(lines) for style, lines in shapes.texts().items()} == {
        "positive": 50,
        "negative": 50,
    }


def test_captions_are_short_and_differ():
    world = World(ShapesOptions())
    repeated = 0
    for n in range(500):
        texts = [c.text for c in world.captions("test", n)]
        assert max(len(text.split()) for text in texts) <= MAX_WORDS
        repeated += len(texts) - len(set(texts))
    assert repeated == 0


def test_salience_order_nine_times_in_ten():
    world = World(ShapesOptions())
    in_order, several = 0, 0
    for n in range(1500):
        groups = [group[0].look for group in alike(world.scene("train", n))]
        if len(groups) > 1:
            for caption in world.captions("train", n):
                named = [(g.colour, g.shape) for g in _meaning(caption.text).groups]
                in_order += named == groups
                several += 1
    assert several > 2000
    assert abs(in_order / several - 0.9) < 0.03  # long sentences are drawn anew


def test_large_things_come_first_then_reading_order():
    def at(size: str, x: float, y: float) -> Thing:
        return Thing("star", "red", size, x, y, 0.1, 0.0, (0, 0, 0))

    order = [
        at("large", 0.2, 0.3),
        at("large", 0.8, 0.2),
        at("large", 0.2, 0.7),
        at("small", 0.9, 0.2),
        at("small", 0.3, 0.7),
    ]
    assert sorted(reversed(order), key=salience) == order


def test_unseen_looks_never_occur_in_training():
    assert len(UNSEEN) == len(set(UNSEEN)) == 8
    shapes = Shapes(ShapesOptions(wrong=0.3))
    world = World(shapes.options)
    captions = [c.text for n in range(2000) for c in world.captions("train", n)]
    captions += [c.text for n in range(240) for c in world.captions("styled", n)]
    captions += [line for lines in shapes.texts().values() for line in lines]
    looks = Counter((g.colour, g.shape) for c in captions for g in _meaning(c).groups)
    assert not set(looks) & set(UNSEEN)
    assert len(looks) == len(COLOURS) * len(SHAPES) - 8
    tested = Counter(t.look for n in range(1000) for t in world.scene("test", n).things)
    assert set(UNSEEN) <= set(tested)
    share = sum(has_unseen(world.scene("test", n)) for n in range(1000)) / 1000
    assert abs(share - 0.2) < 0.04


def test_adjectives_follow_zipf_and_scarce_pairs_miss_some():
    rows = [words for style in STYLES for words in FITTING[style].values()]
    assert [len(ADJECTIVES[style]) for style in STYLES] == [12, 12]
    assert set(Counter(word for row in rows for word in row).values()) == {2}
    shapes = Shapes(ShapesOptions())
    for style, lines in shapes.texts().items():
        pairs = Counter(pair for line in lines for pair in _meaning(line).adjectives)
        for shape in SHAPES:
            counts = np.array([pairs[adjective, shape] for adjective in FITTING[style][shape]])
            expected = np.array(ZIPF_WEIGHTS) / sum(ZIPF_WEIGHTS)
            error = np.sqrt(expected * (1 - expected) / counts.sum())
            assert np.all(np.abs(counts / counts.sum() - expected) < 4 * error)
    world = World(shapes.options)
    seen = {
        pair
        for n in range(240)
        for caption in world.captions("styled", n)
        for pair in _meaning(caption.text).adjectives
    }
    assert 30 < len(seen) < 48  # of 2 styles x 6 shapes x 4 adjectives


@pytest.mark.parametrize("wrong", [0.0, 0.1, 0.3])
def test_share_of_wrong_captions(wrong: float):
    world = World(ShapesOptions(wrong=wrong))
    captions, scenes = [], []
    for n in range(1000):
        for caption in world.captions("train", n):
            captions.append(caption.text)
            scenes.append(world.scene("train", n))
    found = score(captions, scenes)
    assert found["grammatical"] == 1.0
    assert abs(1 - found["joint"] - wrong) < 0.03 * (wrong > 0) + 1e-12
    clean = World(ShapesOptions())
    assert world.captions("test", 5) == clean.captions("test", 5)
    assert world.scene("train", 5) == clean.scene("train", 5)


@pytest.mark.parametrize("size", [32, 64, 256])
def test_pictures_show_the_things_apart(size: int):
    world = World(ShapesOptions(noisy=0.0))
    for n in range(60):
        scene = world.scene("test", n)
        pixels = picture(scene, size).astype(int)
        owner = np.abs(pixels - np.array(scene.background)).max(2) > 0
        assert not owner.all()
        for thing in scene.things:
            alone = picture(Scene((thing,), scene.background, 0.0, 0), size).astype(int)
            covered = np.abs(alone - np.array(scene.background)).max(2) > 0
            assert (pixels[covered] == alone[covered]).all()  # nothing lies over it
            assert covered.mean() > (0.012 if thing.size == "small" else 0.04)
            owner &= ~covered
        assert not owner.any()


def test_noise_is_in_the_background_only_and_in_half_of_the_pictures():
    world = World(ShapesOptions())
    noisy = [world.scene("train", n) for n in range(1000) if world.scene("train", n).noise]
    assert abs(len(noisy) / 1000 - 0.5) < 0.05
    scene = noisy[0]
    pixels = picture(scene, 64)
    background = picture(Scene((), scene.background, scene.noise, scene.grain), 64)
    spread = background.astype(float).std()
    assert abs(spread - scene.noise / 3**0.5) < 6
    thing = scene.things[0]
    assert tuple(pixels[(pixels == thing.rgb).all(2)][0]) == thing.rgb


@pytest.mark.parametrize(
    ("key", "value"),
    [("size", 31), ("size", 257), ("captions", 0), ("captions", 6), ("wrong", 1.5), ("lines", -1)],
)
def test_options_outside_their_range_are_named(key: str, value: float):
    with pytest.raises(ValueError, match=rf"{key} must be .*{value}"):
        ShapesOptions(**{key: value})


def test_numbers_outside_a_split_are_named():
    shapes = Shapes(SMALL)
    with pytest.raises(IndexError, match="split train has 40 pictures, asked for 40"):
        shapes.sample("train", 40)
    with pytest.raises(ValueError, match=r"split must be one of .*'dev'"):
        shapes.num_samples("dev")
