"""GPT-2's byte-pair tokens, from its vocab.json and merges.txt on the disk."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from distgan.data.vocabulary import (
    SPECIAL,
    UNK,
    digest_of,
    finish,
    until_end,
)

END_OF_TEXT = "<|endoftext|>"


class BytePairs:
    """Pieces of words; the numbers are GPT-2's plus 4, after PAD, START, END and UNK.

    Text keeps its case and punctuation, with single spaces between words. GPT-2 has a piece
    for every byte, so UNK never comes out of `encode`.
    """

    def __init__(self, pieces: dict[str, int], merges: list[str]) -> None:
        """`pieces` as in vocab.json, `merges` the lines of merges.txt without its first."""
        self._pieces, self._merges = pieces, merges
        if sorted(pieces.values()) != list(range(len(pieces))):
            raise ValueError("vocab.json: its numbers are not 0, 1, 2, ...")
        pairs = [(left, right) for left, _, right in (line.partition(" ") for line in merges)]
        try:
            self._tokens = Tokenizer(models.BPE(vocab=pieces, merges=pairs))
        except Exception as error:  # the library raises nothing more exact
            raise ValueError(f"vocab.json and merges.txt do not fit together: {error}") from error
        self._tokens.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        self._tokens.decoder = decoders.ByteLevel()

    @classmethod
    def open(cls, folder: str | Path) -> BytePairs:
        """From a folder with vocab.json and merges.txt; ValueError naming what is missing."""
        vocab, merges = Path(folder) / "vocab.json", Path(folder) / "merges.txt"
        for path in (vocab, merges):
            if not path.is_file():
                raise ValueError(f"tokeniser file {path} does not exist")
        lines = merges.read_text("utf-8").splitlines()
        kept = [line for line in lines if line and not line.startswith("#version")]
        return cls(json.loads(vocab.read_text("utf-8")), kept)

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> BytePairs:
        return cls(state["pieces"], state["merges"])

    def __len__(self) -> int:
        return len(SPECIAL) + len(self._pieces)

    def encode(self, text: str, max_length: int) -> list[int]:
        """At most `max_length` numbers: END closes what fits, a longer text is cut without it."""
        ids = self._tokens.encode(" ".join(text.split())).ids
        return finish([i + len(SPECIAL) for i in ids], max_length)

    def decode(self, ids: Iterable[int]) -> str:
        """The text up to END; UNK is left out."""
        pieces = [i - len(SPECIAL) for i in until_end(ids) if i != UNK]
        return self._tokens.decode(pieces, skip_special_tokens=False).strip()

    def name(self, number: int) -> str:
        """One piece as a person reads it; a leading space marks the start of a word."""
        if number < len(SPECIAL):
            return SPECIAL[number]
        return self._tokens.decode([number - len(SPECIAL)], skip_special_tokens=False)

    def pieces_of(self, word: str) -> list[int]:
        """GPT-2's own numbers, not shifted, of a word within a sentence."""
        return self._tokens.encode(f" {word}").ids

    def state(self) -> dict[str, Any]:
        return {"kind": "byte_pairs", "pieces": self._pieces, "merges": self._merges}

    @property
    def digest(self) -> str:
        return digest_of(self.state())

    @property
    def never(self) -> tuple[int, ...]:
        """<|endoftext|>, where it is a piece: END stands for it."""
        own = self._pieces.get(END_OF_TEXT)
        return () if own is None else (own + len(SPECIAL),)
