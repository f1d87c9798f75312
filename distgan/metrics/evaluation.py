"""Captions of a model on a dataset's split, scored by everything that can be known about them.

Against references: BLEU, ROUGE-L, CIDEr, METEOR. By themselves: diversity, novelty, the sound of
their style. Against the scene, where the dataset knows it: truth, relation, fit, joint.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, Self

import torch
from torch import Tensor

from distgan.data.dataset import Dataset, Split
from distgan.data.shapes import truth
from distgan.data.shapes.styles import ADJECTIVES
from distgan.data.texts import words_of
from distgan.metrics.captions import measure_captions
from distgan.metrics.diversity import adjective_use, diversity, self_bleu
from distgan.metrics.java import Meteor
from distgan.metrics.style import StyleClassifier
from distgan.settings import require

FACTUAL = "factual"
MEAN = "mean"  # the style of a column that is a mean over styles
BATCH = 64
TEXTS = 10_000  # of a style, that the judge of styles learns from


class Captioner(Protocol):
    """What is evaluated: see distgan/methods/captioning.py."""

    def caption(
        self,
        images: Tensor,
        style: str | None = None,
        decode: Literal["greedy", "sample", "beam"] = "greedy",
        temperature: float = 1.0,
        beam: int = 3,
        seed: int = 0,
    ) -> list[str]:
        """One caption an image; images uint8 (B, 3, S, S)."""
        ...


@dataclass(frozen=True)
class Decoding:
    """How words are chosen."""

    decode: Literal["greedy", "sample", "beam"] = "greedy"
    temperature: float = 1.0  # of sampling
    beam: int = 3  # captions kept by a beam search
    seed: int = 0  # of sampling

    def __post_init__(self) -> None:
        require(self.temperature > 0, "temperature", self.temperature, "above 0")
        require(self.beam >= 1, "beam", self.beam, "at least 1")

    @classmethod
    def chosen(cls, temperature: float | None, beam: int | None, seed: int) -> Decoding:
        """Sampling where a temperature is given, a beam search where its size is, else greedy."""
        if temperature is not None:
            return cls("sample", temperature=temperature, seed=seed)
        return cls("beam", beam=beam) if beam is not None else cls()

    def __str__(self) -> str:
        if self.decode == "sample":
            return f"sampled at temperature {self.temperature:g}, seed {self.seed}"
        return f"beam search, {self.beam} kept" if self.decode == "beam" else "greedy"


@dataclass(frozen=True)
class Task:
    """Images of a split to be described in one style, and how people described them in it."""

    split: Split
    style: str
    rows: tuple[int, ...]
    references: tuple[tuple[str, ...], ...]  # of each row; all empty where the style has none

    @classmethod
    def choose(cls, split: Split, style: str, limit: int | None = None) -> Task:
        """The images with captions in the style, or all images if there are none such."""
        require(limit is None or limit >= 1, "limit", limit, "at least 1")
        said = {row: _references(split, row, style) for row in range(len(split))}
        known = [row for row, references in said.items() if references]
        rows = tuple((known or list(said))[:limit])
        return cls(split, style, rows, tuple(said[row] for row in rows))

    def images(self, first: int, last: int, size: int) -> Tensor:
        """(last - first, 3, size, size) uint8"""
        return torch.stack([self.split.image(row, size) for row in self.rows[first:last]])


@dataclass(frozen=True)
class Column:
    """The scores of one model in one style: a column of the report's table."""

    model: str
    style: str
    scores: dict[str, float]
    remarks: tuple[str, ...] = ()
    captions: tuple[str, ...] = field(default=(), repr=False)


def write(captioner: Captioner, task: Task, decoding: Decoding, image_size: int) -> list[str]:
    """The model's caption of every image of the task."""
    captions = []
    for first in range(0, len(task.rows), BATCH):
        captions += captioner.caption(
            task.images(first, first + BATCH, image_size),
            style=task.style,
            decode=decoding.decode,
            temperature=decoding.temperature,
            beam=decoding.beam,
            seed=decoding.seed + first,  # a batch's own noise
        )
    return captions


