"""The language of captions: what is a sentence of it, and what that sentence claims.

    caption  = sentence [tail]
    sentence = [opener] groups | group be relation group
    groups   = group
             | group "and" group | group "and" group "and" group | group "with" group "and" group
             | group relation group
             | group "and" relation ("it" | "them") group
             | group relation group "and" [relation] group
    group    = ("a" | "an") [adjective] [size] colour shape
             | "two" [adjective] [size] colour shapes

`be`, openers, articles and pronouns agree with their group. "A above b and c" puts `a` above both.
Anything else is outside the grammar and counts as wrong.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

from distgan.data.shapes.scenes import COLOURS, INVERSE, SHAPES
from distgan.data.shapes.styles import STYLE_OF, STYLE_OF_TAIL

MAX_WORDS = 15
SIZE_WORDS = {"large": ("large", "big"), "small": ("small", "little")}
RELATION_WORDS = {
    "left": ("left of", "to the left of"),
    "right": ("right of", "to the right of"),
    "above": ("above", "over"),
    "below": ("below", "under"),
}
OPENERS = {
    False: ("there is", "here is", "we see", "the picture shows"),
    True: ("there are", "here are", "we see", "the picture shows"),
}  # by whether the first group is of two
BE = {False: "is", True: "are"}
PRONOUN = {False: "it", True: "them"}
PLURAL = {shape: "crosses" if shape == "cross" else f"{shape}s" for shape in SHAPES}

_SIZE_OF = {word: size for size, words in SIZE_WORDS.items() for word in words}
_RELATION_OF = {
    tuple(text.split()): relation for relation, texts in RELATION_WORDS.items() for text in texts
}
_SHAPE_OF = {
    False: {shape: shape for shape in SHAPES},
    True: {plural: shape for shape, plural in PLURAL.items()},
}
_TAILS = {tuple(tail.split()): tail for tail in STYLE_OF_TAIL}


@dataclass(frozen=True)
class Group:
    """One thing, or two alike, as a caption speaks of them."""

    colour: str
    shape: str
    size: str | None = None
    adjective: str | None = None
    two: bool = False


@dataclass(frozen=True)
class Meaning:
    """What a caption says. A relation (a, r, b) says that group a stands r (of) group b."""

    groups: tuple[Group, ...]
    relations: tuple[tuple[int, str, int], ...] = ()
    tail: str | None = None

    @property
    def adjectives(self) -> tuple[tuple[str, str], ...]:
        """Each adjective with the shape it goes with."""
        return tuple((g.adjective, g.shape) for g in self.groups if g.adjective)

    @property
    def styles(self) -> frozenset[str]:
        """The styles of its adjectives and its tail; empty for a factual caption."""
        found = {STYLE_OF[adjective] for adjective, _ in self.adjectives}
        return frozenset(found | ({STYLE_OF_TAIL[self.tail]} if self.tail else set()))


def article(word: str) -> str:
    """`an` before a vowel's letter, else `a`."""
    return "an" if word[0] in "aeiou" else "a"


def phrase(group: Group, size_word: str | None = None) -> str:
    """The group in words; `size_word` is the word used for its size."""
    words = [word for word in (group.adjective, size_word, group.colour) if word]
    noun = PLURAL[group.shape] if group.two else group.shape
    return " ".join(["two" if group.two else article(words[0]), *words, noun])


@lru_cache(maxsize=65536)
def parse(caption: str) -> Meaning | None:
    """The meaning of a caption (lower case, single spaces), or None outside the grammar."""
    words = tuple(caption.split(" "))
    tail = next((end for end in _TAILS if words[-len(end) :] == end), ())
    reader = _Reader(words[: len(words) - len(tail)])
    try:
        _sentence(reader)
    except _OutsideError:
        return None
    return Meaning(tuple(reader.groups), tuple(reader.relations), _TAILS.get(tail))


class _OutsideError(Exception):
    """The words are no sentence of the grammar."""


@dataclass
class _Reader:
    """A place in the words, and what was understood up to it."""

    words: tuple[str, ...]
    place: int = 0
    groups: list[Group] = field(default_factory=list)
    relations: list[tuple[int, str, int]] = field(default_factory=list)

    @property
    def word(self) -> str:
        """The next word; empty at the end."""
        return self.words[self.place] if self.place < len(self.words) else ""

    def take(self, text: str) -> bool:
        """Step over these words if they come next."""
        words = tuple(text.split())
        if self.words[self.place : self.place + len(words)] != words:
            return False
        self.place += len(words)
        return True

    def must(self, holds: bool) -> None:
        """Give up unless `holds`."""
        if not holds:
            raise _OutsideError

    def relation(self) -> str | None:
        """Step over a relation if one comes next."""
        for words, relation in _RELATION_OF.items():
            if self.words[self.place : self.place + len(words)] == words:
                self.place += len(words)
                return relation
        return None

    def group(self) -> int:
        """Read a group and return its number."""
        start, two = self.word, self.word == "two"
        self.must(start in ("a", "an", "two"))
        self.place += 1
        self.must(two or start == article(self.word or "-"))
        adjective = self._word_of(STYLE_OF)
        size = self._word_of(_SIZE_OF)
        colour, shape = self.word, _SHAPE_OF[two].get("".join(self.words[self.place + 1 :][:1]))
        self.must(colour in COLOURS and shape is not None)
        self.place += 2
        group = Group(colour, str(shape), _SIZE_OF.get(size or ""), adjective, two)
        self.groups.append(group)
        return len(self.groups) - 1

    def _word_of(self, known: dict[str, str]) -> str | None:
        if self.word not in known:
            return None
        self.place += 1
        return self.words[self.place - 1]


def _sentence(reader: _Reader) -> None:
    opener = next((o for o in {*OPENERS[False], *OPENERS[True]} if reader.take(o)), None)
    first = reader.group()
    two = reader.groups[first].two
    reader.must(opener is None or opener in OPENERS[two])
    if opener is None and reader.take(BE[two]):
        relation = reader.relation()
        reader.must(relation is not None)
        reader.relations.append((first, str(relation), reader.group()))
    else:
        _rest(reader, first)
    reader.must(reader.place == len(reader.words))


def _rest(reader: _Reader, first: int) -> None:
    """What follows the first group."""
    relation = reader.relation()
    if relation:
        reader.relations.append((first, relation, reader.group()))
        if reader.take("and"):
            relation = reader.relation() or relation
            reader.relations.append((first, relation, reader.group()))
    elif reader.take("with"):
        reader.group()
        reader.must(reader.take("and"))
        reader.group()
    elif reader.take("and"):
        relation = reader.relation()
        if relation:
            reader.must(reader.take(PRONOUN[reader.groups[first].two]))
            reader.relations.append((first, INVERSE[relation], reader.group()))
            return
        reader.group()
        if reader.take("and"):
            reader.group()
