"""Puts a scene into words, in one of many ways."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from distgan.data.shapes.chance import Chance
from distgan.data.shapes.grammar import (
    BE,
    MAX_WORDS,
    OPENERS,
    PRONOUN,
    RELATION_WORDS,
    SIZE_WORDS,
    Group,
    phrase,
)
from distgan.data.shapes.scenes import (
    INVERSE,
    RELATIONS,
    Scene,
    Thing,
    requires_relation,
    salience,
    stands,
)
from distgan.data.shapes.styles import FITTING, TAILS, ZIPF_WEIGHTS

_IN_ORDER = 0.9  # captions that name groups in the order of their salience
_SIZES = (("all", "none", "some"), (0.4, 0.4, 0.2))  # which groups' sizes a caption gives
_OPENER = 0.5  # sentences with an opener, where one may stand
_RELATES = 0.6  # captions that relate groups though none need be related
_SECOND_ADJECTIVE = 0.15  # styled captions of several groups in which two have an adjective
_TAIL = 0.15  # styled captions that end with one of the style's tails, where there is room


@dataclass(frozen=True)
class _Told:
    """A group, the things it speaks of, and its words."""

    group: Group
    things: tuple[Thing, ...]
    text: str


def tell(scene: Scene, style: str | None, chance: Chance) -> str:
    """One true caption of the scene, at most MAX_WORDS words; `style` None: factual.

    It names every thing with colour and shape; relates the two of a scene that requires it; may
    give sizes. Ways of saying it that come out too long are drawn anew.
    """
    while True:
        told = _groups(scene, style, chance)
        text = _sentence(told, requires_relation(scene), chance)
        if style and chance.happens(_TAIL):
            text = f"{text} {chance.pick(TAILS[style])}"
        if text.count(" ") < MAX_WORDS:
            return text


def alike(scene: Scene) -> list[tuple[Thing, ...]]:
    """The scene's things in groups that look alike, by salience."""
    groups: dict[tuple[str, str], list[Thing]] = {}
    for thing in sorted(scene.things, key=salience):
        groups.setdefault(thing.look, []).append(thing)
    return [tuple(group) for group in groups.values()]


def _groups(scene: Scene, style: str | None, chance: Chance) -> list[_Told]:
    """The scene's groups in the order in which a caption will name them."""
    groups = alike(scene)
    if not chance.happens(_IN_ORDER):
        shuffled = groups
        while len(groups) > 1 and shuffled == groups:
            shuffled = chance.draw(groups, len(groups))
        groups = shuffled
    sizes = chance.weigh(*_SIZES)
    chosen = _with_adjective(len(groups), chance) if style else ()
    told = []
    for i, things in enumerate(groups):
        colour, shape = things[0].look
        group = Group(colour, shape, two=len(things) == 2)
        word = None
        if sizes == "all" or (sizes == "some" and chance.happens(0.5)):
            group = replace(group, size=things[0].size)
            word = chance.pick(SIZE_WORDS[things[0].size])
        if style and i in chosen:
            row = FITTING[style][shape]
            group = replace(group, adjective=chance.weigh(row, ZIPF_WEIGHTS))
        told.append(_Told(group, things, phrase(group, word)))
    return told


def _with_adjective(count: int, chance: Chance) -> tuple[int, ...]:
    several = count > 1 and chance.happens(_SECOND_ADJECTIVE)
    return tuple(chance.draw(range(count), 2 if several else 1))


def _sentence(told: list[_Told], related: bool, chance: Chance) -> str:
    if len(told) == 1:
        return _open(told[0].text, told[0], chance)
    if not related and not chance.happens(_RELATES):
        return _open(_listed(told, chance), told[0], chance)
    if len(told) == 2:
        return _pair(told, chance)
    return _open(_three(told, chance), told[0], chance)


def _open(text: str, first: _Told, chance: Chance) -> str:
    if not chance.happens(_OPENER):
        return text
    return f"{chance.pick(OPENERS[first.group.two])} {text}"


def _listed(told: list[_Told], chance: Chance) -> str:
    texts = [one.text for one in told]
    if len(texts) == 3 and chance.happens(0.3):
        return f"{texts[0]} with {texts[1]} and {texts[2]}"
    return " and ".join(texts)


def _pair(told: list[_Told], chance: Chance) -> str:
    """Two groups and how the first stands to the second."""
    first, second = told
    relations = _true([first], [second])
    if not relations:
        return _open(_listed(told, chance), first, chance)
    relation, two = chance.pick(relations), first.group.two
    form = chance.weigh(("plain", "be", "pronoun"), (0.6, 0.2, 0.2))
    if form == "be":
        return f"{first.text} {BE[two]} {_words(relation, chance)} {second.text}"
    if form == "pronoun":
        inverse = _words(INVERSE[relation], chance)
        return _open(f"{first.text} and {inverse} {PRONOUN[two]} {second.text}", first, chance)
    return _open(f"{first.text} {_words(relation, chance)} {second.text}", first, chance)


def _three(told: list[_Told], chance: Chance) -> str:
    """Three groups and how the first stands to both others, in one relation where one holds."""
    first, second, third = told
    both = _true([first], [second, third])
    if both and chance.happens(0.5):
        relation = _words(chance.pick(both), chance)
        return f"{first.text} {relation} {second.text} and {third.text}"
    one, other = (_words(chance.pick(_true([first], [x])), chance) for x in (second, third))
    return f"{first.text} {one} {second.text} and {other} {third.text}"


def _true(first: list[_Told], others: Iterable[_Told]) -> list[str]:
    """The relations in which every thing of `first` stands to every thing of `others`."""
    pairs = [(a, b) for told in first for a in told.things for o in others for b in o.things]
    return [r for r in RELATIONS if all(stands(a, r, b) for a, b in pairs)]


def _words(relation: str, chance: Chance) -> str:
    return chance.pick(RELATION_WORDS[relation])
