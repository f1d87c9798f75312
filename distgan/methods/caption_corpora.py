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
from distgan.data.dataset import Split
from distgan.data.device_images import DeviceDecoder
from distgan.data.feature_shards import StoredFeatures
from distgan.data.features import Features
from distgan.data.shard_index import FACTUAL
from distgan.data.sources import CaptionedImages, Images, Lines, Mixture, Part, Source
from distgan.data.stream import Stream
from distgan.data.texts import read_lines
from distgan.data.vocabulary import SPECIAL, Tokens, Vocabulary
from distgan.data.word_pieces import WordPieces
from distgan.engine.stages import Batch, Moment
from distgan.engine.world import World
from distgan.methods.caption_datasets import (
    Album,
    Member,
    joined_styles,
    joined_words,
    open_members,
)
from distgan.methods.caption_features import FeatureStore
from distgan.models.encoders import Encoder
from distgan.randomness import STREAMS, Draw, uniforms

READ_AHEAD = 256
"""Samples fetched before their turn where a dataset does not lie on a local disk."""


class Corpora:
    """The datasets of one run, opened. Styles are numbered: the styled datasets', then
    `factual`, then the style of a text file where `data.style` names one.

    `dataset` and `styled` are the main ones, which a run is judged on. An image's id is its
    place in the splits of its corpus, one after the other."""

    def __init__(self, config: Config, world: World, *, max_length: int) -> None:
        self.config, self.world, self.max_length = config, world, max_length
        data = config.data
        self.facts, self.styles_from = open_members(data)
        self.dataset, self.styled = self.facts[0].dataset, self.styles_from[0].dataset
        self.own_lines = read_style(data.style)
        own = tuple(self.own_lines)
        joined = joined_styles(self.styles_from)
        self.styles = (*joined, "factual", *own)
        self.factual = len(joined)
        self.asked = self._asked(data.style)
        self._check_styled_mix()
        self._features: dict[str, Features | StoredFeatures] = {}
        self._store: FeatureStore | None = None
        self._albums: dict[str, Album] = {}
        self._streams: list[Stream] = []

    def _asked(self, style: str) -> tuple[int, ...]:
        """The styles the generator is asked for, by number."""
        if self.own_lines:
            if len(set(self.styles)) < len(self.styles):
                raise ValueError(
                    f"data.style={style}: the data have a style {self.styles[-1]!r} already; "
                    "name the file otherwise"
                )
            return (len(self.styles) - 1,)
        known = self.styles[: self.factual]
        if not known:
            raise ValueError(f"data.style={style}: {self.styled.path} has no styles")
        if style == "all":
            return tuple(range(self.factual))
        if style not in known:
            raise ValueError(
                f"data.style must be all, a text file or one of {', '.join(known)}, got {style!r}"
            )
        return (known.index(style),)

    def _check_styled_mix(self) -> None:
        if not self.own_lines:
            self.styled.split(self.config.data.styled_split)
        for part in self.styles_from[1:]:
            if not part.has(self.asked_names) and not part.lines(self.asked_names):
                raise ValueError(
                    f"{part.key}: {part.dataset.path} has nothing in style "
                    f"{', '.join(self.asked_names)} (split {part.split!r}); it has "
                    f"{', '.join(part.dataset.styles) or 'no styles'}"
                )

    @property
    def asked_names(self) -> tuple[str, ...]:
        return tuple(self.styles[number] for number in self.asked)

    @cached_property
    def lines(self) -> dict[str, list[str]]:
        """Lines without pictures, by style, of the styles asked for that have any."""
        if self.own_lines:
            return self.own_lines
        joined: dict[str, list[str]] = {}
        for part in self.styles_from:
            for style, lines in part.lines(self.asked_names).items():
                joined[style] = joined.get(style, []) + lines
        return joined

    @cached_property
    def vocabulary(self) -> Tokens:
        """The words of the factual datasets, the styled ones and the lines, in that order."""
        if self.config.data.byte_pairs is not None:
            return BytePairs.open(self.config.data.byte_pairs)
        if self.config.data.word_pieces is not None:
            return WordPieces.open(self.config.data.word_pieces)
        words = dict.fromkeys(joined_words(self.facts))
        words |= dict.fromkeys(joined_words(self.styles_from))
        if self.own_lines:
            texts = [line for lines in self.own_lines.values() for line in lines]
            words |= dict.fromkeys(Vocabulary.build(texts).words[len(SPECIAL) :])
        return Vocabulary(tuple(words))

    @property
    def digest(self) -> str:
        members = (*self.facts, *self.styles_from)
        rounded = self._store is not None and self._store.dtype != "float32"
        return " ".join(
            [
                *(part.dataset.digest for part in members),
                self.config.data.style,
                *(["features in bfloat16"] if rounded else []),
            ]
        )

    @cached_property
    def has_pairs(self) -> bool:
        """Are there images with captions in a style asked for?"""
        return any(part.has(self.asked_names) for part in self.styles_from)

    @property
    def _paired(self) -> list[Member]:
        """The datasets with images that have captions in a style asked for."""
        found = [part for part in self.styles_from if part.has(self.asked_names)]
        return found or [self.styles_from[0]]

    def stream(self, name: str, rows: int) -> Stream:
        """The stream LEARNER/CORPUS in global batches of `rows`."""
        data, world = self.config.data, self.world
        corpus = corpus_of(name)
        if self._store is not None and self.has_pictures(corpus):
            for split in self.album(corpus).splits:
                self.features(split)  # says now what is missing
        source = self._source(corpus)
        on_device = data.decode == "gpu" and corpus == "factual_images"
        made = Stream(
            source,
            name=name,
            rows=rows,
            seed=self.config.seed,
            rank=world.rank,
            size=world.size,
            loaders=data.loaders,
            block=data.shuffle_block,
            window=data.shuffle_window,
            max_bad_samples=data.max_bad_samples,
            read_ahead=self._read_ahead,
            read_ahead_bytes=data.read_ahead_mb * 2**20,
            pin=world.device.type == "cuda",
            decoder=DeviceDecoder(source, data.image_size, world.device) if on_device else None,
        )
        self._streams.append(made)
        return made

    def bad_samples(self) -> list[str]:
        """The damaged samples this rank met, in streams and among its images' regions."""
        found = [f"{stream.name}: {what}" for stream in self._streams for what in stream.bad]
        for memory in self._features.values():
            found += [f"features: {what}" for what in memory.bad.values()]
        return list(dict.fromkeys(found))

    @property
    def _read_ahead(self) -> int:
        members = (*self.facts, *self.styles_from)
        remote = any(part.dataset.folder.remote for part in members)
        chosen = self.config.data.read_ahead
        return (READ_AHEAD if remote else 0) if chosen is None else chosen

    def _source(self, corpus: str) -> Source:
        if corpus == "text":
            return self._text()
        members = self._members(corpus)
        sources = [self._source_in(corpus, split) for _, split in members]
        if len(members) == 1:
            return sources[0]
        pairs = zip(sources, members, strict=True)
        return Mixture([Part(source, m.weight, len(split)) for source, (m, split) in pairs])

    def _source_in(self, corpus: str, split: Split) -> Source:
        limit, data = self.config.overfit, self.config.data
        if corpus == "images":
            return Images(split, limit=limit)
        asked = [style for style in self.asked_names if style in split.dataset.styles]
        return CaptionedImages(
            split,
            self.vocabulary,
            self.max_length,
            styles=(asked or self.asked_names) if corpus == "styled" else FACTUAL,
            image_size=data.image_size if corpus == "factual_images" else None,
            limit=limit,
            per_image=data.epoch == "images",
            files=data.decode == "gpu" and corpus == "factual_images",
            numbered=self.styles[: self.factual] if corpus == "styled" else None,
        )

    def _text(self) -> Source:
        options = {"styles": self.styles, "limit": self.config.overfit}
        given = [(part.weight, part.lines(self.asked_names)) for part in self.styles_from]
        found = [(weight, lines) for weight, lines in given if lines]
        if self.own_lines or len(found) < 2:
            return Lines(self.lines, self.vocabulary, self.max_length, **options)
        sources = [Lines(ls, self.vocabulary, self.max_length, **options) for _, ls in found]
        weights = [weight for weight, _ in found]
        return Mixture([Part(s, w, len(s)) for s, w in zip(sources, weights, strict=True)])

    def _members(self, corpus: str) -> list[tuple[Member, Split]]:
        """The datasets of a corpus of images, and their splits of it."""
        if corpus == "styled":
            return [(part, part.dataset.split(part.split)) for part in self._paired]
        if corpus != "images":
            return [(part, part.dataset.split(part.split)) for part in self.facts]
        main, name = self.facts[0], self.config.method.images
        more = [part for part in self.facts[1:] if name in part.dataset.splits]
        return [(part, part.dataset.split(name)) for part in (main, *more)]

    def album(self, corpus: str) -> Album:
        """The images of a corpus."""
        if corpus not in self._albums:
            self._albums[corpus] = Album([split for _, split in self._members(corpus)])
        return self._albums[corpus]

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

    def read_features(self, encoder: Encoder) -> None:
        """Read the regions of images from `data.features`, if given, in place of encoding them.

        ValueError when they are not what `encoder` gives.
        """
        if self.config.data.features is not None:
            self._store = FeatureStore(self.config, encoder, self.dataset)

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
        if self._store is not None:
            self._store.check_weights()
        return self.album(corpus).gather(ids, lambda split, own: self.features(split).of(own))

    def features(self, split: Split) -> Features | StoredFeatures:
        """The remembered regions of a split, one memory for all corpora that share it."""
        name = f"{split.dataset.path}/{split.name}"
        if name not in self._features and self._store is not None:
            self._features[name] = self._store.of_split(split, self.world.device)
        if name not in self._features:
            size = self.config.data.image_size
            self._features[name] = Features(
                split,
                size,
                self._encode,
                device=self.world.device,
                max_bad_samples=self.config.data.max_bad_samples,
                decode=self.config.data.decode,
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
        """For each sample the id of another image of its dataset, (B,), keyed by its position."""
        return self.album(corpus).others(batch_ids, uniforms(draw, position))


def corpus_of(stream: str) -> str:
    """The corpus of a stream named LEARNER/CORPUS."""
    return stream.rpartition("/")[2]


def read_style(style: str) -> dict[str, list[str]]:
    """The lines of a style given as a text file, by the file's stem; empty for a style's name."""
    path = Path(style)
    if path.suffix != ".txt":
        return {}
    try:
        return {path.stem: read_lines(path)}
    except ValueError as error:
        raise ValueError(f"data.style={style}: {error}") from error
