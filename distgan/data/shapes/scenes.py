"""What is in a picture: one to three coloured shapes, each in a quarter of the picture of its own.

Lengths are shares of the picture's side, x to the right, y down. Things of one column (row) differ
in x (y) by at most .2, things of different ones by at least .3, so that `RELATION_GAP` decides
every relation without doubt.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from distgan.data.shapes.chance import Chance

SHAPES = ("circle", "square", "triangle", "star", "cross", "ring")
COLOURS = {
    "red": (215, 35, 40),
    "orange": (250, 140, 20),
    "yellow": (250, 230, 50),
    "green": (40, 160, 60),
    "blue": (40, 85, 220),
    "purple": (150, 50, 185),
    "white": (245, 245, 245),
    "black": (15, 15, 15),
}
SIZES = ("large", "small")
RELATIONS = ("left", "right", "above", "below")
INVERSE = {"left": "right", "right": "left", "above": "below", "below": "above"}
RELATION_GAP = 0.25

# Colour and shape of the things that training captions never speak of: each colour once.
UNSEEN = (
    ("red", "star"),
    ("orange", "circle"),
    ("yellow", "cross"),
    ("green", "square"),
    ("blue", "triangle"),
    ("purple", "ring"),
    ("white", "circle"),
    ("black", "square"),
)
SEEN = tuple((c, s) for c in COLOURS for s in SHAPES if (c, s) not in UNSEEN)

_COUNTS = ((1, 2, 3), (0.2, 0.5, 0.3))  # things in a scene, and how often
_TWINS = 0.12  # scenes of several things of which two look alike
_RADIUS = {"large": (0.185, 0.21), "small": (0.105, 0.125)}
_JITTER = {"large": 0.025, "small": 0.1}  # of the centre, from the middle of its quarter
_TURN = 12.0  # degrees, either way
_TINT = 12.0  # of a colour's channels, either way
_BACKGROUND = (95.0, 165.0)  # grey levels
_NOISE = (15.0, 40.0)  # half-width of the noise, grey levels


@dataclass(frozen=True)
class Thing:
    """One shape. `radius` is that of the circle around it; `turn` in degrees; `rgb` in 0..255."""

    shape: str
    colour: str
    size: str
    x: float
    y: float
    radius: float
    turn: float
    rgb: tuple[int, int, int]

    @property
    def look(self) -> tuple[str, str]:
        """Colour and shape."""
        return self.colour, self.shape


@dataclass(frozen=True)
class Scene:
    """A picture's content, whole: the picture is a function of it (and of the pixels asked for)."""

    things: tuple[Thing, ...]
    background: tuple[int, int, int]
    noise: float  # half-width of the background's noise in grey levels; 0: plain
    grain: int  # key of that noise

    def to_json(self) -> dict[str, Any]:
        """A dict for `json.dumps`; `from_json` is its inverse."""
        return asdict(self)

    @classmethod
    def from_json(cls, scene: Mapping[str, Any]) -> Scene:
        """The scene that `to_json` gave. Raises KeyError or TypeError for anything else."""
        things = tuple(Thing(**{**thing, "rgb": tuple(thing["rgb"])}) for thing in scene["things"])
        return cls(things, tuple(scene["background"]), scene["noise"], scene["grain"])


def make_scene(chance: Chance, *, noisy: float, unseen: float) -> Scene:
    """A scene; `noisy` and `unseen` are the probabilities of noise and of one unseen look."""
    count = chance.weigh(*_COUNTS)
    looks = chance.draw(SEEN, count)
    if chance.happens(unseen):
        looks[0] = chance.pick(UNSEEN)
    sizes = [chance.pick(SIZES) for _ in looks]
    if count > 1 and chance.happens(_TWINS):
        looks[1], sizes[1] = looks[0], sizes[0]
    quarters = chance.draw(range(4), count)
    things = zip(looks, sizes, quarters, strict=True)
    grey = chance.uniform(*_BACKGROUND)
    return Scene(
        things=tuple(_make_thing(chance, *thing) for thing in things),
        background=_near(chance, (grey, grey, grey)),
        noise=round(chance.uniform(*_NOISE), 2) if chance.happens(noisy) else 0.0,
        grain=chance.below(2**32),
    )


def stands(a: Thing, relation: str, b: Thing) -> bool:
    """Whether `a` is left of, right of, above or below `b`."""
    distance = {"left": b.x - a.x, "right": a.x - b.x, "above": b.y - a.y, "below": a.y - b.y}
    return distance[relation] > RELATION_GAP


def salience(thing: Thing) -> tuple[bool, bool, bool]:
    """Sort key: large things first, then in reading order."""
    return thing.size != "large", thing.y > 0.5, thing.x > 0.5


def requires_relation(scene: Scene) -> bool:
    """A caption has to relate the things where there are exactly two and they look different."""
    return len(scene.things) == 2 and scene.things[0].look != scene.things[1].look


def has_unseen(scene: Scene) -> bool:
    """Whether some thing has a look that training captions never speak of."""
    return any(thing.look in UNSEEN for thing in scene.things)


def _make_thing(chance: Chance, look: tuple[str, str], size: str, quarter: int) -> Thing:
    colour, shape = look
    jitter = _JITTER[size]
    return Thing(
        shape=shape,
        colour=colour,
        size=size,
        x=round(0.25 + 0.5 * (quarter % 2) + chance.uniform(-jitter, jitter), 4),
        y=round(0.25 + 0.5 * (quarter // 2) + chance.uniform(-jitter, jitter), 4),
        radius=round(chance.uniform(*_RADIUS[size]), 4),
        turn=round(chance.uniform(-_TURN, _TURN), 2),
        rgb=_near(chance, COLOURS[colour]),
    )


def _near(chance: Chance, rgb: tuple[float, float, float]) -> tuple[int, int, int]:
    near = [min(255, max(0, round(level + chance.uniform(-_TINT, _TINT)))) for level in rgb]
    return near[0], near[1], near[2]
