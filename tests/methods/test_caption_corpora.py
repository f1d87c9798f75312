"""Datasets, styles, words and regions of a run, and the streams over them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from tiny_captioning import tiny
from torch import Tensor

from distgan.data.dataset import Dataset
from distgan.engine.world import World
from distgan.methods.caption_corpora import Corpora, corpus_of, read_style

T = 12


def opened(data: Path, *overrides: str) -> Corpora:
    corpora = Corpora(tiny(data, *overrides), World.local(), max_length=T)
    corpora.see_with(mean_colours)
    return corpora


def mean_colours(images: Tensor) -> Tensor:
    """One region of three channels."""
    return images.float().mean((2, 3))[:, None]


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    path = tmp_path / "grand.txt"
    path.write_text("a most splendiferous circle\n\n  behold the square\n")
    return path


def test_styles_are_numbered_as_in_the_styled_dataset(shapes, plain, lines):
    for path in (shapes, plain):
        corpora = opened(path, f"data.styled={shapes}")
        assert corpora.styles == (*Dataset.open(shapes).styles, "factual")
        assert corpora.factual == 2
        assert corpora.asked == (0, 1)
        one = opened(path, f"data.styled={shapes}", "data.style=positive")
        assert one.asked_names == ("positive",) and one.styles == corpora.styles
    own = opened(shapes, f"data.style={lines}")
    assert own.styles == (*corpora.styles, "grand")
    assert own.asked == (3,) and own.factual == 2
    without = opened(plain, f"data.style={lines}")
    assert without.styles == ("factual", "grand") and without.asked == (1,)


def test_lines_are_those_of_the_styles_asked_for(shapes, lines):
    assert set(opened(shapes).lines) == {"positive", "negative"}
    assert set(opened(shapes, "data.style=negative").lines) == {"negative"}
    own = opened(shapes, f"data.style={lines}")
    assert own.lines == {"grand": ["a most splendiferous circle", "behold the square"]}
    assert not own.has_pairs
    batch = next(own.stream("generator/text", 4))
    assert set(batch["style"].tolist()) == {3}


def test_pairs_are_looked_for_where_the_config_says(shapes):
    assert opened(shapes).has_pairs
    assert not opened(shapes, "data.styled_split=train").has_pairs


def test_the_vocabulary_has_every_word_once(shapes, plain, lines):
    """The first dataset's words first, so that one more dataset renumbers none of them."""
    first, second = Dataset.open(plain).vocabulary, Dataset.open(shapes).vocabulary
    corpora = opened(plain, f"data.styled={shapes}", f"data.style={lines}")
    words = corpora.vocabulary.words
    assert words[: len(first)] == first.words
    assert set(words) == {*first.words, *second.words, "most", "splendiferous", "behold"}
    assert len(set(words)) == len(words)
    assert opened(shapes).vocabulary == second


def test_streams_give_what_their_name_says(shapes):
    corpora = opened(shapes, "data.style=positive")
    vocabulary = corpora.vocabulary
    for name, has_words, has_image in (
        ("generator/factual_images", True, True),
        ("generator/factual", True, False),
        ("generator/styled", True, False),
        ("generator/text", True, False),
        ("generator/images", False, False),
    ):
        batch = next(corpora.stream(name, 5))
        assert ("words" in batch, "image" in batch) == (has_words, has_image), name
        if has_words:
            assert batch["words"].shape == (5, T) and "<unk>" not in vocabulary.decode(
                batch["words"].flatten().tolist()
            )
        if has_image:
            assert batch["image"].shape == (5, 3, 32, 32)
    assert corpus_of("generator/styled") == "styled"


@pytest.mark.parametrize("corpus", ["factual_images", "factual", "styled", "text", "images"])
def test_overfit_keeps_to_the_first_samples(corpus, shapes):
    stream = opened(shapes, "overfit=3").stream(f"generator/{corpus}", 4)
    seen = {(int(i), *words) for _ in range(6) for i, words in ids_and_words(next(stream))}
    assert len(seen) == 3
    assert max(i for i, *_ in seen) <= 2


def ids_and_words(batch: dict) -> list[tuple[int, list[int]]]:
    rows = len(batch["id"])
    words = batch["words"].tolist() if "words" in batch else [[]] * rows
    return list(zip(batch["id"].tolist(), words, strict=True))


def test_learners_have_streams_of_their_own(shapes):
    corpora = opened(shapes)
    one, other = (next(corpora.stream(f"{who}/images", 48)) for who in ("generator", "critic"))
    assert sorted(one["id"].tolist()) == sorted(other["id"].tolist()) == list(range(48))
    assert not torch.equal(one["id"], other["id"])


def test_regions_are_those_of_the_corpus_images(shapes):
    corpora = opened(shapes)
    for corpus, split in (("styled", "styled"), ("factual", "train"), ("images", "train")):
        images = corpora.dataset.split(split)
        ids = torch.tensor([7, 0, 7])
        expected = mean_colours(torch.stack([images.image(int(i), 32) for i in ids]))
        assert torch.equal(corpora.regions(corpus, ids), expected), corpus
    text = corpora.regions("text", torch.tensor([5, 6]))
    assert text.shape == (2, 1, 3) and not text.any()
    assert [corpora.has_pictures(name) for name in ("styled", "text")] == [True, False]


def test_corpora_over_the_same_images_share_their_regions(shapes):
    corpora = opened(shapes)
    corpora.regions("factual", torch.tensor([0]))
    assert corpora.features(corpora.album("images").splits[0]) is corpora.features(
        corpora.album("factual").splits[0]
    )
    assert corpora.features(corpora.album("styled").splits[0]) is not corpora.features(
        corpora.album("factual").splits[0]
    )


def test_pictured_images_are_validation_images_that_can_be_read(shapes, tmp_path):
    corpora = opened(shapes)
    val = corpora.styled.split("val")
    shown = corpora.pictured(3)
    assert list(shown) == [val.key(i) for i in range(3)]
    assert all(torch.equal(shown[val.key(i)], val.image(i, 32)) for i in range(3))
    broken = tmp_path / "broken"
    shutil.copytree(shapes, broken)
    shard = broken / val.shard(0)
    data = bytearray(shard.read_bytes())
    data[int(val._offsets[1]) + 40] ^= 1
    shard.write_bytes(data)
    assert list(opened(broken).pictured(3)) == [val.key(i) for i in (0, 2, 3)]
    assert len(corpora.pictured(100)) == 8


def test_what_is_pictured_is_not_remembered(shapes):
    """The encoder may still be learning."""
    corpora = opened(shapes, "method.images=val")
    images = torch.stack(list(corpora.pictured(2).values()))
    assert torch.equal(corpora.see(images), mean_colours(images))
    corpora._encode = lambda images: mean_colours(images) + 1
    assert torch.equal(corpora.regions("images", torch.arange(2)), mean_colours(images) + 1)


def test_a_style_is_a_name_or_a_text_file(lines):
    assert read_style("positive") == {}
    assert read_style(str(lines)) == {"grand": ["a most splendiferous circle", "behold the square"]}
