"""Tiny tokenisers in the files of GPT-2 and BERT, made on the spot."""

from __future__ import annotations

import json
import string
from pathlib import Path

from tokenizers.pre_tokenizers import ByteLevel


def byte_pair_files(folder: Path) -> Path:
    """Every byte, and ` red` in two merges."""
    characters = sorted(ByteLevel.alphabet())
    merges = ["Ġ r", "Ġr e", "Ġre d"]
    pieces = [*characters, *(merge.replace(" ", "") for merge in merges)]
    folder.mkdir()
    (folder / "vocab.json").write_text(json.dumps({p: i for i, p in enumerate(pieces)}))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]))
    return folder


def word_piece_files(folder: Path) -> Path:
    """Every lower-case letter, to begin a word with and to go on with, and `red`."""
    letters = [*string.ascii_lowercase, *(f"##{letter}" for letter in string.ascii_lowercase)]
    folder.mkdir()
    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", *letters, "red", ""]))
    return folder
