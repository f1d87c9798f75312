"""The datasets of one run: which are mixed with which, their styles, their words, their images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from distgan.config import DataConfig, MixConfig
from distgan.data.dataset import Dataset, Split
from distgan.data.shard_index import FACTUAL
from distgan.data.texts import words_of
from distgan.data.vocabulary import SPECIAL


@dataclass(frozen=True)
class Member:
    """A dataset among those that are mixed; `key` is what the config calls it."""

    key: str
    dataset: Dataset
    split: str  # with its training captions
    weight: int

    def has(self, styles: Sequence[str]) -> bool:
        """Are there captions of these styles (FACTUAL for those without) in the split?"""
        counts = self.dataset.manifest.captions.get(self.split, {})
        return any(counts.get(style, 0) for style in styles)

    def lines(self, styles: Sequence[str]) -> dict[str, list[str]]:
        """Lines without pictures, by style, of those of the styles that have any."""
        known = {file.style for file in self.dataset.manifest.texts}
        return {style: self.dataset.texts(style) for style in styles if style in known}


def open_members(data: DataConfig) -> tuple[tuple[Member, ...], tuple[Member, ...]]:
    """The datasets with factual captions, and those with styled ones; the main ones first.

    ValueError for a dataset that is mixed with itself, or that has nothing to give.
    """
    opened: dict[str, Dataset] = {}

    def member(key: str, part: MixConfig) -> Member:
        if part.path not in opened:
            opened[part.path] = Dataset.open(part.path, allow_damage=data.max_bad_samples > 0)
        return Member(key, opened[part.path], part.split, part.weight)

    main = member("data.path", MixConfig(path=data.path, weight=data.weight))
    factual = [member(f"data.mix[{n}]", part) for n, part in enumerate(data.mix)]
    for part in factual:
        part.dataset.split(part.split)
        if not part.has((FACTUAL,)):
            raise ValueError(
                f"{part.key}: split {part.split!r} of {part.dataset.path} has no factual captions"
            )
    styled = MixConfig(
        path=data.path if data.styled is None else data.styled,
        split=data.styled_split,
        weight=data.styled_weight,
    )
    main_styled = member("data.path" if data.styled is None else "data.styled", styled)
    more = [member(f"data.styled_mix[{n}]", part) for n, part in enumerate(data.styled_mix)]
    for part in more:
        part.dataset.split(part.split)
    _check_different([main, *factual])
    _check_different([main_styled, *more])
    return (main, *factual), (main_styled, *more)


def joined_styles(members: Sequence[Member]) -> tuple[str, ...]:
    """The first dataset's styles, then what the others have beside them."""
    return tuple(dict.fromkeys(style for part in members for style in part.dataset.styles))


def joined_words(members: Sequence[Member]) -> list[str]:
    """Every word of the datasets' vocabularies, by how often it occurs in all their training
    captions and lines together, then by the alphabet. One dataset's words stay as they are."""
    first, *more = [part.dataset.vocabulary.words[len(SPECIAL) :] for part in members]
    if not more:
        return list(first)
    known = set(first).union(*more)
    counts = Counter(
        word
        for part in members
        for text in part.dataset.training_texts()
        for word in words_of(text)
        if word in known
    )
    return sorted(known, key=lambda word: (-counts[word], word))


class Album:
    """Splits whose images are numbered through, in order: those of a corpus."""

    def __init__(self, splits: Sequence[Split]) -> None:
        self.splits = tuple(splits)
        self._ends = np.cumsum([len(split) for split in splits])
        self._firsts = np.concatenate([[0], self._ends[:-1]])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def gather(self, ids: Tensor, read: Callable[[Split, Tensor], Tensor]) -> Tensor:
        """What `read(split, ids within it)` gives for images `ids` (B,), put together: (B, ...)."""
        if len(self.splits) == 1:
            return read(self.splits[0], ids)
        part = self._part(ids)
        found: Tensor | None = None
        for number in part.unique().tolist():
            here = (part == number).nonzero().flatten()
            values = read(self.splits[number], ids[here] - int(self._firsts[number]))
            if found is None:
                found = values.new_empty(len(ids), *values.shape[1:])
            found[here.to(values.device)] = values
        assert found is not None
        return found

    def others(self, ids: Tensor, u: Tensor) -> Tensor:
        """For each image another one of its own split, chosen by uniforms `u`; both (B,)."""
        part = self._part(ids)
        first = torch.from_numpy(self._firsts).to(ids.device)[part]
        sizes = [len(split) for split in self.splits]
        if min(sizes) < 2:
            path = self.splits[int(np.argmin(sizes))].dataset.path
            raise ValueError(f"{path}: one image has no other to be told from")
        count = torch.tensor(sizes, device=ids.device)[part]
        shift = 1 + (u * (count - 1)).long()
        return first + (ids - first + shift) % count

    def _part(self, ids: Tensor) -> Tensor:
        ends = torch.from_numpy(self._ends).to(ids.device)
        return torch.searchsorted(ends, ids, right=True)


def _check_different(members: Sequence[Member]) -> None:
    seen: dict[str, Member] = {}
    for part in members:
        other = seen.setdefault(part.dataset.digest, part)
        if other is not part:
            raise ValueError(
                f"{part.key}: {part.dataset.path} is the same dataset as {other.key}="
                f"{other.dataset.path}; give that one a larger weight instead"
            )
