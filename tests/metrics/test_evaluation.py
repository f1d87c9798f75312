"""Evaluation on a shapes dataset: a captioner that knows all is right, a mute one is wrong."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from torch import Tensor

from distgan.data.dataset import Dataset
from distgan.data.importers.shapes import Shapes
from distgan.data.shapes.world import ShapesOptions
from distgan.data.shards import WriteOptions, write_dataset
from distgan.metrics.evaluation import Column, Decoding, Judge, Task, controls, with_mean, write
from distgan.metrics.report import headline, table, write_report

SIZE = 32


class Oracle:
    """Recognises the test images and says what people said of them."""

    def __init__(self, dataset: Dataset) -> None:
        self.split, self.seeds = dataset.split("test"), []
        self.known = {
            self.split.image(n, SIZE).numpy().tobytes(): n for n in range(len(self.split))
        }

    def caption(
        self,
        images: Tensor,
        style: str | None = None,
        decode: str = "greedy",
        temperature: float = 1.0,
        beam: int = 3,
        seed: int = 0,
    ) -> list[str]:
        self.seeds.append(seed)
        rows = [self.known[image.numpy().tobytes()] for image in images]
        return [next(c.text for c in self.split.captions(n) if c.style == style) for n in rows]


@pytest.fixture(autouse=True)
def no_java(monkeypatch: pytest.MonkeyPatch) -> None:
    """METEOR takes seconds to start and is tested elsewhere."""
    monkeypatch.setenv("PATH", "/nowhere")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    options = ShapesOptions(
        images=40, size=SIZE, styled=10, lines=50, unlabelled=1, val=1, test=70, unseen=0
    )
    out = tmp_path_factory.mktemp("data") / "shapes"
    assert write_dataset(Shapes(options), {"name": "shapes"}, out, WriteOptions())
    return Dataset.open(out)


@pytest.fixture(scope="module")
def judge(dataset: Dataset) -> Judge:
    return Judge.of(dataset, dataset, "styled", {})


def test_who_knows_all_is_right(dataset: Dataset, judge: Judge) -> None:
    oracle = Oracle(dataset)
    task = Task.choose(dataset.split("test"), "positive")
    captions = write(oracle, task, Decoding(), SIZE)
    assert len(captions) == 70 and oracle.seeds == [0, 64]
    scores = judge.score("oracle", captions, task, against=task.references).scores
    for name in ("joint", "truth_f1", "relation", "style", "fit", "grammatical", "BLEU-4"):
        assert scores[name] == pytest.approx(1), name
    assert scores["style_sound"] > 0.7 and scores["style_sound_held_out"] > 0.7
    assert 2 < scores["adjective_entropy"] < math.log2(12) and scores["adjective_top4"] < 0.9
    assert 0 < scores["novel"] <= 1 and scores["vocabulary"] > 20


def test_who_says_the_same_of_all_is_wrong(dataset: Dataset, judge: Judge) -> None:
    task = Task.choose(dataset.split("test"), "positive", limit=20)
    said = ["a nice thing"] * 20
    scores = judge.score("mute", said, task, against=task.references).scores
    assert scores["joint"] == 0 and scores["truth_f1"] == 0
    assert scores["duplicates"] == pytest.approx(19 / 20) and scores["self_bleu"] > 0.5


def test_peoples_captions_are_controls(dataset: Dataset, judge: Judge) -> None:
    own, moved = controls(judge, [Task.choose(dataset.split("test"), "negative")])
    assert (own.model, moved.model) == ("references", "shuffled references")
    assert own.scores["joint"] == pytest.approx(1) and moved.scores["joint"] < 0.2
    assert own.scores["CIDEr"] > moved.scores["CIDEr"]
    assert own.scores["BLEU-4"] < 1  # a caption is not its own reference


def test_factual_captions_are_asked_for_no_style(dataset: Dataset, judge: Judge) -> None:
    task = Task.choose(dataset.split("test"), "factual", limit=10)
    said = [references[0] for references in task.references]
    assert judge.score("people", said, task, against=task.references).scores["joint"] == 1


def test_a_style_without_captions_is_asked_of_all_images(dataset: Dataset, judge: Judge) -> None:
    task = Task.choose(dataset.split("test"), "positive", limit=5)
    alone = Task(task.split, "positive", task.rows, ((),) * 5)
    column = judge.score("m", ["a nice thing"] * 5, alone, against=alone.references)
    assert "BLEU-4" not in column.scores and column.scores["joint"] == 0
    assert controls(judge, [alone]) == []


def test_sampling_differs_between_batches_and_not_between_runs(dataset: Dataset) -> None:
    task = Task.choose(dataset.split("test"), "positive")
    first, again = Oracle(dataset), Oracle(dataset)
    decoding = Decoding("sample", seed=7)
    assert write(first, task, decoding, SIZE) == write(again, task, decoding, SIZE)
    assert first.seeds == again.seeds == [7, 71]


COLUMNS = [
    Column("MLE", "positive", {"joint": 0.25, "vocabulary": 50.0}, ("tokeniser: ptb",), ("a cat",)),
    Column("MLE", "negative", {"joint": 0.75, "vocabulary": 40.0, "novel": 1.0}),
]


def test_the_mean_is_over_styles() -> None:
    mean = Column("MLE", "mean", {"joint": 0.5, "vocabulary": 45.0})
    assert with_mean(COLUMNS) == [*COLUMNS, mean]
    assert with_mean(COLUMNS[:1]) == COLUMNS[:1]
    assert headline(with_mean(COLUMNS)) == [mean]
    assert headline(COLUMNS[:1]) == COLUMNS[:1]


def test_a_table_reads_well() -> None:
    assert table(COLUMNS).splitlines() == [
        "|            | MLE positive | MLE negative |",
        "| ---------- | -----------: | -----------: |",
        "| joint      |        0.250 |        0.750 |",
        "| vocabulary |           50 |           40 |",
        "| novel      |              |        1.000 |",
    ]


def test_a_report_is_kept_twice(tmp_path: Path) -> None:
    path = write_report(
        tmp_path, "first on test", {"run": "first"}, COLUMNS, [tmp_path / "pictures" / "p.png"]
    )
    text = path.read_text()
    assert path.name == "report.md" and text.startswith("# first on test\n\n- run: first\n")
    assert table(COLUMNS) in text and "![p](pictures/p.png)" in text
    assert "- tokeniser: ptb" in text and "- a cat" in text
    kept = json.loads((tmp_path / "report.json").read_text())
    assert kept["run"] == "first" and kept["columns"][0]["scores"]["joint"] == 0.25


def test_decoding_is_told_in_words() -> None:
    assert str(Decoding()) == "greedy"
    assert str(Decoding("sample", temperature=0.5)) == "sampled at temperature 0.5, seed 0"
    assert str(Decoding("beam", beam=5)) == "beam search, 5 kept"
