"""What a sweep leaves behind: tables, the best config, one page without anything elsewhere."""

from __future__ import annotations

import csv
import html.parser
import json
import math
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet
import pytest
from PIL import Image

from distgan.config import Config, load_config
from distgan.methods import CONFIGS
from distgan.methods.attend_gan_config import AttendGANConfig
from distgan.sweeps import report, results
from distgan.sweeps.journal import CURVE, PERTURBATIONS, Journal
from distgan.sweeps.plan import Objective, Sweep, WarmStart
from distgan.sweeps.space import Domain

LAMBDA, G, D = "method.lambda_adversarial", "method.g_steps", "method.d_steps"
GRID = Sweep(
    search={LAMBDA: Domain(grid=(0.3, 1.0, 3.0)), G: Domain(grid=(1, 2)), D: Domain(grid=(1, 2))},
    objectives=(Objective(metric="val/joint"), Objective(metric="val/length", mode="min")),
    warm_start=WarmStart(stages=("factual",), temperatures=(0.5, 1.0)),
)
BASE = Config(method=AttendGANConfig())


def quality(settings: dict[str, float]) -> float:
    return 0.5 - 0.1 * abs(math.log(settings[LAMBDA])) - 0.05 * abs(settings[G] - 2)


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    """Twelve trials: one failed, one stopped early, one perturbed; the best is number 6."""
    journal = Journal(tmp_path / "sweep")
    number = 0
    for lam in (0.3, 1.0, 3.0):
        for g in (1, 2):
            for d in (1, 2):
                settings = {LAMBDA: lam, G: g, D: d}
                journal.begin(number, settings)
                good = quality(settings) - 0.01 * (d - 1)
                rounds = {2: 0, 3: 4}.get(number, 10)
                lines = [
                    {"round": r, "val/joint": good * r / 10, "val/length": 5 + good * r}
                    for r in range(1, rounds + 1)
                ]
                text = "".join(json.dumps(line) + "\n" for line in lines)
                (journal.run(number) / "metrics.jsonl").write_text(text)
                journal.note(number, seconds=10.0 * (number + 1))
                status = {2: "failed", 3: "stopped"}.get(number, "finished")
                journal.end(number, status, "<b>told</b>" * (status != "finished"))
                number += 1
    curve = [{"temperature": t, "val/joint": 0.2, "val/length": 6 + t} for t in (0.5, 1.0)]
    (journal.folder / CURVE).write_text(json.dumps(curve))
    return journal


def test_tables_agree_and_numbers_are_numbers(journal: Journal) -> None:
    results.write(journal, GRID, BASE)
    table = pyarrow.parquet.read_table(journal.folder / results.PARQUET)
    assert table.num_rows == 12 and str(table.schema.field(LAMBDA).type) == "double"
    assert table["status"].to_pylist()[2:4] == ["failed", "stopped"]
    assert table["val/joint"].to_pylist()[2] is None
    assert table["reason"].to_pylist()[3] == "<b>told</b>"
    with (journal.folder / results.CSV).open() as file:
        lines = list(csv.DictReader(file))
    assert [float(x["val/joint"] or "nan") for x in lines] == pytest.approx(
        [math.nan if v is None else v for v in table["val/joint"].to_pylist()], nan_ok=True
    )


def test_the_best_is_a_finished_trial_and_train_takes_it(journal: Journal) -> None:
    rows = results.write(journal, GRID, BASE)
    winner = results.best(rows, GRID)
    assert winner is not None and winner.number == 6
    config = load_config(journal.folder / results.BEST, methods=CONFIGS)
    method = replace(BASE.method, lambda_adversarial=1.0, g_steps=2, d_steps=1)
    assert config == replace(BASE, method=method)
    shortest = replace(GRID, objectives=GRID.objectives[::-1])
    assert results.best(rows, shortest).status == "finished"  # not the one that was stopped


def test_the_front_is_marked(journal: Journal) -> None:
    rows = results.rows(journal, GRID)
    points = {r.number: (r.values["val/joint"], -r.values["val/length"]) for r in rows if r.values}
    for row in rows:
        beaten = any(
            all(a >= b for a, b in zip(p, points[row.number], strict=True))
            and p != points[row.number]
            for p in points.values()
        ) if row.values else True  # fmt: skip
        assert row.on_front == (not beaten)


class Outside(html.parser.HTMLParser):
    """Tags, and whatever a page asks for from elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.asked: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.asked += [v or "" for k, v in attrs if k in ("src", "href")]


def read_page(path: Path) -> Outside:
    page = Outside()
    page.feed(path.read_text())
    return page


def test_the_page_stands_alone(journal: Journal) -> None:
    path = report.write(journal, GRID, results.rows(journal, GRID))
    page = read_page(path)
    assert all(asked.startswith("data:image/png;base64,") for asked in page.asked)
    assert page.tags.count("img") == 5 and "script" not in page.tags and "b" not in page.tags
    text = path.read_text()
    assert "&lt;b&gt;told&lt;/b&gt;" in text and "Best: trial 6" in text
    for picture in (journal.folder / report.PICTURES).glob("*.png"):
        with Image.open(picture) as image:
            assert min(image.size) > 200


def test_a_population_shows_its_schedules(journal: Journal) -> None:
    new = {LAMBDA: 1.25, G: 1, D: 2}
    old = journal.trials[0].settings
    entry = {"round": 5, "who": 0, "from": 6, "settings": {k: [old[k], new[k]] for k in new}}
    journal.append(PERTURBATIONS, entry)
    journal.replace_settings(0, new, start=5)
    path = report.write(journal, GRID, results.rows(journal, GRID))
    assert (journal.folder / report.PICTURES / "schedules.png").exists()
    assert "Places taken" in path.read_text() and "0.3 → 1.25" in path.read_text()


def test_a_sweep_over_ranges_or_without_results_has_a_page_too(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "empty")
    plan = replace(GRID, search={LAMBDA: Domain(uniform=(0.0, 1.0))}, searcher="random", trials=9)
    assert "No trial" in report.write(journal, plan, []).read_text()
    for number in range(4):
        journal.begin(number, {LAMBDA: 0.1 + number / 10})
        line = {"round": 1, "val/joint": number / 10, "val/length": 5.0}
        (journal.run(number) / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    report.write(journal, plan, results.rows(journal, plan))
    assert (journal.folder / report.PICTURES / "slices.png").exists()


def test_differences_are_taken_seed_by_seed() -> None:
    default = [{"a": 1.0, "b": 1.0}, {"a": 2.0}, {"a": 6.0, "b": 2.0}]
    winner = [{"a": 2.0, "b": 1.0}, {"a": 4.0, "b": 1.0}, {"a": 9.0, "b": 1.0}]
    found = report.differences(default, winner)
    assert set(found) == {"a"}
    assert found["a"]["difference"] == 2.0 and found["a"]["spread"] == 1.0
    assert found["a"]["each"] == [1.0, 2.0, 3.0]
    assert report.differences(default[:1], winner[:1])["a"]["spread"] is None


def test_hparams_are_written_once(journal: Journal) -> None:
    pytest.importorskip("tensorboard")
    rows = results.rows(journal, GRID)[:2]
    for _ in range(2):
        results.write_hparams(rows, journal.folder)
    files = list((journal.folder / results.HPARAMS).glob("0000/events*"))
    assert len(files) == 1
