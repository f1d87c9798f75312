from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from distgan.data.byte_pairs import BytePairs
from distgan.data.texts import read_lines, words_of
from distgan.data.vocabulary import END, PAD, START, UNK, Vocabulary
from distgan.data.word_pieces import WordPieces
from distgan.data.word_vectors import glove, of_transformer, read_embedding, read_word_vectors


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("A dog , running .", "a dog running"),
        ("Don't stop!", "dont stop"),
        ("red-haired man/woman & child", "red haired man woman and child"),
        ("caf\u00e9 \u2013 na\u00efve\r\n", "caf\u00e9 na\u00efve"),
        ('"(...)" \u2026 $ +', ""),
    ],
)
def test_words_are_lower_case_without_punctuation(text: str, words: str) -> None:
    assert words_of(text) == words.split()


@given(st.text(max_size=60))
def test_normal_form_is_normal(text: str) -> None:
    words = words_of(text)
    assert all(word and not any(c.isspace() for c in word) for word in words)
    assert words_of(" ".join(words)) == words or not text.isascii()


@given(st.lists(st.text(st.characters(max_codepoint=127), max_size=20), max_size=12))
def test_ascii_and_unicode_agree(texts: list[str]) -> None:
    for text in texts:
        assert words_of(f"{text} \u00e9") == [*words_of(text), "\u00e9"]


@given(st.lists(st.text("abc ", max_size=20), max_size=12), st.integers(1, 3))
def test_vocabulary_holds_frequent_words_first(texts: list[str], least: int) -> None:
    counts = Counter(word for text in texts for word in text.split())
    vocabulary = Vocabulary.build(texts, min_count=least)
    words = vocabulary.words[4:]
    assert set(words) == {word for word, n in counts.items() if n >= least}
    assert [counts[word] for word in words] == sorted((counts[w] for w in words), reverse=True)


def test_encoding_ends_cuts_and_comes_back() -> None:
    vocabulary = Vocabulary.build(["the dog runs", "the dog"], max_size=6)
    assert vocabulary.words == ("<pad>", "<start>", "<end>", "<unk>", "dog", "the")
    assert vocabulary.encode("The dog!", 8) == [5, 4, END]
    assert vocabulary.encode("the dog", 2) == [5, 4]
    assert vocabulary.encode("the cat", 3) == [5, UNK, END]
    assert vocabulary.decode([START, 5, 3, 4, END, 5, PAD]) == "the <unk> dog"
    again = Vocabulary.from_state(json.loads(json.dumps(vocabulary.state())))
    assert again == vocabulary and again.digest == vocabulary.digest
    assert Vocabulary(["a"]).digest != Vocabulary(["b"]).digest
    with pytest.raises(ValueError, match="a word occurs twice"):
        Vocabulary(["a", "a"])


def test_lines_are_read_or_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "style.txt"
    path.write_bytes(b"\xef\xbb\xbfone line\r\n\r\nanother\r\n")
    assert read_lines(path) == ["one line", "another"]
    for content, error in (
        (b"fine\n...\n", r"style\.txt: line 2 has no words: '\.\.\.'"),
        (b"fine\nbad \xa3\n", r"style\.txt: line 2 is not UTF-8"),
        (b"\n \n", r"style\.txt: no lines"),
    ):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=error):
            read_lines(path)
    with pytest.raises(ValueError, match=r"absent\.txt does not exist"):
        read_lines(tmp_path / "absent.txt")


def bytes_to_characters() -> list[str]:
    """GPT-2's characters for the 256 bytes, in the order of its first 256 numbers."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in shown]
    return [chr(b) for b in shown] + [chr(256 + n) for n in range(len(others))]


@pytest.fixture
def gpt2_files(tmp_path: Path) -> Path:
    """A tiny tokeniser in GPT-2's files: all bytes, `th`, `the` and ` dog`."""
    space = "\u0120"
    merges = ["t h", "th e", "d o", "do g", f"{space} dog"]
    pieces = [*bytes_to_characters(), *(m.replace(" ", "") for m in merges), "<|endoftext|>"]
    (tmp_path / "vocab.json").write_text(json.dumps({p: i for i, p in enumerate(pieces)}))
    (tmp_path / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n")
    return tmp_path


@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=30))
def test_byte_pairs_give_any_text_back(text: str) -> None:
    tokens = BytePairs({c: i for i, c in enumerate(bytes_to_characters())}, [])
    ids = tokens.encode(text, 200)
    assert ids[-1] == END and min(ids[:-1], default=4) >= 4
    assert tokens.decode(ids) == " ".join(text.split())


