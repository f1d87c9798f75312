"""The journal: what is written down is there after any end of the driver."""

from __future__ import annotations

import json
from pathlib import Path

from distgan.sweeps.journal import Journal, Tail


def log(run: Path, rounds: range, **values: float) -> None:
    run.mkdir(parents=True, exist_ok=True)
    with (run / "metrics.jsonl").open("a") as file:
        for number in rounds:
            file.write(json.dumps({"round": number, **values}) + "\n")


def test_trials_are_there_again(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.begin(0, {"a": 1})
    journal.begin(1, {"a": [2, "b"]})
    journal.note(1, seconds=4.5, restarts=1)
    journal.end(0, "stopped", "asha")
    journal.end(0, "finished", "too late")
    (tmp_path / "trials/0001/trial.json.new").write_text("{half")
    again = Journal(tmp_path)
    assert again.trials == journal.trials
    assert again.trials[0].reason == "asha" and again.trials[0].has_ended
    assert again.begin(1, {"a": 9}).settings == {"a": [2, "b"]}


def test_a_trials_lines_run_over_its_lives(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.begin(3, {"a": 1})
    log(journal.run(3), range(1, 9), x=1.0)  # it had gone on past the border
    journal.replace_settings(3, {"a": 2}, start=6)
    log(journal.run(3), range(7, 13), x=2.0)
    assert journal.run(3).name == "0003-2"
    lines = Journal(tmp_path).lines(3)
    assert [line["round"] for line in lines] == list(range(1, 13))
    assert [line["x"] for line in lines] == [1.0] * 6 + [2.0] * 6


def test_a_longer_sweep_ends_with_its_last_trial(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    for number in (0, 1, 3):
        journal.begin(number, {})
        journal.end(number, "finished", "")
    assert journal.have_ended(2) and not journal.have_ended(3) and not journal.have_ended(4)
    journal.begin(2, {})
    assert not journal.have_ended(4)
    journal.end(2, "failed", "")
    assert journal.have_ended(3) and journal.have_ended(4)


def test_a_tail_gives_each_round_once_though_the_file_is_written_anew(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    tail = Tail(path)
    assert tail.read() == []
    log(tmp_path, range(1, 6))
    with path.open("a") as file:
        file.write('{"round": 6, "cut')
    assert [line["round"] for line in tail.read()] == [1, 2, 3, 4, 5]
    fresh = tmp_path / "fresh"
    log(fresh, range(1, 5))  # the run was killed, and goes on from its checkpoint at round 4
    (fresh / "metrics.jsonl").replace(path)
    assert tail.read() == []
    log(tmp_path, range(5, 9))
    assert [line["round"] for line in tail.read()] == [6, 7, 8]
