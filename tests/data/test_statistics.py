"""`prepare.py stats`: what a dataset holds, counted again the slow way."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from importing import prepare
from made_up_samples import Numbers, picture
from PIL import Image

from distgan.data.dataset import Dataset
from distgan.data.samples import Caption, Sample
from distgan.data.shards import WriteOptions, write_dataset
from distgan.data.statistics import measure, table
from distgan.data.texts import words_of

Captured = pytest.CaptureFixture[str]


class Turned(Numbers):
    """Pictures of three kinds and many sizes, the fourth ones turned by a quarter."""

    def sample(self, split: str, i: int) -> Sample:
        plain = super().sample(split, i)
        kind, extension = (("JPEG", "jpg"), ("PNG", "png"), ("WEBP", "webp"))[i % 3]
        file = io.BytesIO()
        exif = Image.Exif()
        exif[0x0112] = 6 if i % 4 == 0 else 1
        Image.open(io.BytesIO(picture(i, (20 + i, 50)))).save(file, kind, exif=exif)
        return Sample(plain.key, file.getvalue(), extension, plain.captions, plain.facts)


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    options = WriteOptions(shard_samples=7, max_words=20)
    assert write_dataset(Turned(), {"name": "turned"}, tmp_path / "turned", options)
    return Dataset.open(tmp_path / "turned")


def test_captions_are_counted(dataset: Dataset) -> None:
    found = measure(dataset)
    importer = Turned()
    words: Counter[str] = Counter(
        w for line in importer.texts()["cheerful"] for w in words_of(line)
    )
    for split in found.splits:
        samples = [importer.sample(split.name, i) for i in range(importer.num_samples(split.name))]
        said = [c for sample in samples for c in sample.captions]
        assert split.images == len(samples)
        assert split.captions_per_image.tolist() == [len(s.captions) for s in samples]
        for style, name in ((None, "factual"), ("cheerful", "cheerful")):
            lengths = [len(words_of(c.text)) for c in said if c.style == style]
            assert split.lengths[name].tolist() == lengths
        tokens = [word for c in said for word in words_of(c.text)]
        known = dataset.manifest.words
        assert split.tokens == len(tokens)
        assert split.unknown == Counter(word for word in tokens if word not in known)
        if split.name == "train":
            words.update(tokens)
    assert found.texts["cheerful"].tolist() == [4, 2] and found.vocabulary == 20
    assert found.frequencies.tolist() == sorted(words.values(), reverse=True)
    assert np.isclose(found.coverage[4], sum(sorted(words.values())[-5:]) / words.total())
    assert found.styles == ["factual", "cheerful"]


def test_images_are_measured_upright_from_their_headers(dataset: Dataset) -> None:
    found = measure(dataset)
    expected = []
    for split, count in (("train", 23), ("val", 5)):
        for i in range(count):
            sides = (20 + i, 50)
            expected.append(
                (*(sides[::-1] if i % 4 == 0 else sides), ("JPEG", "PNG", "WEBP")[i % 3])
            )
            assert len(dataset.split(split).image_bytes(i)) in found.file_sizes
    assert sorted(found.sizes) == sorted(expected) and found.unreadable == 0
    assert len(measure(dataset, images=9).sizes) == 9


def test_the_table_and_the_picture(dataset: Dataset, tmp_path: Path, capsys: Captured) -> None:
    assert prepare("stats", dataset.path, "--out", tmp_path / "new" / "stats.png") == 0
    said = capsys.readouterr().out
    assert table(measure(dataset)) in said
    for words in ("vocabulary: 20 words", "unknown in val: ", "2-3", "10 JPEG", "MiB in all"):
        assert words in said
    image = Image.open(tmp_path / "new" / "stats.png")
    assert image.format == "PNG" and np.asarray(image.convert("L")).std() > 5
    assert prepare("stats", tmp_path / "nowhere") == 2


def test_datasets_without_captions_or_with_damage_have_statistics(
    written: Callable[..., Path], tmp_path: Path, capsys: Captured
) -> None:
    class Bare(Numbers):
        def sample(self, split: str, i: int) -> Sample:
            return Sample(f"k{i}", picture(i), "jpg", (Caption("a b"),) if split == "val" else ())

        def texts(self) -> dict[str, list[str]]:
            return {}

    bare = tmp_path / "bare"
    assert write_dataset(Bare({"train": 3}), {"name": "bare"}, bare, WriteOptions())
    assert prepare("stats", bare, "--out", tmp_path / "bare.png") == 0
    damaged = written()
    (damaged / "train-000001.tar").unlink()
    capsys.readouterr()
    assert prepare("stats", damaged, "--out", tmp_path / "damaged.png") == 0
    assert "images without a readable header: 10" in capsys.readouterr().out