class Judge:
    """Scores captions, knowing the texts their writer learned from, by style.

    METEOR runs, where it can, until the judge is left: `with Judge(...) as judge`.
    """

    def __init__(self, training: Mapping[str, Sequence[str]]) -> None:
        self.meteor = Meteor()
        self.known = {style: [_plain(text) for text in texts] for style, texts in training.items()}
        several = {style: texts for style, texts in self.known.items() if len(set(texts)) > 1}
        self.classifier = _style_judge(several) if len(several) > 1 else None

    @classmethod
    def of(
        cls, facts: Dataset, styled: Dataset, styled_split: str, lines: Mapping[str, list[str]]
    ) -> Judge:
        """The judge of runs that learn from these datasets, and from `lines` by style."""
        texts: dict[str, list[str]] = {FACTUAL: _captions(facts.split("train"), None)}
        for style in styled.styles:
            texts[style] = _captions(styled.split(styled_split), style)
        for file in styled.manifest.texts:
            texts.setdefault(file.style, []).extend(styled.texts(file.style))
        for style, more in lines.items():
            texts.setdefault(style, []).extend(more)
        return cls(texts)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.meteor.close()

    def score(
        self, model: str, captions: Sequence[str], task: Task, *, against: Sequence[Sequence[str]]
    ) -> Column:
        """All scores of the task's captions; `against` are their references, empty for none."""
        scores, remarks = _truth(captions, task), tuple[str, ...]()
        if all(against):
            found = measure_captions(captions, against, meteor=self.meteor)
            scores |= found.scores
            remarks = (f"tokeniser: {found.tokeniser}", *found.remarks)
        if self.classifier is not None and task.style in self.classifier.styles:
            judged = self.classifier.score(captions, [task.style] * len(captions))
            scores |= {"style_sound": judged.accuracy, "style_sound_held_out": judged.held_out}
        scores |= diversity(captions, self.known.get(task.style, ()))
        if len(captions) > 1:
            scores["self_bleu"] = self_bleu(captions)
        return Column(model, task.style, scores, remarks, tuple(captions))


def controls(judge: Judge, tasks: Sequence[Task]) -> list[Column]:
    """What people's own captions score, each with its image and with the next one's.

    A caption is not among its own references. Styles in which some image has only one reference
    have no controls.
    """
    able = [task for task in tasks if min(map(len, task.references)) > 1]
    own = [[_plain(references[0]) for references in task.references] for task in able]
    moved = [[*captions[1:], captions[0]] for captions in own]
    columns = []
    for name, said in (("references", own), ("shuffled references", moved)):
        columns += with_mean(
            [
                judge.score(name, captions, task, against=[r[1:] for r in task.references])
                for captions, task in zip(said, able, strict=True)
            ]
        )
    return columns


def with_mean(columns: Sequence[Column]) -> list[Column]:
    """One model's columns, and their mean over styles where there are several."""
    if len(columns) < 2:
        return list(columns)
    names = [n for n in columns[0].scores if all(n in column.scores for column in columns)]
    scores = {n: sum(column.scores[n] for column in columns) / len(columns) for n in names}
    return [*columns, Column(columns[0].model, MEAN, scores)]


def _truth(captions: Sequence[str], task: Task) -> dict[str, float]:
    """Scores against the drawn scenes, in a dataset that has them; and its adjectives' use."""
    facts = [task.split.facts(row) for row in task.rows]
    if not all("scene" in each for each in facts):
        return {}
    style = None if task.style == FACTUAL else task.style
    scores = truth.score(captions, [each["scene"] for each in facts], [style] * len(captions))
    if style is None:
        return scores
    use = adjective_use(captions, ADJECTIVES[style])
    return scores | {"adjective_entropy": use.entropy_bits, "adjective_top4": use.top4}


def _style_judge(texts: dict[str, list[str]]) -> StyleClassifier:
    """Learned from at most `TEXTS` of each style, evenly spread over what there is."""
    pairs = [
        (text, style)
        for style, all_of_it in texts.items()
        for text in all_of_it[:: -(-len(all_of_it) // TEXTS)]
    ]
    return StyleClassifier.fit([text for text, _ in pairs], [style for _, style in pairs])


def _references(split: Split, row: int, style: str) -> tuple[str, ...]:
    wanted = None if style == FACTUAL else style
    return tuple(each.text for each in split.captions(row) if each.style == wanted)


def _captions(split: Split, style: str | None) -> list[str]:
    return [
        each.text
        for row in range(len(split))
        for each in split.captions(row)
        if each.style == style
    ]


def _plain(text: str) -> str:
    """A text in the words that captioners write."""
    return " ".join(words_of(text))
