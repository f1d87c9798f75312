"""SciCap: both forms of its captions, its lists, its levels and its irregular names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from importing import (
    SHARED,
    Captured,
    needs_shared,
    prepared,
    refusal,
    texts_by_key,
    train,
    write_images,
    write_json,
)

from distgan.data.importers.scicap import facts_of, level_of
from distgan.data.texts import words_of

REAL = SHARED / "scicap" / "assembled"
RAW = "0-originally-extracted"
BRACKETS = "2-2-advanced-euqation-bracket"
LOWER = "1-lowercase-and-token-and-remove-figure-index"
DASH = "1101.0382v2-Figure5\u20131-1.png"
FIGURES = {  # by split: name, has subfigures
    "train": [
        ("1001.0001v1-Figure1-1.png", False),
        ("1005.4518v2-FigureA.3-1.png", False),
        (DASH, False),
        ("1001.0025v1-Figure2-1.png", True),
    ],
    "val": [("1005.0677v1-TableII-1.png", False)],
    "test": [("1112.2774v1-Table1-1.png", False), ("1001.0317v2-Figure2-1.png", True)],
}


def figure(name: str, subfigures: bool) -> dict[str, Any]:
    """What is published of one: two sentences, numbers, brackets, letters beyond ASCII."""

    def level(first: str, second: str, tokens: str = "token") -> dict[str, Any]:
        words = f"{first} {second}".split()
        return {"caption": " ".join(words), "sentence": [first, second], tokens: words}

    return {
        "contains-subfigure": subfigures,
        "Img-text": ["(b)"],
        "paper-ID": name.partition("-")[0],
        "figure-ID": name,
        "figure-type": "Graph Plot",
        RAW: "Figure 2: When µ = 2.8 (a). Then λ.",
        LOWER: level("when µ = 2.8 ( a ) .", "then λ ."),
        "2-normalized": {
            "2-1-basic-num": level("when µ = NUM-TK ( a ) .", "then λ ."),
            BRACKETS: level("when EQUAT-TK BRACKET-TK .", "then λ .", "tokens"),
        },
    }


def write_scicap(root: Path, *, form: str = "figures", case: str = "lower") -> Path:
    """The layout as published; `form`: one JSON a figure, or one list a split."""
    captions = root / "SciCap-Caption-All"
    for split, figures in FIGURES.items():
        shown = split if case == "lower" else split.title()
        entries = [figure(name, subfigures) for name, subfigures in figures]
        if form == "list":
            write_json(captions / f"SciCap-Caption-All-{split}.json", entries)
        else:
            for entry in entries:
                stem = entry["figure-ID"].removesuffix(".png")
                write_json(captions / shown / f"{stem}.json", entry)
        for subfigures, kind in ((False, "No-Subfig"), (True, "Yes-Subfig")):
            names = [name for name, has in figures if has == subfigures]
            write_images(root / f"SciCap-{kind}-Img" / shown, names)
            lists = root / "List-of-Files-for-Each-Experiments" / "First-Sentence"
            write_json(lists / kind / shown / "file_idx.json", names[:2])
    return root


@pytest.mark.parametrize("form", ["figures", "list"])
@pytest.mark.parametrize("case", ["lower", "Title"])
def test_an_experiment_is_its_list_and_its_sentence(tmp_path: Path, form: str, case: str) -> None:
    root = write_scicap(tmp_path / "scicap_data", form=form, case=case)
    dataset = prepared(tmp_path / "out", "scicap", root)
    assert texts_by_key(dataset) == {
        "train": {
            "1001_0001v1-Figure1-1": ["when µ = 2.8 ( a ) ."],
            "1005_4518v2-FigureA_3-1": ["when µ = 2.8 ( a ) ."],
        },
        "val": {"1005_0677v1-TableII-1": ["when µ = 2.8 ( a ) ."]},
        "test": {"1112_2774v1-Table1-1": ["when µ = 2.8 ( a ) ."]},
    }
    assert dataset.split("train").facts(1) == {
        "file": "1005.4518v2-FigureA.3-1.png",
        "paper": "1005.4518v2",
        "figure": "FigureA.3",
        "figure_type": "Graph Plot",
        "subfigures": False,
    }


@pytest.mark.parametrize(
    ("level", "caption", "words"),
    [
        (RAW, "Figure 2: When µ = 2.8 (a). Then λ.", "figure 2 when μ 28 a then λ"),
        (LOWER, "when µ = 2.8 ( a ) . then λ .", "when μ 28 a then λ"),
        ("2-1-basic-num", "when µ = NUM_TK ( a ) . then λ .", "when μ numtk a then λ"),
        (BRACKETS, "when EQUAT_TK BRACKET_TK . then λ .", "when equattk brackettk then λ"),
    ],
)  # fmt: skip
def test_levels_by_their_published_names(
    tmp_path: Path, level: str, caption: str, words: str
) -> None:
    """Special tokens stay one word each, and the misspelt level with `tokens` is read."""
    root = write_scicap(tmp_path / "scicap_data")
    given = ("--text", level, "--experiment", "all", "--figures", "both")
    dataset = prepared(tmp_path / "out", "scicap", root, *given)
    texts = texts_by_key(dataset)
    assert {text for split in texts.values() for those in split.values() for text in those} == {
        caption
    }
    assert set(texts["train"]) == {
        "1001_0001v1-Figure1-1", "1005_4518v2-FigureA_3-1", "1101_0382v2-Figure5\u20131-1",
        "1001_0025v1-Figure2-1",
    }  # fmt: skip
    assert words_of(caption) == words.split()
    assert set(words.split()) <= set(dataset.vocabulary.words)


def test_tokens_and_figures_choose(tmp_path: Path, capsys: Captured) -> None:
    root = write_scicap(tmp_path / "scicap_data")
    words = ("scicap", root, "--experiment", "all")
    dataset = prepared(tmp_path / "no", *words)
    said = capsys.readouterr().out
    assert dataset.manifest.splits == {"train": 3, "val": 1, "test": 1}
    assert "dropped 2: figures that --figures no-subfig leaves out: 1001.0025v1" in said
    said = refusal(capsys, tmp_path / "none", *words, "--figures", "yes-subfig")
    assert "split val would be empty: none of its 1 figures is wanted" in said
    for level, tokens in ((BRACKETS, 7), ("2-1-basic-num", 11)):
        given = (*words, "--text", level, "--max-tokens")
        prepared(tmp_path / f"{tokens}", *given, tokens)
        said = refusal(capsys, tmp_path / "none", *given, tokens - 1)
        assert "split train would be empty: none of its 4 figures is wanted" in said


def test_names_that_unzip_could_not_write(tmp_path: Path) -> None:
    """Without a locale, unzip writes a dash as #U2013, in both names."""
    root = write_scicap(tmp_path / "scicap_data")
    for path in [*root.rglob(DASH), *root.rglob(DASH.replace(".png", ".json"))]:
        path.rename(path.with_name(path.name.replace("\u2013", "#U2013")))
    lists = root / "List-of-Files-for-Each-Experiments" / "First-Sentence" / "No-Subfig"
    write_json(lists / "train" / "file_idx.json", [DASH])
    dataset = prepared(tmp_path / "out", "scicap", root)
    assert list(texts_by_key(dataset)["train"]) == ["1101_0382v2-Figure5\u20131-1"]
    assert dataset.split("train").facts(0)["figure"] == "Figure5\u20131"