def test_byte_pairs_are_gpt2s_numbers_plus_four(gpt2_files: Path) -> None:
    tokens = BytePairs.open(gpt2_files)
    the, dog = 257, 260
    assert tokens.encode("the  dog", 9) == [the + 4, dog + 4, END]
    assert tokens.encode("the dog dog", 2) == [the + 4, dog + 4]
    assert tokens.decode([START, the + 4, dog + 4, END, the + 4]) == "the dog"
    assert len(tokens) == 256 + 6 + 4
    assert BytePairs.from_state(tokens.state()).digest == tokens.digest
    (gpt2_files / "merges.txt").unlink()
    with pytest.raises(ValueError, match=r"merges\.txt does not exist"):
        BytePairs.open(gpt2_files)


def test_glove_vectors_join_by_word(tmp_path: Path) -> None:
    path = tmp_path / "glove.txt"
    path.write_text("the 1 2\nat home 3 4\ndog 5 6\nthe 7 8\n")
    vectors = glove(path, Vocabulary(["dog", "cat", "the"]))
    assert vectors.found == pytest.approx(2 / 3)
    assert torch.equal(vectors.matrix[[4, 6]], torch.tensor([[5.0, 6], [1, 2]]))
    assert vectors.matrix[[0, 1, 2, 3, 5]].isnan().all()
    path.write_text("the 1 2\ndog 5\n")
    with pytest.raises(ValueError, match=r"glove\.txt: line 2 has 1 numbers, not 2"):
        glove(path, Vocabulary(["dog"]))
    path.write_text("the 1 2\n")
    with pytest.raises(ValueError, match=r"glove\.txt know none of the 5 words"):
        read_word_vectors(path, Vocabulary(["dog"]))
    with pytest.raises(ValueError, match=r"absent\.txt do not exist"):
        glove(tmp_path / "absent.txt", Vocabulary(["dog"]))


@pytest.mark.parametrize("kind", ["model.safetensors", "pytorch_model.bin"])
def test_gpt2_vectors_come_from_either_kind_of_file(gpt2_files: Path, kind: str) -> None:
    table = torch.arange(262 * 3, dtype=torch.float32).reshape(262, 3)
    if kind.endswith("bin"):
        torch.save({"transformer.wte.weight": table}, gpt2_files / kind)
    else:
        save_file({"wte.weight": table}, gpt2_files / kind)
    assert np.array_equal(read_embedding(gpt2_files / kind), table.numpy())
    words = of_transformer(gpt2_files, Vocabulary(["dog", "the"]))
    assert words.found == 1
    assert torch.equal(words.matrix[4], table[260])
    pieces = [bytes_to_characters().index("\u0120"), 257]
    assert torch.equal(words.matrix[5], table[pieces].mean(0))
    tokens = BytePairs.open(gpt2_files)
    assert torch.equal(of_transformer(gpt2_files, tokens).matrix[4:], table)
    with pytest.raises(ValueError, match=r"the tokeniser in .* is not the run's own"):
        of_transformer(gpt2_files, WordPieces(["[UNK]", "a"], lower=True))


def test_berts_vectors_belong_to_its_pieces(tmp_path: Path) -> None:
    pieces = ["[UNK]", "dog", "##s", "the"]
    (tmp_path / "vocab.txt").write_text("\n".join(pieces))
    table = torch.arange(5 * 3, dtype=torch.float32).reshape(5, 3)  # a row more, for alignment
    name = "bert.embeddings.word_embeddings.weight"
    save_file({name: table}, tmp_path / "model.safetensors")
    own = of_transformer(tmp_path, WordPieces.open(tmp_path))
    assert torch.equal(own.matrix[4:], table[:4]) and own.found == 1
    words = of_transformer(tmp_path, Vocabulary(["dogs", "The"]))
    assert torch.equal(words.matrix[4:], torch.stack([table[1:3].mean(0), table[3]]))
    save_file({"other": table}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"has none of wte\.weight, .*; it has \['other'\]"):
        of_transformer(tmp_path, Vocabulary(["dog"]))


class Harmful:
    def __reduce__(self) -> tuple[object, ...]:
        return (print, ("unpickled",))


def test_weights_that_would_run_code_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({"wte.weight": Harmful()}, tmp_path / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"pytorch_model\.bin: refused"):
        read_embedding(tmp_path / "pytorch_model.bin")
    assert capsys.readouterr().out == ""
