"""The kinds of vocabularies there are: opened from files, rebuilt from a checkpoint, compared."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from distgan.data.byte_pairs import BytePairs
from distgan.data.vocabulary import Tokens, Vocabulary
from distgan.data.word_pieces import WordPieces

_KINDS: dict[str, Callable[[dict[str, Any]], Tokens]] = {
    "words": Vocabulary.from_state,
    "byte_pairs": BytePairs.from_state,
    "word_pieces": WordPieces.from_state,
}
_SHOWN = 3  # words named in a difference


def tokens_from_state(state: dict[str, Any]) -> Tokens:
    """Words, byte pairs or word pieces, as their `state` says. ValueError for anything else."""
    kind = str(state.get("kind"))
    if kind not in _KINDS:
        raise ValueError(f"a vocabulary of kind {kind!r}; known are {', '.join(_KINDS)}")
    return _KINDS[kind](state)


def vocabulary_difference(theirs: dict[str, Any], ours: dict[str, Any]) -> str:
    """Where two vocabularies' states differ first, in words; empty for equal ones."""
    if theirs == ours:
        return ""
    if theirs.get("kind") != ours.get("kind"):
        return f"it has {theirs.get('kind')}, this run has {ours.get('kind')}"
    a, b = tokens_from_state(theirs), tokens_from_state(ours)
    number = next((i for i in range(min(len(a), len(b))) if a.name(i) != b.name(i)), None)
    sizes = f"it has {len(a):,} {theirs['kind'].replace('_', ' ')}, this run {len(b):,}"
    if number is None and len(a) == len(b):
        return f"{sizes}, the same, but text is parted into them otherwise"
    first = min(len(a), len(b)) if number is None else number
    return f"{sizes}; from number {first} on it has {_shown(a, first)}, this run {_shown(b, first)}"


def _shown(tokens: Tokens, first: int) -> str:
    last = min(first + _SHOWN, len(tokens))
    return ", ".join(repr(tokens.name(i)) for i in range(first, last)) or "no more"
