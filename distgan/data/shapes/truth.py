"""What captions are worth, measured against the scenes they describe.

A caption makes *claims*: of each thing it names a shape, a colour and perhaps a size, and relations
between groups. A scene asks for *facts*: each thing's shape and colour, and the relation where it
requires one (`scenes.requires_relation`). The things named are assigned to the things there so
that most claims come true; only a thing of the named shape or colour is recognised. A caption
outside the grammar claims as much as its scene asks for, all of it wrong.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import permutations
from typing import Any

from distgan.data.shapes.grammar import Group, Meaning, parse
from distgan.data.shapes.scenes import Scene, Thing, requires_relation, stands
from distgan.data.shapes.styles import STYLES, fits

Meant = tuple[Thing | None, ...]  # the thing meant by each thing named


@dataclass(frozen=True)
class Verdict:
    """One caption judged.

    `claims` of which `true` hold; `facts` asked for of which `told` are stated. `relation` is None
    where the scene requires none. `style` is whether all adjectives and the tail, and at least one
    adjective, are of the asked style; for a factual caption, whether there are none.
    """

    grammatical: bool
    claims: int
    true: int
    facts: int
    told: int
    relation: bool | None
    adjectives: int
    fitting: int
    style: bool

    @property
    def joint(self) -> bool:
        """All of it right: nothing false, nothing missing, each adjective fits, the asked style."""
        return (
            self.grammatical
            and self.true == self.claims
            and self.told == self.facts
            and self.relation is not False
            and self.fitting == self.adjectives
            and self.style
        )


def score(
    captions: Sequence[str],
    scenes: Sequence[Scene | Mapping[str, Any]],
    styles: Sequence[str | None] | None = None,
) -> dict[str, float]:
    """What captions are worth: nine captions in ten right is .9, everywhere higher is better.

    `scenes` are scenes or what `Scene.to_json` made of them; `styles` are the styles asked for,
    None for a factual caption (and all of them when there is no `styles`). Claims, facts and
    adjectives are counted over all captions together:

    truth_precision  true claims / claims
    truth_recall     facts told / facts asked for
    truth_f1         their harmonic mean
    relation         captions that relate the two things rightly / scenes that require it
    grammatical      captions inside the grammar
    fit              adjectives that fit their noun / adjectives (in grammatical captions)
    style            captions of the asked style and no other
    joint            captions with all of it right (`Verdict.joint`)

    A share of nothing is 1. Raises ValueError when the lengths differ or there is no caption.
    """
    asked = [None] * len(captions) if styles is None else styles
    if not captions or not len(captions) == len(scenes) == len(asked):
        counts = f"{len(captions)} captions, {len(scenes)} scenes, {len(asked)} styles"
        raise ValueError(f"captions, scenes and styles must be as many, and some: got {counts}")
    verdicts = [
        judge(caption, scene if isinstance(scene, Scene) else Scene.from_json(scene), style)
        for caption, scene, style in zip(captions, scenes, asked, strict=True)
    ]
    return _aggregate(verdicts)


def judge(caption: str, scene: Scene, style: str | None = None) -> Verdict:
    """One caption of one scene, asked to be in a style (None: factual)."""
    meaning = parse(caption)
    required = requires_relation(scene)
    facts = 2 * len(scene.things) + required
    if meaning is None:
        wrong = False if required else None
        return Verdict(False, facts, 0, facts, 0, wrong, 0, 0, False)
    meant = _assign(meaning, scene.things)
    attributes = [
        _attributes(group, thing) for (_, group), thing in zip(_named(meaning), meant, strict=True)
    ]
    relations = [_holds(meaning, relation, meant) for relation in meaning.relations]
    related = bool(relations) and all(relations)
    return Verdict(
        grammatical=True,
        claims=sum(len(a) for a in attributes) + len(relations),
        true=sum(sum(a) for a in attributes) + sum(relations),
        facts=facts,
        told=sum(sum(a[:2]) for a in attributes) + (required and related),
        relation=related if required else None,
        adjectives=len(meaning.adjectives),
        fitting=sum(fits(adjective, shape) for adjective, shape in meaning.adjectives),
        style=_in_style(meaning, style),
    )


def _aggregate(verdicts: list[Verdict]) -> dict[str, float]:
    share = lambda part, whole: part / whole if whole else 1.0  # noqa: E731
    precision = share(sum(v.true for v in verdicts), sum(v.claims for v in verdicts))
    recall = share(sum(v.told for v in verdicts), sum(v.facts for v in verdicts))
    relations = [v.relation for v in verdicts if v.relation is not None]
    both = precision + recall
    return {
        "truth_precision": precision,
        "truth_recall": recall,
        "truth_f1": 2 * precision * recall / both if both else 0.0,
        "relation": share(sum(relations), len(relations)),
        "grammatical": share(sum(v.grammatical for v in verdicts), len(verdicts)),
        "fit": share(sum(v.fitting for v in verdicts), sum(v.adjectives for v in verdicts)),
        "style": share(sum(v.style for v in verdicts), len(verdicts)),
        "joint": share(sum(v.joint for v in verdicts), len(verdicts)),
    }


def _named(meaning: Meaning) -> list[tuple[int, Group]]:
    """The things named, as the number of their group and the group."""
    return [(i, g) for i, g in enumerate(meaning.groups) for _ in range(2 if g.two else 1)]


def _attributes(group: Group, thing: Thing | None) -> tuple[bool, ...]:
    """Whether shape, colour and, if given, size are those of the thing."""
    if thing is None:
        return (False,) * (2 if group.size is None else 3)
    known = (group.shape == thing.shape, group.colour == thing.colour)
    return known if group.size is None else (*known, group.size == thing.size)


def _assign(meaning: Meaning, things: tuple[Thing, ...]) -> Meant:
    """Who is meant: the assignment with the most true claims, the first one of equals."""
    named = _named(meaning)
    best: Meant = ()
    most = -1
    for places in _places(len(named), len(things)):
        meant = tuple(
            _recognised(group, things[place]) if place >= 0 else None
            for (_, group), place in zip(named, places, strict=True)
        )
        true = sum(sum(_attributes(g, t)) for (_, g), t in zip(named, meant, strict=True))
        true += sum(_holds(meaning, relation, meant) for relation in meaning.relations)
        if true > most:
            best, most = meant, true
    return best


def _recognised(group: Group, thing: Thing) -> Thing | None:
    """The thing, if the group names it by shape or by colour at least."""
    return thing if group.shape == thing.shape or group.colour == thing.colour else None


def _holds(meaning: Meaning, relation: tuple[int, str, int], meant: Meant) -> bool:
    """Whether every thing of the first group stands so to every thing of the second."""
    first, name, second = relation
    members: dict[int, list[Thing | None]] = {first: [], second: []}
    for (i, _), thing in zip(_named(meaning), meant, strict=True):
        members.setdefault(i, []).append(thing)
    return all(
        a is not None and b is not None and stands(a, name, b)
        for a in members[first]
        for b in members[second]
    )


def _in_style(meaning: Meaning, style: str | None) -> bool:
    if style is None:
        return not meaning.styles
    if style not in STYLES:
        raise ValueError(f"style must be one of {STYLES} or None, got {style!r}")
    return meaning.styles == {style} and bool(meaning.adjectives)


@lru_cache(maxsize=32)
def _places(named: int, things: int) -> tuple[tuple[int, ...], ...]:
    """All ways to give each thing named another thing there, or none (-1) where they run out."""
    spare = (-1,) * max(0, named - things)
    return tuple(dict.fromkeys(permutations((*range(things), *spare), named)))