def test_what_does_not_fit_together_is_refused(tmp_path: Path, capsys: Captured) -> None:
    root, out = write_scicap(tmp_path / "scicap_data"), tmp_path / "out"
    words = ("scicap", root)
    said = refusal(capsys, out, *words, "--text", "0-originally-extracted")
    assert "text=0-originally-extracted has neither sentences nor tokens" in said
    said = refusal(capsys, out, *words, "--experiment", "Single-Sentence-Caption")
    assert "no list of Single-Sentence-Caption, no-subfig, train (file_idx.json)" in said
    lists = root / "List-of-Files-for-Each-Experiments" / "First-Sentence" / "No-Subfig"
    write_json(lists / "val" / "file_idx.json", [f"1.2v3-Figure{i}-1.png" for i in range(9)])
    said = refusal(capsys, out, *words)
    assert "the list of val: of 9 images that it names, 0 are among" in said
    broken = root / "SciCap-Caption-All" / "val" / "1005.0677v1-TableII-1.json"
    content = figure("1005.0677v1-TableII-1.png", False)
    del content["2-normalized"]
    broken.write_text(json.dumps(content))
    given = ("--experiment", "all", "--text", BRACKETS)
    assert f"1005.0677v1-TableII-1.png: its captions have no {BRACKETS}" in refusal(
        capsys, out, *words, *given
    )
    broken.write_text("[1]")
    assert "a figure has no figure-ID" in refusal(capsys, out, *words, *given)
    assert "has no folder SciCap-Caption-All" in refusal(capsys, out, "scicap", lists)
    assert "nowhere does not exist" in refusal(capsys, out, "scicap", tmp_path / "nowhere")


@needs_shared("scicap")
@pytest.mark.slow
def test_real_figures_join_and_train(tmp_path: Path, capsys: Captured) -> None:
    words = ("scicap", REAL, "--experiment", "all", "--figures", "both")
    dataset = prepared(tmp_path / "scicap", *words, "--text", BRACKETS)
    said = capsys.readouterr().out
    assert "no captions of val, test in assembled" in said
    assert "dropped 1: described images that are not there: 1411.7101v1-Figure4-1.png" in said
    assert texts_by_key(dataset)["train"]["1901_03115v1-Figure7-1"] == [
        "optimal revenues as a function of waiting cost when : EQUAT_TK , EQUAT_TK and EQUAT_TK ."
    ]
    said = refusal(capsys, tmp_path / "x", "scicap", REAL)
    assert "no list of First-Sentence, no-subfig, train" in said
    said = refusal(capsys, tmp_path / "x", *words, "--min-joined", 0.9)
    assert "split train: of 3 images that it names, 2 are among the 2 found" in said
    style = tmp_path / "plain.txt"
    style.write_text("a plot of something\nanother plot\n")
    given = ("stages=[factual]", f"data.style={style}")
    train(tmp_path / "runs", tmp_path / "scicap", *given)


@needs_shared("scicap")
def test_every_real_name_and_level_is_read() -> None:
    lists = REAL / "List-of-Files-for-Each-Experiments" / "First-Sentence" / "No-Subfig"
    names = json.loads((lists / "val" / "file_idx.json").read_bytes())
    labels = {facts_of(figure(name, False))["figure"] for name in names}
    assert len(names) == 1000 and {"FigureA.3", "TableII", "Figure5\u20131", "Figure12"} <= labels
    for path in (REAL / "SciCap-Caption-All" / "train").iterdir():
        entry = json.loads(path.read_bytes())
        for name in (RAW, LOWER, "2-1-basic-num", BRACKETS):
            level = level_of(entry, name)
            assert name.startswith("0") or level.caption.split() == list(level.tokens)
            assert name.startswith("0") or level.caption == " ".join(level.sentences)
