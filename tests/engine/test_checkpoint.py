"""The checkpoint store: whole or not there, damaged and passed over, superseded and silent."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from distgan.engine.checkpoint import DamagedCheckpoint, Store, Superseded, find, load, validate


def state(step: int) -> dict:
    return {
        "weights": {"a": torch.full((50,), float(step))},
        "progress": step,
        "betas": (0.9, 0.999),
        "names": ["x", None, True],
    }


def filled(folder: Path, *steps: int, keep: int = 9) -> Store:
    store = Store(folder, keep=keep).claim()
    for step in steps:
        store.save(step, state(step))
    return store


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("step-*"))


def test_what_is_saved_is_loaded(tmp_path):
    path = filled(tmp_path, 3).latest()
    assert path == tmp_path / "step-00000003-a001"
    got = load(path)
    assert torch.equal(got["weights"]["a"], state(3)["weights"]["a"])
    assert (got["progress"], got["betas"], got["names"]) == (3, (0.9, 0.999), ["x", None, True])


def truncate(path: Path) -> None:
    os.truncate(path / "state.pt", (path / "state.pt").stat().st_size // 2)


def empty(path: Path) -> None:
    (path / "state.pt").write_bytes(b"")


def remove(path: Path) -> None:
    (path / "state.pt").unlink()


def flip_a_bit(path: Path) -> None:
    bytes_ = bytearray((path / "state.pt").read_bytes())
    bytes_[len(bytes_) // 2] ^= 4
    (path / "state.pt").write_bytes(bytes_)


def lose_the_manifest(path: Path) -> None:
    (path / "manifest.json").unlink()


def tear_the_manifest(path: Path) -> None:
    os.truncate(path / "manifest.json", 20)


@pytest.mark.parametrize(
    "damage", [truncate, empty, remove, flip_a_bit, lose_the_manifest, tear_the_manifest]
)
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_is_used(damage, tmp_path, capsys):
    store = filled(tmp_path, 2, 4)
    newest = tmp_path / "step-00000004-a001"
    damage(newest)
    with pytest.raises(DamagedCheckpoint, match="step-00000004-a001"):
        load(newest)
    assert store.latest() == tmp_path / "step-00000002-a001"
    said = capsys.readouterr().out
    assert "passing over a damaged checkpoint" in said
    assert str(newest) in said


def test_without_a_whole_checkpoint_there_is_none(tmp_path):
    assert Store(tmp_path / "nothing").latest() is None
    flip_a_bit(filled(tmp_path, 1).latest())
    assert Store(tmp_path).latest() is None


def test_a_half_written_checkpoint_is_never_seen_and_does_not_stay(tmp_path):
    filled(tmp_path, 2)
    torn = tmp_path / ".step-00000004-a001.partial"
    torn.mkdir()
    (torn / "state.pt").write_bytes(b"PK half of a file")
    store = Store(tmp_path).claim()
    assert store.latest() == tmp_path / "step-00000002-a001"
    store.save(4, state(4))
    assert not list(tmp_path.glob(".step-*"))


def test_a_superseded_attempt_writes_nothing(tmp_path):
    old = filled(tmp_path, 2)
    new = Store(tmp_path).claim()
    with pytest.raises(Superseded, match="attempt 2 of this run has begun; attempt 1 stops"):
        old.save(4, state(4))
    assert names(tmp_path) == ["step-00000002-a001"]
    new.save(3, state(3))
    assert new.latest() == tmp_path / "step-00000003-a002"


def test_a_later_attempt_counts_more_than_a_later_step(tmp_path):
    filled(tmp_path, 2, 8)
    store = filled(tmp_path, 4)
    assert store.latest() == tmp_path / "step-00000004-a002"


def test_no_two_processes_claim_one_number(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        attempts = list(pool.map(lambda _: Store(tmp_path).claim().attempt, range(40)))
    assert sorted(attempts) == list(range(1, 41))


def test_pruning_keeps_the_newest_and_every_milestone(tmp_path):
    store = Store(tmp_path, keep=2).claim()
    for step in range(1, 8):
        store.save(step, state(step), milestone=step in (2, 5))
    assert [int(name[5:13]) for name in names(tmp_path)] == [2, 5, 6, 7]
    for name in names(tmp_path):
        validate(tmp_path / name)


class Bomb:
    """Unpickling it leaves a trace."""

    def __reduce__(self):
        return (os.mkdir, (self.place,))

    place = ""


def test_nothing_is_unpickled(tmp_path):
    path = filled(tmp_path, 1).latest()
    Bomb.place = str(tmp_path / "went-off")
    torch.save({"progress": Bomb()}, path / "state.pt")
    content = (path / "state.pt").read_bytes()
    said = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    (path / "manifest.json").write_text(json.dumps({"files": {"state.pt": said}}))
    with pytest.raises(pickle.UnpicklingError):
        load(path)
    assert not os.path.exists(Bomb.place)


@pytest.mark.parametrize("value", [Path("x"), {1, 2}, object(), range(3), 1j])
def test_what_could_not_be_loaded_is_not_saved(value, tmp_path):
    store = filled(tmp_path, 1)
    with pytest.raises(TypeError, match=r"state\['extra'\]\['seen'\]\[1\] is a "):
        store.save(2, {"extra": {"seen": [0, value]}})
    assert store.latest() == tmp_path / "step-00000001-a001"


def test_find_takes_a_run_or_a_checkpoint(tmp_path):
    newest = filled(tmp_path / "checkpoints", 1, 2).latest()
    assert find(tmp_path) == newest
    assert find(newest) == newest
    with pytest.raises(ValueError, match="neither a checkpoint nor a run"):
        find(tmp_path / "elsewhere")
