"""Pretrained word vectors from local files: GloVe's text, embeddings of GPT-2 and BERT."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from distgan.data.byte_pairs import BytePairs
from distgan.data.vocabulary import SPECIAL, Tokens, Vocabulary
from distgan.data.word_pieces import WordPieces

_EMBEDDINGS = (
    *("wte.weight", "transformer.wte.weight"),
    *("embeddings.word_embeddings.weight", "bert.embeddings.word_embeddings.weight"),
)
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")


class WordVectors(NamedTuple):
    """A row for each word of a vocabulary."""

    matrix: Tensor  # (words, features) float32; NaN for the special words and those not found
    found: float  # share of the words, special ones aside, that the file knows


def read_word_vectors(path: str | Path, vocabulary: Tokens) -> Tensor:
    """(words, features): GloVe from a text file, GPT-2's or BERT's from a folder with its files.

    NaN where there is no vector. ValueError naming `path` when it knows none of the words.
    """
    if Path(path).is_dir():
        vectors = of_transformer(path, vocabulary)
    elif isinstance(vocabulary, Vocabulary):
        vectors = glove(path, vocabulary)
    else:
        raise ValueError(
            f"word vectors {path} are of whole words; pieces need the folder of GPT-2 or BERT"
        )
    if not vectors.found:
        raise ValueError(f"word vectors {path} know none of the {len(vocabulary)} words")
    return vectors.matrix


def glove(path: str | Path, vocabulary: Vocabulary) -> WordVectors:
    """From GloVe's text format: a word and its numbers on each line, a header line or none.

    ValueError naming the file, and the line, when it is not that.
    """
    path = _existing(path)
    wanted = {word: i for i, word in enumerate(vocabulary.words) if i >= len(SPECIAL)}
    rows: dict[int, NDArray[np.float32]] = {}
    size = 0
    with path.open(encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file, 1):
            parts = line.rstrip().split(" ")
            if number == 1 and len(parts) == 2:
                continue  # word2vec's header: how many, how long
            size = size or len(parts) - 1
            if len(parts) <= size or size == 0:
                raise ValueError(f"{path}: line {number} has {len(parts) - 1} numbers, not {size}")
            word = " ".join(parts[:-size])  # a few of GloVe's words hold spaces
            if word in wanted and wanted[word] not in rows:
                rows[wanted[word]] = _numbers(parts[-size:], path, number)
    if size == 0:
        raise ValueError(f"{path}: no word vectors in it")
    return _table(rows, len(vocabulary), size)


def of_transformer(folder: str | Path, vocabulary: Tokens) -> WordVectors:
    """From a folder with a tokeniser's files and weights (safetensors or .bin): GPT-2's
    vocab.json and merges.txt, or BERT's vocab.txt.

    A word gets the mean of its pieces' vectors; byte pairs and word pieces get their own.
    ValueError when `vocabulary` is pieces of another tokeniser.
    """
    tokens = _pieces_in(Path(folder))
    table = read_embedding(_weights_in(Path(folder)))
    if len(table) < len(tokens) - len(SPECIAL):
        raise ValueError(f"{folder}: {len(table)} vectors for {len(tokens) - len(SPECIAL)} tokens")
    numbers = range(len(SPECIAL), len(vocabulary))
    if isinstance(vocabulary, Vocabulary):
        rows = {i: table[tokens.pieces_of(vocabulary.name(i))].mean(0) for i in numbers}
    elif vocabulary.digest == tokens.digest:
        rows = {i: table[i - len(SPECIAL)] for i in numbers}
    else:
        raise ValueError(f"word vectors: the tokeniser in {folder} is not the run's own")
    return _table(rows, len(vocabulary), table.shape[1])


def read_embedding(path: str | Path) -> NDArray[np.float32]:
    """The (tokens, features) embedding of GPT-2 or BERT, from safetensors or a torch state dict.

    ValueError naming the file when it is neither, or holds no such embedding.
    """
    weights = _read_weights(_existing(path))
    for name in _EMBEDDINGS:
        if name in weights:
            return weights[name].to(torch.float32).numpy()
    raise ValueError(f"{path} has none of {', '.join(_EMBEDDINGS)}; it has {list(weights)[:5]}")


def _pieces_in(folder: Path) -> BytePairs | WordPieces:
    return WordPieces.open(folder) if (folder / "vocab.txt").is_file() else BytePairs.open(folder)


def _read_weights(path: Path) -> dict[str, Any]:
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except SafetensorError as error:
            raise ValueError(f"{path}: damaged: {error}") from error
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        raise ValueError(f"{path}: refused: not a plain torch state dict: {error}") from error
    if not isinstance(weights, dict):
        raise ValueError(f"{path}: holds a {type(weights).__name__}, not a state dict")
    return weights


def _weights_in(folder: Path) -> Path:
    for name in _WEIGHTS:
        if (folder / name).is_file():
            return folder / name
    raise ValueError(f"word vectors: {folder} holds neither of {', '.join(_WEIGHTS)}")


def _table(rows: dict[int, NDArray[np.float32]], words: int, size: int) -> WordVectors:
    matrix = np.full((words, size), np.nan, dtype=np.float32)
    for i, row in rows.items():
        matrix[i] = row
    return WordVectors(torch.from_numpy(matrix), len(rows) / max(words - len(SPECIAL), 1))


def _numbers(parts: list[str], path: Path, line: int) -> NDArray[np.float32]:
    try:
        return np.array(parts, dtype=np.float32)
    except ValueError as error:
        raise ValueError(f"{path}: line {line}: {error}") from error


def _existing(path: str | Path) -> Path:
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"word vectors {path} do not exist")
    return path
