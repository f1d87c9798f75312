"""What a stream draws from: numbered items, each read without regard to the others."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from distgan.data.damage import DamagedSample
from distgan.data.dataset import Split
from distgan.data.folder import Extent, Read, read_now
from distgan.data.order import Mixed, OneOfEach, Order, Shuffled, Shuffling
from distgan.data.shard_index import FACTUAL
from distgan.data.texts import fault_of
from distgan.data.vocabulary import PAD, Tokens

Item = dict[str, Any]
"""One sample's part of a batch: tensors without the batch dimension."""

FILE = "file"
"""The part of an item that is an image's file as it is, uint8 (bytes,), to be decoded later."""


class Source(Protocol):
    """Numbered items. Picklable, for the processes that read ahead."""

    digest: str
    """Names what the items are, so that a stream resumes on the same ones only."""

    def __len__(self) -> int: ...

    def __getitem__(self, item: int) -> Item:
        return self.sample(item, read_now)

    def sample(self, item: int, read: Read) -> Item:
        """An item, its file read by `read`. DamagedSample for one that cannot be used."""
        ...

    def extent(self, item: int) -> Extent | None:
        """What `sample` will read; None for an item without a file."""
        return None

    def order(self, shuffling: Shuffling) -> Order:
        """The order in which a stream gives the items out."""
        return Shuffled(shuffling, len(self))

    def id(self, item: int) -> int:
        """The sample's number in its split, the `id` of batches."""
        ...

    def key(self, item: int) -> str: ...


class CaptionedImages(Source):
    """Pairs of an image and one caption; an epoch goes over every caption once, or over every
    image once (`per_image`) with one of its captions drawn each time.

    Items hold `words` (max_length,) and `style` (its place in the dataset's styles, factual
    captions have the number after the last), and `image` (3, image_size, image_size) if a size
    is given; `file` (bytes,) in its place where `files` says so. `styles` chooses captions by
    style, FACTUAL for those without; None takes all. `numbered` gives the order in which styles
    are numbered, by default the dataset's.
    """

    def __init__(
        self,
        split: Split,
        vocabulary: Tokens,
        max_length: int,
        *,
        styles: str | Sequence[str] | None = None,
        image_size: int | None = None,
        limit: int | None = None,
        per_image: bool = False,
        numbered: Sequence[str] | None = None,
        files: bool = False,
    ) -> None:
        self.split, self.vocabulary, self.per_image = split, vocabulary, per_image
        self.files = files
        self.max_length, self.image_size = max_length, image_size
        codes = split.caption_styles()
        self._captions = np.flatnonzero(_chosen(split, codes, styles))[:limit]
        self._rows = split.caption_rows()[self._captions]
        own = split.dataset.styles
        names = own if numbered is None else tuple(numbered)
        places = [names.index(style) for style in own] + [len(names)]
        self._styles = np.array(places)[codes[self._captions]]
        self.digest = _digest(split.dataset.digest, split.name, self._captions.tolist())

    def __len__(self) -> int:
        return len(self._captions)

    def order(self, shuffling: Shuffling) -> Order:
        if not self.per_image:
            return Shuffled(shuffling, len(self))
        ends = np.flatnonzero(np.diff(self._rows, append=-1)) + 1
        return OneOfEach(shuffling, ends)

    def extent(self, item: int) -> Extent | None:
        return None if self.image_size is None else self.split.extent(self.id(item))

    def sample(self, item: int, read: Read) -> Item:
        text = self.split.caption(int(self._captions[item])).text
        if fault := fault_of(text):
            row = self.id(item)
            raise DamagedSample(self.split.shard(row), self.key(item), f"a caption {fault}")
        sample: Item = {
            "words": encode_words(self.vocabulary, text, self.max_length),
            "style": torch.tensor(int(self._styles[item])),
        }
        if self.files:
            sample[FILE] = as_file(self.split.image_bytes(self.id(item), read))
        elif self.image_size is not None:
            sample["image"] = self.split.image(self.id(item), self.image_size, read)
        return sample

    def id(self, item: int) -> int:
        return int(self._rows[item])

    def key(self, item: int) -> str:
        return self.split.key(self.id(item))


class Images(Source):
    """Every image of a split, with or without captions; decoded if a size is given."""

    def __init__(
        self, split: Split, image_size: int | None = None, *, limit: int | None = None
    ) -> None:
        self.split, self.image_size = split, image_size
        self._length = min(len(split), len(split) if limit is None else limit)
        self.digest = _digest(split.dataset.digest, split.name, self._length)

    def __len__(self) -> int:
        return self._length

    def extent(self, item: int) -> Extent | None:
        return None if self.image_size is None else self.split.extent(item)

    def sample(self, item: int, read: Read) -> Item:
        if self.image_size is None:
            return {}
        return {"image": self.split.image(item, self.image_size, read)}

    def id(self, item: int) -> int:
        return item

    def key(self, item: int) -> str:
        return self.split.key(item)


