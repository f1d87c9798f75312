"""How a dataset is laid out: what its samples become on their way into shards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from distgan.data.damage import UnreadableImage
from distgan.data.importers.options import option
from distgan.data.pieces import Importer
from distgan.data.reencode import Encode, Encoding
from distgan.data.samples import Sample

_ALWAYS_TOLD = ("shard_samples", "min_count", "max_words")  # as the first datasets did
_MEASURED = 64  # samples whose size speaks for all


@dataclass(frozen=True, kw_only=True)
class VocabularyOptions:
    """Which words of the training captions make the vocabulary."""

    min_count: int = option("occurrences a word needs to join the vocabulary", default=1)
    max_words: int | None = option("words of the vocabulary (default: no limit)", default=None)

    def __post_init__(self) -> None:
        _require_positive(self, "min_count", "max_words")


@dataclass(frozen=True, kw_only=True)
class WriteOptions(VocabularyOptions):
    """How a dataset is laid out. All but `jobs` are part of what the dataset is."""

    shorter: int | None = option(
        "make images smaller whose shorter side has more pixels than this; the others keep "
        "their bytes",
        default=None,
        metavar="PIXELS",
    )
    encode: Encode = option(
        "the kind that images of another kind become; keep: only resized ones are written anew, "
        "as jpg",
        default="keep",
    )
    quality: int = option("of images that are written anew, 1 to 100", default=95)
    limit: int | None = option("samples of each split, the first ones", default=None, metavar="N")
    shard_samples: int = option("samples of a shard", default=1000)
    shard_mb: float | None = option(
        "size of a shard, about, in place of --shard-samples", default=None, metavar="MB"
    )
    jobs: int = option("processes", default=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        _require_positive(self, "limit", "shard_samples", "jobs")
        if self.shard_mb is not None and not self.shard_mb > 0:
            raise ValueError(f"shard_mb must be above 0, got {self.shard_mb}")
        _ = self.encoding

    @property
    def encoding(self) -> Encoding:
        return Encoding(self.shorter, self.encode, self.quality)

    def told(self) -> dict[str, Any]:
        """What a dataset's manifest says of its layout."""
        usual = {each.name: each.default for each in fields(self)}
        return {
            key: value
            for key, value in vars(self).items()
            if key in _ALWAYS_TOLD or (key != "jobs" and value != usual[key])
        }


@dataclass(frozen=True)
class LaidOut:
    """An importer whose samples come as the options want them; itself an importer."""

    importer: Importer
    options: WriteOptions

    @property
    def splits(self) -> Sequence[str]:
        return self.importer.splits

    def num_samples(self, split: str) -> int:
        count = self.importer.num_samples(split)
        return count if self.options.limit is None else min(count, self.options.limit)

    def sample(self, split: str, i: int) -> Sample:
        """One sample. ValueError naming it when its image cannot be written anew."""
        sample = self.importer.sample(split, i)
        try:
            image, extension = self.options.encoding.apply(sample.image, sample.extension)
        except UnreadableImage as error:
            raise ValueError(f"{sample.key}: {error}") from error
        return replace(sample, image=image, extension=extension)

    def texts(self) -> Mapping[str, Sequence[str]]:
        return self.importer.texts()

    def shard_samples(self) -> int:
        """Samples of a shard: as given, or so many as make a shard of the size asked for."""
        if self.options.shard_mb is None:
            return self.options.shard_samples
        everything = [(s, i) for s in self.splits for i in range(self.num_samples(s))]
        picked = everything[:: max(1, len(everything) // _MEASURED)]
        if not picked:
            return self.options.shard_samples
        mean = sum(len(self.sample(*place).image) for place in picked) / len(picked)
        return max(1, round(self.options.shard_mb * 2**20 / max(mean, 1)))


def _require_positive(options: Any, *names: str) -> None:
    for name in names:
        value = vars(options)[name]
        if value is not None and value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
