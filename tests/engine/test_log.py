"""The log: one line a round, nothing twice after a resume, silent off the writer."""

import json
import math
import sys

import numpy as np
import pytest

from distgan.config import LogConfig
from distgan.engine.log import Log

QUIET = LogConfig(tensorboard=False)


def rounds(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def play(folder, first, last, config=QUIET):
    log = Log(folder, config, total_rounds=10, is_writer=True, resume_round=first - 1)
    for n in range(first, last + 1):
        log.round("style", n, 3 * n, {"loss": n / 2, "auc": 0.5})
    log.close()


def test_one_line_a_round_with_all_values(tmp_path):
    play(tmp_path, 1, 3)
    assert rounds(tmp_path)[1] == {
        "stage": "style",
        "round": 2,
        "update": 6,
        "loss": 1.0,
        "auc": 0.5,
    }


def test_resume_leaves_every_round_once(tmp_path):
    play(tmp_path, 1, 7)
    play(tmp_path, 5, 10)
    assert [line["round"] for line in rounds(tmp_path)] == list(range(1, 11))


def test_a_fresh_run_starts_an_empty_file(tmp_path):
    play(tmp_path, 1, 7)
    play(tmp_path, 1, 2)
    assert [line["round"] for line in rounds(tmp_path)] == [1, 2]


def test_a_torn_last_line_is_dropped(tmp_path):
    play(tmp_path, 1, 4)
    path = tmp_path / "metrics.jsonl"
    path.write_text(path.read_text()[:-20])
    play(tmp_path, 5, 5)
    assert [line["round"] for line in rounds(tmp_path)] == [1, 2, 3, 5]


def test_a_superseded_writer_cannot_write_into_the_new_file(tmp_path):
    old = Log(tmp_path, QUIET, 10, is_writer=True)
    old.round("style", 1, 1, {"loss": 1.0})
    new = Log(tmp_path, QUIET, 10, is_writer=True, resume_round=1)
    old.round("style", 2, 2, {"loss": 666.0})
    new.round("style", 2, 2, {"loss": 2.0})
    assert [line["loss"] for line in rounds(tmp_path)] == [1.0, 2.0]
    old.close()
    new.close()


def test_other_ranks_write_and_say_nothing(tmp_path, capsys):
    log = Log(tmp_path / "run", LogConfig(), 10, is_writer=False)
    log.round("style", 1, 1, {"loss": 1.0})
    log.say("hello")
    log.text("captions", "a cat", 1)
    assert log.figure("sheet", np.zeros((4, 4, 3), np.uint8), 1) is None
    log.close()
    assert not (tmp_path / "run").exists()
    assert capsys.readouterr() == ("", "")


def test_plain_lines_off_a_terminal(tmp_path, capsys):
    play(tmp_path, 1, 1)
    line = capsys.readouterr().out
    assert line.startswith("style 1/10  loss 0.5 auc 0.5  0:")
    assert line.endswith("left\n")


def test_a_line_shows_the_first_numbers_of_each_group(tmp_path, capsys):
    values = {f"{who}/{name}": 1.0 for who in ("generator", "critic") for name in "abcd"}
    log = Log(tmp_path, QUIET, 10, is_writer=True)
    log.round("style", 1, 1, values | {"seconds/data": 0.5})
    log.close()
    assert "  generator a 1 b 1 c 1  critic a 1 b 1 c 1  " in capsys.readouterr().out


def test_progress_bar_on_a_terminal(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    log = Log(tmp_path, QUIET, 10, is_writer=True, resume_round=4)
    log.round("adversarial", 7, 7, {"loss": 1.25})
    log.say("critic saturated")
    log.close()
    shown = capsys.readouterr()
    assert "critic saturated\n" in shown.out
    assert "adversarial" in shown.err and "7/10" in shown.err and "loss 1.25" in shown.err


def test_numbers_that_are_not_finite_stay_valid_json(tmp_path):
    log = Log(tmp_path, QUIET, 10, is_writer=True)
    log.round("style", 1, 1, {"loss": math.nan, "gap": math.inf})
    log.close()
    assert rounds(tmp_path)[0]["loss"] is None and rounds(tmp_path)[0]["gap"] is None


def test_pictures_are_kept_as_png(tmp_path):
    figure = pytest.importorskip("matplotlib.figure")
    image = pytest.importorskip("PIL.Image")
    log = Log(tmp_path, QUIET, 10, is_writer=True)
    array = np.linspace(0, 1, 60).reshape(4, 5, 3)
    path = log.figure("test/sheet", array, 3)
    assert path == tmp_path / "pictures" / "test-sheet-0000003.png"
    assert np.array_equal(np.asarray(image.open(path)), (array * 255).round())
    drawn = log.figure("drawn", figure.Figure(figsize=(2, 1), dpi=50), 3)
    assert image.open(drawn).size == (100, 50)
    log.close()


def test_tensorboard_holds_each_round_once(tmp_path):
    reading = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    play(tmp_path, 1, 7, LogConfig())
    play(tmp_path, 5, 10, LogConfig())
    events = reading.EventAccumulator(str(tmp_path))
    events.Reload()
    assert [(e.step, e.value) for e in events.Scalars("loss")] == [(n, n / 2) for n in range(1, 11)]


def test_tensorboard_pictures_and_texts(tmp_path):
    reading = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    log = Log(tmp_path, LogConfig(), 10, is_writer=True)
    log.figure("sheet", np.zeros((4, 4, 3), np.uint8), 1)
    log.text("captions", "a cat", 1)
    log.close()
    events = reading.EventAccumulator(str(tmp_path))
    events.Reload()
    assert events.Tags()["images"] == ["sheet"]
    assert events.Tags()["tensors"] == ["captions/text_summary"]