class Lines(Source):
    """Lines of text that belong to no image, by style: `words` (max_length,) and `style`.

    `styles` gives the order in which styles are numbered (a dataset's `styles`); by default
    that of the mapping.
    """

    def __init__(
        self,
        texts: Mapping[str, Sequence[str]],
        vocabulary: Tokens,
        max_length: int,
        *,
        styles: Sequence[str] | None = None,
        limit: int | None = None,
    ) -> None:
        self.vocabulary, self.max_length = vocabulary, max_length
        numbers = {style: i for i, style in enumerate(styles or texts)}
        unknown = sorted(set(texts) - set(numbers))
        if unknown:
            raise ValueError(f"text of styles {unknown}, but the styles are {sorted(numbers)}")
        lines = [(s, n, line) for s, ls in texts.items() for n, line in enumerate(ls, 1)][:limit]
        if not lines:
            raise ValueError(f"no lines of text in styles {sorted(texts)}")
        self._keys = [f"{style}:{number}" for style, number, _ in lines]
        self._texts = [line for _, _, line in lines]
        self._styles = [numbers[style] for style, _, _ in lines]
        self.digest = _digest(self._keys, self._texts)

    def __len__(self) -> int:
        return len(self._texts)

    def sample(self, item: int, read: Read) -> Item:
        text = self._texts[item]
        if fault := fault_of(text):
            raise DamagedSample("text", self.key(item), f"a line {fault}")
        return {
            "words": encode_words(self.vocabulary, text, self.max_length),
            "style": torch.tensor(self._styles[item]),
        }

    def id(self, item: int) -> int:
        return item

    def key(self, item: int) -> str:
        return self._keys[item]


class Part(NamedTuple):
    """A source in a mixture. `weight`: how many of `period` neighbouring samples are its own."""

    source: Source
    weight: int
    ids: int  # how many ids its samples may have: those of its split


class Mixture(Source):
    """Several sources as one. Items and ids are numbered through all parts, in their order."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self.parts = tuple(parts)
        self._ends = np.cumsum([len(part.source) for part in parts])
        self._first_ids = np.cumsum([0, *(part.ids for part in parts)])
        self.digest = _digest([[part.source.digest, part.weight, part.ids] for part in parts])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def order(self, shuffling: Shuffling) -> Order:
        sources = [part.source for part in self.parts]
        orders = [s.order(shuffling.of_part(n)) for n, s in enumerate(sources)]
        sizes = [len(source) for source in sources]
        return Mixed(shuffling, orders, sizes, [part.weight for part in self.parts])

    def extent(self, item: int) -> Extent | None:
        number, inner = self._part(item)
        return self.parts[number].source.extent(inner)

    def sample(self, item: int, read: Read) -> Item:
        number, inner = self._part(item)
        return self.parts[number].source.sample(inner, read)

    def id(self, item: int) -> int:
        number, inner = self._part(item)
        return int(self._first_ids[number]) + self.parts[number].source.id(inner)

    def key(self, item: int) -> str:
        number, inner = self._part(item)
        return self.parts[number].source.key(inner)

    def _part(self, item: int) -> tuple[int, int]:
        number = int(np.searchsorted(self._ends, item, side="right"))
        return number, item - (int(self._ends[number - 1]) if number else 0)


def as_file(data: bytes) -> Tensor:
    """(bytes,) uint8, a copy: torch wants memory it may write to."""
    return torch.frombuffer(bytearray(data), dtype=torch.uint8)


def encode_words(vocabulary: Tokens, text: str, max_length: int) -> Tensor:
    """(max_length,) int64: the words with END where it fits, then PAD."""
    ids = vocabulary.encode(text, max_length)
    return torch.tensor(ids + [PAD] * (max_length - len(ids)))


def _chosen(
    split: Split, codes: np.ndarray[Any, Any], styles: str | Sequence[str] | None
) -> np.ndarray[Any, Any]:
    names = (*split.dataset.styles, FACTUAL)
    wanted = names if styles is None else (styles,) if isinstance(styles, str) else tuple(styles)
    unknown = sorted(set(wanted) - set(names))
    if unknown:
        raise ValueError(f"{split.dataset.path} has no style {unknown}; it has {names}")
    chosen = np.isin(codes, [names.index(style) for style in wanted])
    if not chosen.any():
        counts = split.dataset.manifest.captions.get(split.name, {})
        raise ValueError(
            f"{split.dataset.path}: split {split.name!r} has no captions of styles {wanted}; "
            f"it has {counts or 'none at all'}"
        )
    return chosen


def _digest(*facts: Any) -> str:
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()
