"""What a captioner learns from: datasets, styles, words, and the streams over them.

A corpus is one kind of material; each learner has a stream of its own over each corpus it uses,
named LEARNER/CORPUS:

    factual_images  images (decoded) with factual captions    factual  the same without the images
    styled          captions in a style, of images            text     lines in a style, no images
    images          images to be described, captions unused
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from distgan.config import Config
from distgan.data.byte_pairs import BytePairs
from distgan.data.damage import DamagedSample
from distgan.data.dataset import Dataset, Split
from distgan.data.features import Features
from distgan.data.shard_index import FACTUAL
from distgan.data.sources import CaptionedImages, Images, Lines, Source
from distgan.data.stream import Stream
from distgan.data.vocabulary import SPECIAL, Tokens, Vocabulary
from distgan.engine.stages import Batch, Moment
from distgan.engine.world import World
from distgan.randomness import STREAMS, Draw, uniforms


class Corpora:
    """The datasets of one run, opened. Styles are numbered: the styled dataset's, then
    `factual`, then the style of a text file where `data.style` names one."""

    def __init__(self, config: Config, world: World, *, max_length: int) -> None:
        self.config, self.world, self.max_length = config, world, max_length
        data = config.data
        self.dataset = Dataset.open(data.path, allow_damage=data.max_bad_samples > 0)
        self.styled = (
            self.dataset
            if data.styled is None
            else Dataset.open(data.styled, allow_damage=data.max_bad_samples > 0)
        )
        self.own_lines = read_style(data.style)
        own = tuple(self.own_lines)
        self.styles = (*self.styled.styles, "factual", *own)
        self.factual = len(self.styled.styles)
        self.asked = self._asked(data.style)
        self._features: dict[str, Features] = {}

    def _asked(self, style: str) -> tuple[int, ...]:
        """The styles the generator is asked for, by number."""
        if self.own_lines:
            if len(set(self.styles)) < len(self.styles):
                raise ValueError(
                    f"data.style={style}: the data have a style {self.styles[-1]!r} already; "
                    "name the file otherwise"
                )
            return (len(self.styles) - 1,)
        if not self.styled.styles:
            raise ValueError(f"data.style={style}: {self.styled.path} has no styles")
        if style == "all":
            return tuple(range(self.factual))
        if style not in self.styled.styles:
            raise ValueError(
                f"data.style must be all, a text file or one of {', '.join(self.styled.styles)}, "
                f"got {style!r}"
            )
        return (self.styled.styles.index(style),)

    @property
    def asked_names(self) -> tuple[str, ...]:
        return tuple(self.styles[number] for number in self.asked)

    @cached_property
    def lines(self) -> dict[str, list[str]]:
        """Lines without pictures, by style, of the styles asked for that have any."""
        if self.own_lines:
            return self.own_lines
        known = {file.style for file in self.styled.manifest.texts}
        return {s: self.styled.texts(s) for s in self.asked_names if s in known}

    @cached_property
    def vocabulary(self) -> Tokens:
        """The words of all datasets and lines, in that order."""
        if self.config.data.byte_pairs is not None:
            return BytePairs.open(self.config.data.byte_pairs)
        words = dict.fromkeys(self.dataset.vocabulary.words[len(SPECIAL) :])
        words |= dict.fromkeys(self.styled.vocabulary.words[len(SPECIAL) :])
        if self.own_lines:
            texts = [line for lines in self.own_lines.values() for line in lines]
            words |= dict.fromkeys(Vocabulary.build(texts).words[len(SPECIAL) :])
        return Vocabulary(tuple(words))

    @property
    def digest(self) -> str:
        return f"{self.dataset.digest} {self.styled.digest} {self.config.data.style}"

    @cached_property
    def has_pairs(self) -> bool:
        """Are there images with captions in a style asked for?"""
        if self.own_lines:
            return False
        split = self.styled.split(self.config.data.styled_split)
        counts = self.styled.manifest.captions.get(split.name, {})
        return any(counts.get(name, 0) for name in self.asked_names)

    def stream(self, name: str, rows: int) -> Stream:
        """The stream LEARNER/CORPUS in global batches of `rows`."""
        data, world = self.config.data, self.world
        return Stream(
            self._source(name.rpartition("/")[2]),
            name=name,
            rows=rows,
            seed=self.config.seed,
            rank=world.rank,
            size=world.size,
            loaders=data.loaders,
            block=data.shuffle_block,
            window=data.shuffle_window,
            max_bad_samples=data.max_bad_samples,
            pin=world.device.type == "cuda",
        )

    def _source(self, corpus: str) -> Source:
        limit, words, T = self.config.overfit, self.vocabulary, self.max_length
        if corpus == "text":
            return Lines(self.lines, words, T, styles=self.styles, limit=limit)
        split = self.split(corpus)
        if corpus == "images":
            return Images(split, limit=limit)
        styles = self.asked_names if corpus == "styled" else FACTUAL
        size = self.config.data.image_size if corpus == "factual_images" else None
        return CaptionedImages(split, words, T, styles=styles, image_size=size, limit=limit)

    def split(self, corpus: str) -> Split:
        """The images of a corpus."""
        if corpus == "styled":
            return self.styled.split(self.config.data.styled_split)
        return self.dataset.split(self.config.method.images if corpus == "images" else "train")

    def pictured(self, count: int) -> dict[str, Tensor]:
        """The first readable validation images for the log's pictures, (3, S, S) uint8 by key.

        Images of other splits where there are none for validation.
        """
        names = self.styled.splits
        found = next((n for n in ("val", "test") if n in names), names[0])
        split = self.styled.split(found)
        images: dict[str, Tensor] = {}
        for number in range(len(split)):
            if len(images) == count:
                break
            try:
                images[split.key(number)] = split.image(number, self.config.data.image_size)
            except DamagedSample:
                continue  # evaluation counts and names it
        return images

    def sight(self, moment: Moment, images: Batch) -> tuple[Tensor, Tensor]:
        """The images' regions, and the style each is to be described in."""
        draw = Draw(moment.seed, STREAMS["fakes"], moment.update)
        choice = uniforms(draw, images["position"]) * len(self.asked)
        asked = torch.tensor(self.asked, device=choice.device)
        return self.regions("images", images["id"]), asked[choice.long()]

    def with_regions(self, corpus: str, batch: Batch) -> Batch:
        """The batch with its regions, and factual captions under the factual style."""
        style = batch["style"]
        if corpus == "factual":
            style = torch.full_like(style, self.factual)
        return {**batch, "style": style, "regions": self.regions(corpus, batch["id"])}

    def see_with(self, encode: Callable[[Tensor], Tensor]) -> None:
        """Use this encoder, images uint8 (B, 3, S, S) to regions (B, K, D), from now on."""
        self._encode = encode
        self._features = {}

    @torch.no_grad()
    def see(self, images: Tensor) -> Tensor:
        """The regions (B, K, D) of images uint8 (B, 3, S, S), by the encoder as it is now."""
        return self._encode(images.to(self.world.device))

    def regions(self, corpus: str, ids: Tensor) -> Tensor:
        """The regions (B, K, D) of images `ids` of a corpus; zeros where it has no pictures.

        They are remembered: not to be asked for before the encoder has stopped learning.
        """
        if not self.has_pictures(corpus):
            return self._no_picture.expand(len(ids), -1, -1)
        return self.features(self.split(corpus)).of(ids)

    def features(self, split: Split) -> Features:
        """The remembered regions of a split, one memory for all corpora that share it."""
        name = f"{split.dataset.path}/{split.name}"
        if name not in self._features:
            size = self.config.data.image_size
            self._features[name] = Features(
                split,
                size,
                self._encode,
                device=self.world.device,
                max_bad_samples=self.config.data.max_bad_samples,
            )
        return self._features[name]

    @cached_property
    def _no_picture(self) -> Tensor:
        size = self.config.data.image_size
        blank = torch.zeros(1, 3, size, size, dtype=torch.uint8, device=self.world.device)
        with torch.no_grad():
            return torch.zeros_like(self._encode(blank))

    def has_pictures(self, corpus: str) -> bool:
        return corpus != "text"

    def other_images(self, corpus: str, batch_ids: Tensor, position: Tensor, draw: Draw) -> Tensor:
        """For each sample the id of another image of the corpus, (B,), keyed by its position."""
        count = len(self.split(corpus))
        if count < 2:
            raise ValueError(f"{corpus}: one image has no other to be told from")
        shift = 1 + (uniforms(draw, position) * (count - 1)).long()
        return (batch_ids + shift) % count


def corpus_of(stream: str) -> str:
    """The corpus of a stream named LEARNER/CORPUS."""
    return stream.rpartition("/")[2]


def read_style(style: str) -> dict[str, list[str]]:
    """The lines of a style given as a text file, by the file's stem; empty for a style's name."""
    path = Path(style)
    if path.suffix != ".txt":
        return {}
    if not path.is_file():
        raise ValueError(f"data.style={style}: there is no such file")
    lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    lines = [line for line in lines if line]
    if not lines:
        raise ValueError(f"data.style={style}: the file has no lines")
    return {path.stem: lines}
