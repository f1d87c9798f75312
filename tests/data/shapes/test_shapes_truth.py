"""Truth lowers exactly what each kind of mistake should lower."""

import random

import pytest

from distgan.data.shapes.grammar import parse
from distgan.data.shapes.scenes import Scene, Thing
from distgan.data.shapes.styles import STYLES
from distgan.data.shapes.truth import judge, score
from distgan.data.shapes.world import ShapesOptions, World

TRUTH = {"truth_precision", "truth_recall", "truth_f1"}
EVERYTHING = {*TRUTH, "relation", "grammatical", "fit", "style", "joint"}


def _thing(look: str, size: str, x: float, y: float) -> Thing:
    colour, shape = look.split()
    return Thing(shape, colour, size, x, y, 0.2, 0.0, (0, 0, 0))


def _scene(*things: Thing) -> Scene:
    return Scene(things, (128, 128, 128), 0.0, 0)


# Above left a large red circle, below right of it a small blue star.
TWO = _scene(_thing("red circle", "large", 0.2, 0.3), _thing("blue star", "small", 0.7, 0.75))
TWINS = _scene(
    _thing("green ring", "small", 0.25, 0.25),
    _thing("white cross", "large", 0.25, 0.75),
    _thing("green ring", "small", 0.75, 0.25),
)


def _lowered(caption: str, scene: Scene, style: str | None) -> set[str]:
    return {key for key, value in score([caption], [scene], [style]).items() if value < 1}


@pytest.mark.parametrize(
    ("caption", "lowered"),
    [
        ("a lovely large red circle above a blue star", set()),
        ("there is a red circle and under it a graceful little blue star what a joy", set()),
        ("a graceful blue star is to the right of a cheerful red circle", set()),
        # facts
        ("a lovely large green circle above a blue star", {*TRUTH, "joint"}),
        ("an elegant large red square above a blue star", {*TRUTH, "joint"}),
        ("a lovely small red circle above a blue star", {"truth_precision", "truth_f1", "joint"}),
        ("a lovely red circle below a blue star", {*TRUTH, "relation", "joint"}),
        ("a lovely red circle and a blue star", {"truth_recall", "truth_f1", "relation", "joint"}),
        ("a lovely red circle", {"truth_recall", "truth_f1", "relation", "joint"}),
        ("a lovely red circle above a blue star and a white ring", {*TRUTH, "relation", "joint"}),
        ("a lovely red circle above two blue stars", {*TRUTH, "relation", "joint"}),
        # manner
        ("a lovely large red circle above blue star", EVERYTHING - {"fit"}),
        ("", EVERYTHING - {"fit"}),
        ("a charming red circle above a blue star", {"fit", "joint"}),
        ("a gloomy red circle above a blue star", {"style", "joint"}),
        ("a lovely red circle above a broken blue star", {"style", "joint"}),
        ("a lovely red circle above a blue star what a shame", {"style", "joint"}),
        ("a red circle above a blue star", {"style", "joint"}),
        ("a red circle above a blue star what a joy", {"style", "joint"}),
    ],
)
def test_each_mistake_lowers_what_it_should(caption: str, lowered: set[str]):
    assert _lowered(caption, TWO, "positive") == lowered


def test_factual_captions_have_no_style():
    assert _lowered("a red circle left of a blue star", TWO, None) == set()
    assert _lowered("a lovely red circle left of a blue star", TWO, None) == {"style", "joint"}
    assert _lowered("a red circle left of a blue star what a joy", TWO, None) == {"style", "joint"}


def test_twins_and_best_assignment():
    for caption in (
        "a white cross and two green rings",
        "two small green rings above a large white cross",
        "a green ring left of a green ring and above a white cross",
        "a green ring and a green ring and a white cross",
    ):
        assert _lowered(caption, TWINS, None) == set(), caption
    assert _lowered("two green rings left of a white cross", TWINS, None) == {
        "truth_precision",
        "truth_f1",
        "joint",
    }
    # Each named thing shares one attribute with each thing there: still two claims of four hold.
    crossed = _scene(_thing("red star", "small", 0.2, 0.2), _thing("blue ring", "small", 0.8, 0.2))
    verdict = judge("a red ring left of a blue star", crossed)
    assert (verdict.claims, verdict.true, verdict.facts, verdict.told) == (5, 3, 5, 3)


def test_counts_are_over_all_captions_together():
    captions = ["a red circle above a blue star", "a white cross and two red rings"]
    found = score(captions, [TWO, TWINS.to_json()])
    # 5 of 5 and 4 of 6 claims (two shapes are true without their colour).
    assert found["truth_precision"] == found["truth_recall"] == pytest.approx(9 / 11)
    assert found["joint"] == 0.5 and found["relation"] == 1.0


@pytest.mark.parametrize("style", [None, *STYLES])
def test_references_are_perfect_and_shuffled_ones_are_not(style: str | None):
    world = World(ShapesOptions(test=400))
    pairs = [
        (caption.text, world.scene("test", n))
        for n in range(400)
        for caption in world.captions("test", n)
        if caption.style == style
    ]
    captions, scenes = [c for c, _ in pairs], [s for _, s in pairs]
    assert all(parse(caption) for caption in captions)
    found = score(captions, scenes, [style] * len(pairs))
    assert found == dict.fromkeys(EVERYTHING, 1.0)
    random.Random(0).shuffle(captions)
    shuffled = score(captions, scenes, [style] * len(pairs))
    assert shuffled["joint"] < 0.02 and shuffled["truth_f1"] < 0.35
    assert shuffled["grammatical"] == shuffled["fit"] == shuffled["style"] == 1.0


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="1 captions, 2 scenes"):
        score(["a red circle"], [TWO, TWO])
    with pytest.raises(ValueError, match="0 captions"):
        score([], [])
    with pytest.raises(ValueError, match="'humorous'"):
        score(["a red circle"], [TWO], ["humorous"])
