"""The made-up world of shapes: scenes with factual and styled captions that can be proved true.

  prepare.py shapes --out data/shapes
  prepare.py shapes --images 200 --styled 20 --lines 200 --unlabelled 0 --val 50 --test 50 \\
      --out data/few_shapes
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from distgan.data.importers.found import Report
from distgan.data.samples import Sample
from distgan.data.shapes.drawing import jpeg
from distgan.data.shapes.styles import STYLES
from distgan.data.shapes.world import SPLITS, ShapesOptions, World

__all__ = ["Shapes", "ShapesOptions"]


class Shapes:
    """Samples and texts of a shapes dataset; any process may draw any of them at any time.

    A sample's `facts` hold its `scene`, as `Scene.to_json` gives it, for measuring truth.
    """

    def __init__(self, options: ShapesOptions) -> None:
        self.options = options
        self.report = Report()
        self.source: dict[str, Any] = {"name": "shapes", "options": vars(options)}
        self._world = World(options)
        self.splits = tuple(split for split in SPLITS if self._world.count(split))

    def num_samples(self, split: str) -> int:
        """Samples of a split. Raises ValueError for an unknown one."""
        return self._world.count(split)

    def sample(self, split: str, number: int) -> Sample:
        """One sample. Raises IndexError when the split has no such number."""
        scene = self._world.scene(split, number)
        return Sample(
            key=f"{split}-{number:06d}",
            image=jpeg(scene, self.options.size),
            extension="jpg",
            captions=self._world.captions(split, number),
            facts={"scene": scene.to_json()},
        )

    def samples(self, split: str) -> Iterator[Sample]:
        """All samples of a split, in order."""
        return (self.sample(split, number) for number in range(self.num_samples(split)))

    def texts(self) -> dict[str, list[str]]:
        """Unpaired lines of text by style."""
        lines = range(self.options.lines)
        return {style: [self._world.line(style, n) for n in lines] for style in STYLES}
