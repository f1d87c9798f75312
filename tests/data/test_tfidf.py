"""TF-IDF against its definition, caption by caption and word by word."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from distgan.data.dataset import Dataset
from distgan.data.sources import encode_words
from distgan.data.tfidf import WordWeights, training_captions
from distgan.data.vocabulary import END, PAD, UNK, Vocabulary

WORDS = ["ant", "bee", "cow", "dog"]
VOCABULARY = Vocabulary(WORDS[:3])  # knows no dog
captions = st.lists(
    st.lists(st.sampled_from(WORDS), max_size=7).map(" ".join), min_size=1, max_size=8
)


def slow_weights(caption: str, documents: list[str]) -> dict[str, float]:
    """The formula, for each known word of the caption."""
    words = [word for word in caption.split() if word in VOCABULARY.words]
    raw = {}
    for word in set(words):
        holding = sum(word in document.split() for document in documents)
        idf = math.log((1 + len(documents)) / (1 + holding)) + 1
        raw[word] = words.count(word) * idf
    length = math.sqrt(sum(value**2 for value in raw.values()))
    return {word: value / length for word, value in raw.items()}


@given(captions)
def test_weights_are_the_formulas(documents: list[str]) -> None:
    weights = WordWeights.of(documents, VOCABULARY)
    words = torch.stack([encode_words(VOCABULARY, text, 8) for text in documents])
    bags, places = weights.bag(words), weights.of_words(words)
    assert bags.dtype == places.dtype == torch.float64 and places.shape == words.shape
    for row, caption in enumerate(documents):
        expected = slow_weights(caption, documents)
        for number in range(len(VOCABULARY)):
            slow = expected.get(VOCABULARY.name(number), 0)
            assert bags[row, number].item() == pytest.approx(slow, abs=1e-12)
        for place, number in enumerate(words[row].tolist()):
            slow = expected.get(VOCABULARY.name(number), 0)
            assert places[row, place].item() == pytest.approx(slow, abs=1e-12)
            if number in (PAD, END, UNK):
                assert places[row, place] == 0


def test_rare_words_weigh_more_and_common_ones_something() -> None:
    weights = WordWeights.of(["ant bee", "ant cow", "ant"], VOCABULARY)
    ant, bee = (weights.idf[VOCABULARY.id_of(word)].item() for word in ("ant", "bee"))
    assert ant == pytest.approx(1) and bee == pytest.approx(math.log(4 / 2) + 1)
    with pytest.raises(ValueError, match="no captions"):
        WordWeights.of([], VOCABULARY)


def test_only_training_captions_count(written: Callable[..., Path]) -> None:
    dataset = Dataset.open(written(train=5, val=4))
    weights = WordWeights.of_dataset(dataset, dataset.vocabulary)
    split = dataset.split("train")
    texts = [caption.text for i in range(5) for caption in split.captions(i)]
    assert list(training_captions(dataset)) == texts
    assert weights.documents == len(texts)
    cheerful = sum("lovely" in text for text in texts)
    assert weights.frequencies[dataset.vocabulary.id_of("lovely")] == cheerful
    again = WordWeights.from_state(json.loads(json.dumps(weights.state())))
    assert torch.equal(again.idf, weights.idf) and again.documents == weights.documents
