"""BERT's word pieces, from its vocab.txt on the disk."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

from distgan.data.vocabulary import SPECIAL, UNK, digest_of, finish, until_end

_UNKNOWN = "[UNK]"
_OWN_SPECIAL = re.compile(r"\[[^\s\[\]]+\]")  # [PAD], [CLS], [unused7]: no text holds them


class WordPieces:
    """Words and pieces of words; the numbers are BERT's plus 4, after PAD, START, END and UNK.

    Punctuation is a word of its own. An uncased vocabulary takes text in lower case and without
    accents. BERT's [UNK], for words that no pieces make up, is UNK; its other special pieces
    never come out of `encode`.
    """

    def __init__(self, pieces: Sequence[str], *, lower: bool) -> None:
        """`pieces` as the lines of vocab.txt; `lower` for an uncased vocabulary."""
        self._pieces, self._lower = tuple(pieces), lower
        numbers = {piece: i for i, piece in enumerate(self._pieces)}
        if len(numbers) < len(self._pieces):
            twice = next(p for i, p in enumerate(self._pieces) if numbers[p] != i)
            raise ValueError(f"vocab.txt: the piece {twice!r} occurs twice")
        if _UNKNOWN not in numbers:
            raise ValueError(f"vocab.txt: no {_UNKNOWN} among its {len(numbers)} pieces")
        self._unknown = numbers[_UNKNOWN]
        self._tokens = Tokenizer(models.WordPiece(vocab=numbers, unk_token=_UNKNOWN))
        self._tokens.normalizer = normalizers.BertNormalizer(lowercase=lower)
        self._tokens.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        self._tokens.decoder = decoders.WordPiece()

    @classmethod
    def open(cls, path: str | Path) -> WordPieces:
        """From vocab.txt, or the folder that holds it. ValueError naming what is missing.

        Cased or uncased as the folder's tokenizer_config.json says; without one, uncased when no
        piece has a capital letter.
        """
        path = Path(path)
        vocab = path / "vocab.txt" if path.is_dir() else path
        if not vocab.is_file():
            raise ValueError(f"tokeniser file {vocab} does not exist")
        try:
            pieces = vocab.read_text("utf-8").split("\n")
        except UnicodeDecodeError as error:
            raise ValueError(f"{vocab} is not UTF-8: {error}") from error
        pieces = [piece.rstrip("\r") for piece in pieces]
        while pieces and not pieces[-1]:
            pieces.pop()
        said = _said_lower(vocab.with_name("tokenizer_config.json"))
        capital = any(p != p.lower() for p in pieces if not _OWN_SPECIAL.fullmatch(p))
        return cls(pieces, lower=not capital if said is None else said)

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> WordPieces:
        return cls(state["pieces"], lower=state["lower"])

    def __len__(self) -> int:
        return len(SPECIAL) + len(self._pieces)

    def encode(self, text: str, max_length: int) -> list[int]:
        """At most `max_length` numbers: END closes what fits, a longer text is cut without it."""
        return finish([self._own(i) for i in self.pieces_of(text)], max_length)

    def decode(self, ids: Iterable[int]) -> str:
        """The text up to END, pieces joined to words; UNK is left out."""
        pieces = [i - len(SPECIAL) for i in until_end(ids) if i != UNK]
        return self._tokens.decode(pieces, skip_special_tokens=False).strip()

    def name(self, number: int) -> str:
        """One piece as vocab.txt has it; `##` marks one that goes on a word."""
        return SPECIAL[number] if number < len(SPECIAL) else self._pieces[number - len(SPECIAL)]

    def pieces_of(self, text: str) -> list[int]:
        """BERT's own numbers, not shifted, of a word or a text."""
        return self._tokens.encode(text, add_special_tokens=False).ids

    def state(self) -> dict[str, Any]:
        return {"kind": "word_pieces", "pieces": list(self._pieces), "lower": self._lower}

    @property
    def digest(self) -> str:
        return digest_of(self.state())

    @property
    def never(self) -> tuple[int, ...]:
        """BERT's special pieces, [UNK] among them: UNK stands for it."""
        own = (i for i, piece in enumerate(self._pieces) if _OWN_SPECIAL.fullmatch(piece))
        return tuple(i + len(SPECIAL) for i in own)

    def _own(self, number: int) -> int:
        return UNK if number == self._unknown else number + len(SPECIAL)


def _said_lower(path: Path) -> bool | None:
    """What tokenizer_config.json says of capitals; None where it says nothing."""
    if not path.is_file():
        return None
    try:
        said = json.loads(path.read_text("utf-8")).get("do_lower_case")
    except (ValueError, AttributeError) as error:
        raise ValueError(f"{path} is not a JSON object: {error}") from error
    if said is not None and not isinstance(said, bool):
        raise ValueError(f"{path}: do_lower_case must be true or false, got {said!r}")
    return said
