"""Pickles that nobody vouches for: plain values, damaged ones, and harmful ones."""

from __future__ import annotations

import os
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from distgan.data.importers.pickles import load_plain, read_plain

BIRDS = Path(__file__).resolve().parents[3] / "shared/data/cub_metadata"
VALUES: list[Any] = [
    [["a", "b\u00e9"], {1: "x", "y": (2, 3.5, None, True)}],
    [2573, 10, 13, "x" * 13, "y" * 10],  # bytes 13 and 10 in binary pickles
    {0: "<end>", 1: "bird\n", 2: "line\r\nend"},
]


def saved(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("value", VALUES)
def test_plain_values_come_back(tmp_path: Path, value: Any, protocol: int) -> None:
    path = saved(tmp_path / "p", pickle.dumps(value, protocol))
    assert load_plain(path) == value


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("value", VALUES[:2])
def test_line_ends_turned_to_crlf_are_turned_back(
    tmp_path: Path, value: Any, protocol: int
) -> None:
    whole = pickle.dumps(value, protocol)
    read = read_plain(saved(tmp_path / "p", whole.replace(b"\n", b"\r\n")))
    assert read.value == value and read.repaired == (b"\n" in whole)


def test_what_cannot_be_repaired_is_refused(tmp_path: Path) -> None:
    whole = pickle.dumps(["a", "b"], 0)
    half = whole.replace(b"\n", b"\r\n", 2)
    with pytest.raises(ValueError, match=r"p: refused: .*2 of its \d line ends are CR LF"):
        read_plain(saved(tmp_path / "p", half))
    lost = pickle.dumps([2573, 10, 13, "x"], 2).replace(b"\r\n", b"\n")
    with pytest.raises(ValueError, match="p: refused"):
        read_plain(saved(tmp_path / "p", lost))
    for cut in (whole[:-3], whole + b"more", b"", b"\x80\x02"):
        with pytest.raises(ValueError, match="p: refused"):
            read_plain(saved(tmp_path / "p", cut))
    with pytest.raises(ValueError, match="absent does not exist"):
        read_plain(tmp_path / "absent")


@pytest.mark.parametrize("protocol", range(6))
def test_numpys_numbers_come_as_pythons(tmp_path: Path, protocol: int) -> None:
    values = [
        np.int64(200),
        np.int64(128),
        np.uint8(255),
        np.float32(0.5),
        np.bool_(True),
        np.dtype(">i4").type(-7),
    ]
    read = load_plain(saved(tmp_path / "p", pickle.dumps(values, protocol)))
    assert read == [200, 128, 255, 0.5, True, -7]
    assert {type(value) for value in read} == {int, float, bool}


def test_numbers_as_python_2_and_old_numpy_wrote_them(tmp_path: Path) -> None:
    """Big-endian 258, Latin-1 bytes above 127, and text in UTF-8."""
    text = (
        b"(lp0\ncnumpy.core.multiarray\nscalar\np1\n(cnumpy\ndtype\np2\n(S'i2'\nI0\nI1\ntRp3\n"
        b"(I3\nS'>'\nNNNI-1\nI-1\nI0\ntbS'\\x01\\x02'\ntRag1\n(g3\nS'\\x00\\xc8'\ntRa"
        b"S'caf\\xc3\\xa9'\naS'caf\\xe9'\na."
    )
    assert load_plain(saved(tmp_path / "p", text)) == [258, 200, "caf\u00e9", "caf\u00e9"]


class Harmful:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("made_by_a_pickle",)


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    "value",
    [
        Harmful(),
        [print],
        OrderedDict(a=1),
        np.zeros(3),
        np.dtype("O"),
        [np.dtype("i8")],
        np.datetime64("2020-01-01"),
        np.str_("words"),
    ],
)
def test_everything_else_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: Any, protocol: int
) -> None:
    monkeypatch.chdir(tmp_path)
    path = saved(tmp_path / "p", pickle.dumps(value, protocol))
    with pytest.raises(ValueError, match="p: refused: not a pickle of plain values"):
        load_plain(path)
    assert not (tmp_path / "made_by_a_pickle").exists()


@pytest.mark.parametrize(
    "text",
    [
        b"cnumpy.core.multiarray\nscalar\n.",  # a function as the value
        b"cnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\n(S'i8'\ntRS'\\x01'\ntR.",  # 1 of 8 bytes
        b"cnumpy\ndtype\n(S'O8'\ntR.",
        b"c_codecs\nencode\n(Vx\nVrot13\ntR.",
        b"cnumpy\ndtype.__init__.__globals__\n.",
        b"\x80\x04\x8c\x05numpy\x8c\x0edtype.__init__\x93.",
        b"(lp0\ng0\na.",  # a list within itself
        b"Pid\n.",
    ],
)
def test_the_allowed_names_open_nothing_else(tmp_path: Path, text: bytes) -> None:
    with pytest.raises(ValueError, match="p: refused"):
        load_plain(saved(tmp_path / "p", text))


def test_shared_parts_are_read_once(tmp_path: Path) -> None:
    """A list of itself thirty times over would fill the memory, if each were copied."""
    text = b"(lp0\n" + b"".join(b"(lp%d\ng%d\nag%d\na" % (n, n - 1, n - 1) for n in range(1, 31))
    assert load_plain(saved(tmp_path / "p", text + b"."))


@pytest.mark.skipif(not BIRDS.is_dir(), reason="no birds beside the repository")
@pytest.mark.parametrize("split", ["train", "test"])
def test_attngans_own_files_damaged_and_repaired_agree(split: str) -> None:
    read = {}
    for name in ("filenames", "class_info"):
        found = read_plain(BIRDS / "as_found" / split / f"{name}.pickle")
        whole = read_plain(BIRDS / "crlf_repaired" / split / f"{name}.pickle")
        assert found.repaired and not whole.repaired
        assert found.value == whole.value
        read[name] = found.value
    assert len(read["filenames"]) == {"train": 8855, "test": 2933}[split]
    assert [int(name[:3]) for name in read["filenames"]] == read["class_info"]
