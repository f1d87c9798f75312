"""Several datasets in one run: their proportions, words, styles, images, and what is refused."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_captioning import play_config, same_bits, tiny

from distgan.config import Config
from distgan.data.dataset import Dataset
from distgan.data.importers.shapes import Shapes
from distgan.data.samples import Caption, Sample
from distgan.data.shapes.world import ShapesOptions
from distgan.data.shards import WriteOptions, write_dataset
from distgan.data.texts import words_of
from distgan.engine.world import World
from distgan.methods.caption_corpora import Corpora
from distgan.methods.caption_datasets import joined_words, open_members

T = 12


class Told:
    """Shapes with captions in a style of our own, the same keys as everywhere."""

    splits = ("train",)

    def __init__(self, images: int, style: str | None, lines: int = 0) -> None:
        self._shapes = Shapes(ShapesOptions(images=images, size=32, styled=0, lines=0, captions=2))
        self.style, self.lines = style, lines

    def num_samples(self, split: str) -> int:
        return self._shapes.num_samples(split)

    def sample(self, split: str, number: int) -> Sample:
        sample = self._shapes.sample(split, number)
        said = Caption(f"number {number} told {self.style or 'plainly plainly'}", self.style)
        return replace(sample, captions=(said, *(() if self.style else sample.captions)))

    def texts(self) -> dict[str, list[str]]:
        return {self.style: [f"line {n}" for n in range(self.lines)]} if self.lines else {}


def write(folder: Path, importer: Told) -> Path:
    assert write_dataset(importer, {"name": "told"}, folder, WriteOptions())
    return folder


@pytest.fixture(scope="session")
def flickr(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("data") / "flickr", Told(7, None))


@pytest.fixture(scope="session")
def funny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """5 images with captions in a style that the shapes do not have, and 3 lines."""
    return write(tmp_path_factory.mktemp("data") / "funny", Told(5, "funny", 3))


def opened(config: Config) -> Corpora:
    corpora = Corpora(config, World.local(), max_length=T)
    corpora.see_with(lambda images: images.float().mean((2, 3))[:, None])
    return corpora


def test_each_dataset_has_its_share_and_its_own_epochs(shapes, flickr):
    config = tiny(shapes, f"data.mix=[{{path: {flickr}, weight: 1}}]", "data.weight=3")
    corpora = opened(config)
    stream, main = corpora.stream("generator/factual", 8), Dataset.open(shapes).split("train")
    seen: list[int] = []
    for _ in range(21):
        ids = next(stream)["id"].tolist()
        assert sum(i >= len(main) for i in ids) == 2  # a quarter of every 8
        seen += ids
    flickrs = Counter(i - len(main) for i in seen if i >= len(main))
    assert flickrs == dict.fromkeys(range(7), 2 * 3)  # 42 of 21 captions: two epochs
    mains = Counter(i for i in seen if i < len(main))
    assert mains.total() == 126 and set(mains.values()) <= {2, 3, 4}  # 1.3 epochs of 96


def test_regions_and_other_images_do_not_confuse_the_datasets(shapes, flickr):
    corpora = opened(tiny(shapes, f"data.mix=[{{path: {flickr}}}]"))
    album = corpora.album("factual")
    first, second = album.splits
    ids = torch.tensor([0, len(first), 3, len(first) + 6, len(first) - 1])
    pictures = [first.image(0, 32), second.image(0, 32), first.image(3, 32)]
    pictures += [second.image(6, 32), first.image(len(first) - 1, 32)]
    expected = torch.stack(pictures).float().mean((2, 3))[:, None]
    assert torch.equal(corpora.regions("factual", ids), expected)
    for u in (0.0, 0.3, 0.999):
        others = album.others(ids, torch.full((5,), u, dtype=torch.float64))
        assert not (others == ids).any()
        assert torch.equal(others >= len(first), ids >= len(first))
    assert [s.dataset.path for s in corpora.album("images").splits] == [str(shapes), str(flickr)]
    only = opened(tiny(shapes, f"data.mix=[{{path: {flickr}}}]", "method.images=val"))
    assert [s.dataset.path for s in only.album("images").splits] == [str(shapes)]


def test_styles_join_and_keep_the_first_datasets_numbers(shapes, funny):
    config = tiny(shapes, f"data.styled_mix=[{{path: {funny}, weight: 2}}]", "data.epoch=images")
    corpora = opened(config)
    assert corpora.styles == ("negative", "positive", "funny", "factual")
    assert corpora.asked == (0, 1, 2) and corpora.has_pairs
    batch = next(corpora.stream("generator/styled", 9))
    said = [corpora.vocabulary.decode(words) for words in batch["words"].tolist()]
    funnily = [text.endswith("told funny") for text in said]
    assert sum(funnily) == 6
    assert [style == 2 for style in batch["style"].tolist()] == funnily
    lines = next(corpora.stream("generator/text", 9))
    assert sum(style == 2 for style in lines["style"].tolist()) == 6
    alone = opened(tiny(shapes, f"data.styled_mix=[{{path: {funny}}}]", "data.style=funny"))
    assert [s.dataset.path for s in alone.album("styled").splits] == [str(funny)]
    assert set(next(alone.stream("generator/styled", 4))["style"].tolist()) == {2}


def test_words_are_counted_over_all_datasets(shapes, flickr):
    factual, _ = open_members(tiny(shapes, f"data.mix=[{{path: {flickr}}}]").data)
    counts: Counter[str] = Counter()
    for path in (shapes, flickr):
        dataset = Dataset.open(path)
        for split in (dataset.split(name) for name in dataset.splits):
            if split.name not in ("val", "test"):
                for i in range(len(split)):
                    counts.update(word for c in split.captions(i) for word in words_of(c.text))
        for style in dataset.styles:
            counts.update(word for line in dataset.texts(style) for word in words_of(line))
    expected = [word for _, word in sorted((-n, word) for word, n in counts.items())]
    assert joined_words(factual) == expected


REFUSED = {
    "data.mix=[{path: FLICKR, weight: 0}]": r"data\.mix\[0\]\.weight.*0 for .*flickr",
    "data.mix=[{path: FLICKR, split: dev}]": "flickr has no split 'dev'",
    "data.mix=[{path: FUNNY}]": r"data\.mix\[0\]: split 'train' of .*funny has no factual",
    "data.mix=[{path: SHAPES}]": r"data\.mix\[0\]\.path: .*shapes is there already",
    "data.mix=[{path: SHAPES/../shapes}]": r"data\.mix\[0\]: .* is the same dataset as data\.path",
    "data.styled_mix=[{path: FLICKR}]": r"data\.styled_mix\[0\]: .*flickr has nothing in style neg",
    "data.styled_mix=[{path: FUNNY}]": r"styled_mix\[0\]: .* in style positive .*it has funny",
    "data.weight=2": "data.weight=2 means nothing without mix",
    "data.mix=[{path: NOWHERE}]": "dataset .*nowhere does not exist",
}


@pytest.mark.parametrize("word", REFUSED)
def test_mixtures_that_cannot_be(word, shapes, flickr, funny):
    places = {"FLICKR": flickr, "FUNNY": funny, "SHAPES": shapes, "NOWHERE": shapes / "nowhere"}
    given = word
    for name, path in places.items():
        given = given.replace(name, str(path))
    style = "positive" if "style positive" in REFUSED[word] else "all"
    with pytest.raises(ValueError, match=REFUSED[word]):
        opened(tiny(shapes, given, f"data.style={style}"))


def test_a_mixture_trains_through_every_stage(shapes, flickr, funny):
    """Factual captions of two datasets, styled ones of two others, every stage twice alike."""
    words = [f"data.mix=[{{path: {flickr}, weight: 2}}]", "data.epoch=images", "data.weight=3"]
    words += [f"data.styled={shapes}", f"data.styled_mix=[{{path: {funny}}}]"]
    config = tiny(shapes, *words)
    one, other = (play_config(World.local(), config) for _ in range(2))
    assert same_bits(one.trace.end, other.trace.end)
    assert not same_bits(one.trace.end, one.trace.start)
