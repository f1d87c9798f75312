"""BERT's word pieces from vocab.txt, and what kinds of vocabularies share."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distgan.data.byte_pairs import BytePairs
from distgan.data.tokens import tokens_from_state, vocabulary_difference
from distgan.data.vocabulary import END, PAD, START, UNK, Tokens, Vocabulary
from distgan.data.word_pieces import WordPieces

LETTERS = "abcdefg"
PIECES = [
    *("[PAD]", "[unused0]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"),
    *LETTERS[:5],
    *(f"##{letter}" for letter in LETTERS[:4]),
    *("ab", "##cd", "bad", "##bad", "abbe", ".", ",", "-"),
]


def slow_pieces(text: str, pieces: list[str]) -> list[int]:
    """The longest piece that fits, again and again, within words parted by BERT's rules."""
    found = []
    for word in re.findall(r"\w+|[^\w\s]", text.lower()):
        start, ids = 0, []
        while start < len(word):
            mark = "##" if start else ""
            fits = [e for e in range(start + 1, len(word) + 1) if mark + word[start:e] in pieces]
            if not fits:
                ids = [pieces.index("[UNK]")]
                break
            ids.append(pieces.index(mark + word[start : max(fits)]))
            start = max(fits)
        found += ids
    return found


@given(st.text(LETTERS + LETTERS.upper() + " .,-", max_size=40))
def test_pieces_are_the_longest_that_fit(text: str) -> None:
    tokens = WordPieces(PIECES, lower=True)
    slow = slow_pieces(text, PIECES)
    assert tokens.pieces_of(text) == slow
    expected = [UNK if i == PIECES.index("[UNK]") else i + 4 for i in slow]
    assert tokens.encode(text, 200) == [*expected, END]
    assert tokens.encode(text, 5) == [*expected, END][:5]
    assert not set(tokens.encode(text, 200)) & {PAD, START, *tokens.never}


@given(st.lists(st.text("abcd", min_size=1, max_size=6), max_size=8))
def test_words_come_back_whole(words: list[str]) -> None:
    pieces = ["[UNK]", *"abcd", *("##" + letter for letter in "abcd"), "##ab"]
    tokens = WordPieces(pieces, lower=False)
    assert tokens.decode(tokens.encode(" ".join(words), 99)) == " ".join(words)


def saved(folder: Path, pieces: list[str], end: str = "\n") -> Path:
    path = folder / "vocab.txt"
    path.write_bytes("".join(piece + end for piece in pieces).encode())
    return path


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_files_say_whether_capitals_count(tmp_path: Path, end: str) -> None:
    path = saved(tmp_path, PIECES, end)
    uncased = WordPieces.open(tmp_path)
    assert WordPieces.open(path).digest == uncased.digest
    assert len(uncased) == len(PIECES) + 4
    assert uncased.encode("A B\u00c0D", 9) == [PIECES.index("a") + 4, PIECES.index("bad") + 4, END]
    cased_pieces = [*PIECES, "Bad"]
    saved(tmp_path, cased_pieces, end)
    cased = WordPieces.open(path)
    assert cased.encode("Bad bad", 9) == [len(PIECES) + 4, PIECES.index("bad") + 4, END]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": True}))
    assert WordPieces.open(path).encode("Bad", 9) == [PIECES.index("bad") + 4, END]
    assert uncased.name(START) == "<start>" and uncased.name(PIECES.index("##cd") + 4) == "##cd"


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"vocab\.txt does not exist"):
        WordPieces.open(tmp_path)
    with pytest.raises(ValueError, match=r"no \[UNK\] among its 2 pieces"):
        WordPieces.open(saved(tmp_path, ["a", "b"]))
    with pytest.raises(ValueError, match="the piece 'a' occurs twice"):
        WordPieces.open(saved(tmp_path, ["[UNK]", "a", "a"]))
    (tmp_path / "vocab.txt").write_bytes(b"[UNK]\ncaf\xe9\n")
    with pytest.raises(ValueError, match=r"vocab\.txt is not UTF-8"):
        WordPieces.open(tmp_path)
    path = saved(tmp_path, PIECES)
    (tmp_path / "tokenizer_config.json").write_text('{"do_lower_case": "yes"}')
    with pytest.raises(ValueError, match="do_lower_case must be true or false, got 'yes'"):
        WordPieces.open(path)


KINDS: list[Tokens] = [
    Vocabulary(["dog", "cat"]),
    BytePairs({"a": 0, "b": 1}, []),
    WordPieces(PIECES, lower=True),
]


@pytest.mark.parametrize("tokens", KINDS, ids=lambda tokens: type(tokens).__name__)
def test_every_kind_comes_back_from_its_state(tokens: Tokens) -> None:
    again = tokens_from_state(json.loads(json.dumps(tokens.state())))
    assert type(again) is type(tokens) and again.digest == tokens.digest
    assert vocabulary_difference(again.state(), tokens.state()) == ""
    with pytest.raises(ValueError, match="a vocabulary of kind 'runes'"):
        tokens_from_state({"kind": "runes"})


@pytest.mark.parametrize(
    ("theirs", "ours", "said"),
    [
        (
            Vocabulary(["dog", "cat", "the", "a", "b"]),
            Vocabulary(["dog", "the", "cat", "a", "b"]),
            "it has 9 words, this run 9; from number 5 on it has 'cat', 'the', 'a', "
            "this run 'the', 'cat', 'a'",
        ),
        (
            Vocabulary(["dog", "cat"]),
            Vocabulary(["dog"]),
            "it has 6 words, this run 5; from number 5 on it has 'cat', this run no more",
        ),
        (Vocabulary(["dog"]), KINDS[1], "it has words, this run has byte_pairs"),
        (
            WordPieces(PIECES, lower=True),
            WordPieces(PIECES, lower=False),
            "this run 27, the same, but text is parted into them otherwise",
        ),
    ],
)
def test_differences_name_the_first_words(theirs: Tokens, ours: Tokens, said: str) -> None:
    assert said in vocabulary_difference(theirs.state(), ours.state())
