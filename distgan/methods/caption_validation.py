"""What a captioner in training is worth on held-out images: quality and diversity.

Two captions an image and style: the greedy one, and one sampled with keyed noise (names start
with `sampled_`). Neither training's streams nor torch's generator are touched. Truth scores
where the dataset knows its scenes, BLEU-4 and CIDEr (plain tokeniser) where there are
references, diversity always; means over the styles asked for.
"""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

from distgan.data.shapes import truth
from distgan.methods.caption_corpora import Corpora
from distgan.metrics.captions import measure_captions
from distgan.metrics.diversity import diversity, self_bleu
from distgan.metrics.evaluation import Task
from distgan.models.captioner import AttentionCaptioner
from distgan.randomness import STREAMS, Draw
from distgan.rollouts import greedy, sample

SPLIT = "val"
REFERRED = ("BLEU-4", "CIDEr")
DIVERSE = ("distinct_1", "distinct_2", "length", "repeats", "duplicates")
ENCODED = 64  # images at once


class Validation:
    """The held-out images of one run, read when first needed; each rank keeps its share."""

    def __init__(self, corpora: Corpora, samples: int) -> None:
        self.corpora, self.world, self.samples = corpora, corpora.world, samples

    @cached_property
    def tasks(self) -> dict[int, Task]:
        """By the number of the style asked for."""
        splits = self.corpora.styled.splits
        if SPLIT not in splits:
            raise ValueError(
                f"log.evaluate_every needs a split {SPLIT!r}; {self.corpora.styled.path} has "
                f"{', '.join(splits)}"
            )
        split, names = self.corpora.styled.split(SPLIT), self.corpora.styles
        return {n: Task.choose(split, names[n], self.samples) for n in self.corpora.asked}

    def check(self) -> None:
        """A ValueError where there is nothing to measure on."""
        assert self.tasks

    @cached_property
    def _images(self) -> dict[int, Tensor]:
        """This rank's share of each task's images, uint8 (rows, 3, S, S)."""
        size = self.corpora.config.data.image_size
        return {n: task.images(*self._share(task), size) for n, task in self.tasks.items()}

    def _share(self, task: Task) -> tuple[int, int]:
        rows, world = len(task.rows), self.world
        if rows < world.size:
            raise ValueError(f"split {SPLIT!r}: {rows} images are too few for {world.size} workers")
        return rows * world.rank // world.size, rows * (world.rank + 1) // world.size

    @torch.no_grad()
    def measure(self, captioner: AttentionCaptioner, temperature: float) -> dict[str, float]:
        """Numbers of the captioner as it is, equal on every rank. Collective."""
        totals: dict[str, float] = {}
        for number, task in self.tasks.items():
            chosen, sampled = self._write(captioner, number, temperature)
            if not self.world.is_first:
                continue
            found = self._score(chosen, task)
            found |= {f"sampled_{k}": v for k, v in self._score(sampled, task).items()}
            for name, value in found.items():
                totals[name] = totals.get(name, 0.0) + value / len(self.tasks)
        shared = self.world.share(totals)
        assert isinstance(shared, dict)
        return shared

    def _write(
        self, captioner: AttentionCaptioner, number: int, temperature: float
    ) -> tuple[Tensor, Tensor]:
        """Greedy and sampled words (rows, T) of the whole task."""
        images, task = self._images[number], self.tasks[number]
        first, last = self._share(task)
        draw = Draw(0, STREAMS["evaluation"], number)
        parts: list[tuple[Tensor, Tensor]] = []
        for start in range(0, last - first, ENCODED):
            regions = self.corpora.see(images[start : start + ENCODED])
            style = torch.full((len(regions),), number, device=regions.device)
            context = captioner.look(regions, captioner.told(style))
            place = torch.arange(len(regions), device=regions.device)
            said = sample(captioner, context, draw, place + first + start, temperature=temperature)
            parts.append((greedy(captioner, context, place), said.words))
        chosen, sampled = (torch.cat(words) for words in zip(*parts, strict=True))
        gather = self.world.gather_shares
        return gather(chosen, len(task.rows)), gather(sampled, len(task.rows))

    def _score(self, words: Tensor, task: Task) -> dict[str, float]:
        captions = [self.corpora.vocabulary.decode(row) for row in words.tolist()]
        scores: dict[str, float] = {}
        facts = [task.split.facts(row) for row in task.rows]
        if all("scene" in each for each in facts):
            scores |= truth.score(captions, [f["scene"] for f in facts], [task.style] * len(facts))
        if all(task.references):
            found = measure_captions(captions, task.references, tokeniser="plain").scores
            scores |= {name: found[name] for name in REFERRED}
        found = diversity(captions)
        return scores | {n: found[n] for n in DIVERSE} | {"self_bleu": self_bleu(captions)}
