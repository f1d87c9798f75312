"""What a shapes dataset holds: COCO and SentiCap in small.

Everything is a function of (options, split, number), so that processes may make it in any order.

train       scenes with factual captions, plentiful; no look of `scenes.UNSEEN`
styled      scenes with one caption in one style each, scarce, styles in turn; no unseen look
unlabelled  scenes without captions, unseen looks among them
val, test   scenes with factual captions and as many in each style; an unseen look in some
texts       styled captions of further scenes that are never drawn; no unseen look
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from distgan.data.importers.options import option
from distgan.data.samples import Caption
from distgan.data.shapes.chance import Chance
from distgan.data.shapes.scenes import SEEN, Scene, Thing, make_scene
from distgan.data.shapes.styles import STYLES
from distgan.data.shapes.telling import tell
from distgan.data.shapes.truth import judge
from distgan.settings import require

SPLITS = ("train", "styled", "unlabelled", "val", "test")
_STREAMS = {name: number for number, name in enumerate((*SPLITS, *STYLES), 1)}
_SCENE, _FACTUAL, _WRONG = 0, 1, 2  # purposes of chance; styles follow
_STYLED = 3
_ATTEMPTS = 20  # to say it differently


@dataclass(frozen=True, kw_only=True)
class ShapesOptions:
    """A shapes dataset. `wrong` concerns captions in training only."""

    images: int = option("pictures with factual captions to train on", default=20000)
    size: int = option("width and height of a picture in pixels, 32 to 256", default=64)
    styled: int = option("pairs of a picture and a styled caption, for each style", default=120)
    lines: int = option("lines of styled text without pictures, for each style", default=4000)
    unlabelled: int = option("pictures without captions", default=2000)
    val: int = option("pictures of the split `val`", default=500)
    test: int = option("pictures of the split `test`", default=1000)
    wrong: float = option("share of the training captions that are false, 0 to 1", default=0.0)
    noisy: float = option("share of the pictures with a noisy background, 0 to 1", default=0.5)
    unseen: float = option(
        "share of val, test and unlabelled pictures with a look never trained on", default=0.2
    )
    captions: int = option("factual captions of a picture, 1 to 5", default=3)
    seed: int = option("another seed makes another dataset", default=0)

    def __post_init__(self) -> None:
        require(32 <= self.size <= 256, "size", self.size, "in [32, 256]")
        require(1 <= self.captions <= 5, "captions", self.captions, "in [1, 5]")
        require(0 <= self.seed < 2**32, "seed", self.seed, "in [0, 2**32)")
        for key in ("images", "styled", "lines", "unlabelled", "val", "test"):
            require(vars(self)[key] >= 0, key, vars(self)[key], "at least 0")
        for key in ("wrong", "noisy", "unseen"):
            require(0 <= vars(self)[key] <= 1, key, vars(self)[key], "in [0, 1]")


class World:
    """Scenes and captions of a shapes dataset."""

    def __init__(self, options: ShapesOptions) -> None:
        self.options = options

    def count(self, split: str) -> int:
        """Pictures of a split. Raises ValueError for an unknown one."""
        o = self.options
        counts = (o.images, o.styled * len(STYLES), o.unlabelled, o.val, o.test)
        require(split in SPLITS, "split", split, f"one of {SPLITS}")
        return counts[SPLITS.index(split)]

    def scene(self, split: str, number: int) -> Scene:
        """The scene of a picture. Raises IndexError when the split has no such picture."""
        if not 0 <= number < self.count(split):
            raise IndexError(f"split {split} has {self.count(split)} pictures, asked for {number}")
        unseen = 0.0 if split in ("train", "styled") else self.options.unseen
        chance = self._chance(split, number, _SCENE)
        return make_scene(chance, noisy=self.options.noisy, unseen=unseen)

    def captions(self, split: str, number: int) -> tuple[Caption, ...]:
        """The captions of a picture, different from each other where the language allows."""
        scene = self.scene(split, number)
        if split == "unlabelled":
            return ()
        if split == "styled":
            turn = number % len(STYLES)
            return self._tell(scene, STYLES[turn], 1, split, number, _STYLED + turn)
        styles = () if split == "train" else STYLES
        count = self.options.captions
        captions = self._tell(scene, None, count, split, number, _FACTUAL)
        for i, style in enumerate(styles):
            captions += self._tell(scene, style, count, split, number, _STYLED + i)
        return captions

    def line(self, style: str, number: int) -> str:
        """A styled caption of a scene that is never drawn."""
        scene = make_scene(self._chance(style, number, _SCENE), noisy=0.0, unseen=0.0)
        return tell(scene, style, self._chance(style, number, _STYLED))

    def _tell(
        self, scene: Scene, style: str | None, count: int, split: str, number: int, purpose: int
    ) -> tuple[Caption, ...]:
        chance = self._chance(split, number, purpose)
        wrong = self._chance(split, number, _WRONG)
        texts: list[str] = []
        for _ in range(count):
            false = split in ("train", "styled") and wrong.happens(self.options.wrong)
            text = _tell_falsely(scene, style, chance) if false else tell(scene, style, chance)
            for _ in range(_ATTEMPTS):
                if text not in texts or false:
                    break
                text = tell(scene, style, chance)
            texts.append(text)
        return tuple(Caption(text, style) for text in texts)

    def _chance(self, stream: str, number: int, purpose: int) -> Chance:
        return Chance(self.options.seed, _STREAMS[stream], number, purpose)


def _tell_falsely(scene: Scene, style: str | None, chance: Chance) -> str:
    """A caption that is false of the scene, inside the grammar and without unseen looks."""
    while True:
        text = tell(_alter(scene, chance), style, chance)
        verdict = judge(text, scene, style)
        if verdict.true < verdict.claims:
            return text


def _alter(scene: Scene, chance: Chance) -> Scene:
    """The scene with another colour, another shape, or with all things across the picture."""
    if chance.happens(0.4):
        return replace(scene, things=tuple(_across(thing) for thing in scene.things))
    at = chance.below(len(scene.things))
    old = scene.things[at]
    looks = [look for look in SEEN if (look[0] == old.colour) != (look[1] == old.shape)]
    colour, shape = chance.pick(looks)
    things = list(scene.things)
    things[at] = replace(old, colour=colour, shape=shape)
    return replace(scene, things=tuple(things))


def _across(thing: Thing) -> Thing:
    return replace(thing, x=1 - thing.x, y=1 - thing.y)
