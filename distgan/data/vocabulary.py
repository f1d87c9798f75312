"""Words as numbers: PAD, START, END and UNK come first in every vocabulary."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from distgan.data.shards import vocabulary_words
from distgan.data.texts import words_of

PAD, START, END, UNK = 0, 1, 2, 3
SPECIAL = ("<pad>", "<start>", "<end>", "<unk>")


class Tokens(Protocol):
    """What models and sources need of a vocabulary of words or of pieces of words."""

    def __len__(self) -> int: ...
    def encode(self, text: str, max_length: int) -> list[int]: ...
    def decode(self, ids: Iterable[int]) -> str: ...
    def name(self, number: int) -> str: ...
    def state(self) -> dict[str, Any]: ...
    @property
    def digest(self) -> str: ...
    @property
    def never(self) -> tuple[int, ...]:
        """Numbers beside the special ones that no encoded text holds."""
        ...


class Vocabulary:
    """Whole words, in lower case and without punctuation (`texts.words_of`)."""

    def __init__(self, words: Sequence[str]) -> None:
        """`words` without the special ones, most frequent first."""
        self.words = (*SPECIAL, *words)
        self._ids = {word: i for i, word in enumerate(self.words)}
        if len(self._ids) != len(self.words):
            raise ValueError("vocabulary: a word occurs twice")

    @classmethod
    def build(
        cls, texts: Iterable[str], min_count: int = 1, max_size: int | None = None
    ) -> Vocabulary:
        """Words with at least `min_count` occurrences; `max_size` counts the special ones."""
        limit = None if max_size is None else max(0, max_size - len(SPECIAL))
        return cls(vocabulary_words(texts, min_count, limit))

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Vocabulary:
        return cls(state["words"])

    def __len__(self) -> int:
        return len(self.words)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vocabulary) and self.words == other.words

    def __hash__(self) -> int:
        return hash(self.words)

    def name(self, number: int) -> str:
        return self.words[number]

    def id_of(self, word: str) -> int:
        """The word's number, UNK when the vocabulary lacks it."""
        return self._ids.get(word, UNK)

    def encode(self, text: str, max_length: int) -> list[int]:
        """At most `max_length` numbers: END closes what fits, a longer text is cut without it."""
        return finish([self.id_of(word) for word in words_of(text)], max_length)

    def decode(self, ids: Iterable[int]) -> str:
        """The words up to END, joined by spaces."""
        return " ".join(self.words[i] for i in until_end(ids))

    def state(self) -> dict[str, Any]:
        return {"kind": "words", "words": list(self.words[len(SPECIAL) :])}

    @property
    def digest(self) -> str:
        return digest_of(self.state())

    @property
    def never(self) -> tuple[int, ...]:
        return ()


def finish(ids: list[int], max_length: int) -> list[int]:
    """The numbers with END, cut to `max_length`."""
    return [*ids, END][:max_length]


def until_end(ids: Iterable[int]) -> Iterable[int]:
    """The numbers before the first END, without PAD and START."""
    for i in ids:
        if i == END:
            return
        if i not in (PAD, START):
            yield int(i)


def digest_of(state: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()
