"""The judge of style: right where styles differ, honest where they do not, never random."""

import json
from pathlib import Path

import pytest
import torch

from distgan.metrics.captions import tokenise_plain
from distgan.metrics.style import StyleClassifier
from distgan.randomness import Draw, uniforms

SENTICAP = Path(__file__).resolve().parents[2] / "../shared/data/senticap/data"
NOUNS = [
    f"{colour} {noun}" for colour in ("red", "blue", "green") for noun in ("cat", "dog", "car")
]
STYLED = [
    (f"a {adjective} {noun}", style)
    for style, adjectives in (
        ("negative", ("ugly", "bad", "sad")),
        ("positive", ("nice", "good", "fine")),
    )
    for adjective in adjectives
    for noun in NOUNS
]
TEXTS, STYLES = [text for text, _ in STYLED], [style for _, style in STYLED]


def test_styles_that_differ_are_told_apart():
    judge = StyleClassifier.fit(TEXTS, STYLES)
    assert judge.styles == ["negative", "positive"]
    assert judge.held_out == 1
    assert judge.predict(["a nice tree", "an ugly tree"]) == ["positive", "negative"]
    found = judge.score(["a nice cat", "a bad cat", "a sad cat"], ["positive"] * 2 + ["negative"])
    assert found.by_style == {"negative": 1.0, "positive": 0.5}
    assert found.accuracy == pytest.approx(2 / 3)
    assert found.held_out == 1


def test_styles_that_do_not_differ_are_not():
    texts = [f"a {noun} {place}" for noun in NOUNS for place in range(20)]
    coins = uniforms(Draw(0, 1, 0), torch.arange(len(texts))) < 0.5
    styles = ["positive" if coin else "negative" for coin in coins]
    assert 0.25 < StyleClassifier.fit(texts, styles).held_out < 0.75


def test_fitting_is_not_random():
    first, second = StyleClassifier.fit(TEXTS, STYLES), StyleClassifier.fit(TEXTS, STYLES)
    captions = ["a nice cat", "a tree", ""]
    assert torch.equal(first.probabilities(captions), second.probabilities(captions))
    order = sorted(range(len(TEXTS)), key=lambda n: TEXTS[n][::-1])
    mixed = StyleClassifier.fit([TEXTS[n] for n in order], [STYLES[n] for n in order])
    torch.testing.assert_close(mixed.probabilities(captions), first.probabilities(captions))


def test_a_style_with_more_texts_is_not_preferred():
    more = TEXTS + [f"a good {noun} {n}" for noun in NOUNS for n in range(20)]
    judge = StyleClassifier.fit(more, STYLES + ["positive"] * (len(more) - len(TEXTS)))
    assert judge.probabilities([""])[0].tolist() == pytest.approx([0.5, 0.5], abs=0.25)
    assert judge.predict(["a sad car"]) == ["negative"]


def test_held_out_texts_teach_nothing_even_under_another_style():
    # A text of both styles is ambiguous: no judge that has not seen it can tell which is meant.
    texts = TEXTS + TEXTS
    styles = STYLES + ["factual"] * len(TEXTS)
    assert StyleClassifier.fit(texts, styles).held_out < 0.9


@pytest.mark.parametrize(
    ("texts", "styles", "message"),
    [
        (["a cat", "a dog"], ["factual", "factual"], "two styles or more"),
        (["a", "b", "c"], ["factual", "factual", "sad"], "style 'sad' has 1 text"),
    ],
)
def test_too_little_to_learn_from(texts, styles, message):
    with pytest.raises(ValueError, match=message):
        StyleClassifier.fit(texts, styles)


def test_an_unknown_style_is_named():
    with pytest.raises(ValueError, match="style 'romantic' is none of"):
        StyleClassifier.fit(TEXTS, STYLES).score(["a cat"], ["romantic"])


@pytest.mark.skipif(not SENTICAP.exists(), reason="needs SentiCap")
def test_senticap():
    images = json.loads((SENTICAP / "senticap_dataset.json").read_text())["images"]
    said = [sentence for image in images for sentence in image["sentences"]]
    texts = tokenise_plain([sentence["raw"] for sentence in said])
    styles = ["positive" if sentence["sentiment"] else "negative" for sentence in said]
    assert StyleClassifier.fit(texts, styles).held_out > 0.98
