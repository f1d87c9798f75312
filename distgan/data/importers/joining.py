"""What importers of image files share: joining captions with images, and giving out samples.

An importer reads its annotations into `Described` and calls `join`; the rest is here:

    class Mine(ImageFiles):
        name = "mine"

        def __init__(self, options: MineOptions) -> None:
            images = image_files(options.images)
            super().__init__(options, inputs=fingerprint(images, [options.captions]))
            described = [Described("a.jpg", [Caption("a dog")], split="train")]
            self.join(described, images)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, ClassVar

from distgan.data.importers.found import (
    Found,
    Report,
    keys_of,
    readable,
    split_by_name,
    with_words,
)
from distgan.data.importers.options import JoinOptions
from distgan.data.importers.styled_lines import lines_by_style
from distgan.data.manifest import file_sha256
from distgan.data.samples import Caption, Sample

_SHOWN = 3  # example names in an error


@dataclass
class Described:
    """What the annotations say of one image.

    `name` is its path below the images' folder, `split` None where none is published; `key`
    is made from the name where it is None; `facts` go into the sample's JSON.
    """

    name: str
    captions: list[Caption] = field(default_factory=list)
    split: str | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    key: str | None = None


class ImageFiles:
    """Base of importers: samples made from image files, by split."""

    name: ClassVar[str]

    def __init__(self, options: JoinOptions, *, inputs: str) -> None:
        """`inputs`: a hash of all that was read, see `found.fingerprint`."""
        self.options = options
        self.report = Report()
        self.source: dict[str, Any] = {"name": self.name, **told(options), "inputs": inputs}
        self._lines = lines_by_style(options.lines, self.report)
        self.source["lines"] = [[each.style, file_sha256(each.file)] for each in options.lines]
        self.splits: tuple[str, ...] = ()
        self._found: dict[str, Sequence[Found]] = {}
        self._texts: dict[str, Sequence[str]] = {}

    def num_samples(self, split: str) -> int:
        return len(self._found[split])

    def sample(self, split: str, i: int) -> Sample:
        found = self._found[split][i]
        image, extension = self.image(found)
        facts = {"file": found.path.name, **found.facts}
        return Sample(found.key, image, extension, found.captions, facts)

    def texts(self) -> Mapping[str, Sequence[str]]:
        return self._texts

    def image(self, found: Found) -> tuple[bytes, str]:
        """A sample's image file and its extension; importers that crop or draw override it."""
        return found.path.read_bytes(), found.extension

    def join(
        self,
        described: Iterable[Described],
        images: Mapping[str, Path],
        *,
        fractions: Sequence[tuple[str, float]] = (),
        unlabelled: bool | None = None,
        texts: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        """Make samples of the described images that are there, in the order given.

        Images without a split get one of `fractions` by a hash of their key. `unlabelled` keeps
        images that have no captions (None: there is no such option); `texts` are lines by style.
        ValueError when a split would be empty, or when fewer than `options.min_joined` of a
        split's images are there; the report so far is among its notes.
        """
        with self._telling():
            found = self._joined(merge(described), images, fractions, unlabelled)
        self.place(found, texts)

    def _joined(
        self,
        merged: Mapping[str, Described],
        images: Mapping[str, Path],
        fractions: Sequence[tuple[str, float]],
        unlabelled: bool | None,
    ) -> Mapping[str, Sequence[Found]]:
        """The samples by split, see `join`; what is left out goes into the report."""
        if not merged:
            raise ValueError(f"no image is described, {len(images):,} are there: nothing to import")
        self._check_joined(merged, images)
        paths = {}
        for name in merged:
            if name in images:
                paths[name] = images[name]
            else:
                self.report.drop("described images that are not there", name)
        for name in images:
            if name not in merged:
                self.report.drop("images that nothing describes", name)
        kinds = readable(paths, self.report)
        keys = keys_of(name for name in kinds if merged[name].key is None)
        found: dict[str, list[Found]] = {split: [] for split in _splits(merged.values(), fractions)}
        without = "images without captions"
        without += "" if unlabelled is None else " (--unlabelled keeps them)"
        for name, kind in kinds.items():
            said = merged[name]
            captions = with_words(said.captions, name, self.report)
            key = keys[name] if said.key is None else said.key
            if not captions and not unlabelled:
                self.report.drop(without, name)
                continue
            split = said.split or split_by_name(key, fractions)
            found[split].append(Found(key, paths[name], kind, captions, said.facts))
        return found

    def place(
        self, found: Mapping[str, Sequence[Found]], texts: Mapping[str, Sequence[str]] | None = None
    ) -> None:
        """Settle on these samples by split and lines by style (`--lines` join them); report both.

        ValueError when a split would be empty, or when two samples in one have the same key; the
        report so far is among its notes.
        """
        with self._telling():
            for split, samples in found.items():
                if not samples:
                    counts = ", ".join(f"{name} {len(those):,}" for name, those in found.items())
                    raise ValueError(f"split {split} would be empty: samples found: {counts}")
                _check_keys(split, samples)
                self.report.say(_line(split, samples))
        styles = dict.fromkeys([*(texts or {}), *self._lines])
        self._texts = {s: (*(texts or {}).get(s, ()), *self._lines.get(s, ())) for s in styles}
        for style, lines in self._texts.items():
            self.report.say(f"text without images: {len(lines):,} lines {style}")
        self._found, self.splits = dict(found), tuple(found)

    @contextmanager
    def _telling(self) -> Iterator[None]:
        """Adds the report to a ValueError: what was found and dropped tells why it is one."""
        try:
            yield
        except ValueError as error:
            for line in self.report.text():
                error.add_note(line)
            raise

    def _check_joined(self, described: Mapping[str, Described], images: Mapping[str, Path]) -> None:
        named: dict[str | None, list[str]] = {}
        for name, said in described.items():
            named.setdefault(said.split, []).append(name)
        for split, names in named.items():
            what = f"split {split}" if split else "the captions"
            check_joined(what, names, images, self.options.min_joined)


def check_joined(
    what: str, named: Collection[str], present: Collection[str], min_joined: float
) -> None:
    """ValueError unless `min_joined` of the images that `what` names are present."""
    joined = sum(name in present for name in named)
    if joined and joined >= min_joined * len(named):
        return
    wanted = set(named)
    raise ValueError(
        f"{what}: of {len(named):,} images that it names, {joined:,} are among the "
        f"{len(present):,} found (min_joined={min_joined}); "
        f"it names {_examples(n for n in named if n not in present)}; "
        f"found {_examples(n for n in present if n not in wanted)}; is it the right folder? "
        "For a part of a dataset lower --min-joined"
    )


def _check_keys(split: str, samples: Iterable[Found]) -> None:
    """ValueError naming two images, of whatever folders, that would be one sample of a split."""
    first: dict[str, Found] = {}
    for each in samples:
        other = first.setdefault(each.key, each)
        if other is not each:
            raise ValueError(
                f"split {split}: images {other.path} and {each.path} would share the key "
                f"{each.key}; rename one"
            )


def merge(described: Iterable[Described], where: str = "the captions") -> dict[str, Described]:
    """By name, captions of one image put together. ValueError when it is in two splits."""
    merged: dict[str, Described] = {}
    for said in described:
        before = merged.setdefault(said.name, said)
        if before is said:
            continue
        if before.split and said.split and before.split != said.split:
            raise ValueError(f"{where}: {said.name} is in splits {before.split} and {said.split}")
        before.captions = [*before.captions, *said.captions]
        before.split = before.split or said.split
        before.facts = before.facts | said.facts
    return merged


def told(options: Any) -> dict[str, Any]:
    """The options a dataset depends on: not where the files lie, nor how many must be there."""
    given = {each.name: vars(options)[each.name] for each in fields(options)}
    return {
        key: _plain(value)
        for key, value in given.items()
        if key != "min_joined" and not _is_place(value)
    }


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    return told(value) if is_dataclass(value) else value


def _is_place(value: Any) -> bool:
    if isinstance(value, tuple) and value:
        return all(_is_place(each) for each in value)
    return isinstance(value, Path)


def _splits(described: Iterable[Described], fractions: Sequence[tuple[str, float]]) -> list[str]:
    """Published splits in the order they occur, and those of `fractions` where one is missing."""
    given = list(dict.fromkeys(said.split for said in described))
    named = [split for split in given if split]
    return named + [s for s, _ in fractions if s not in named] if None in given else named


def _line(split: str, samples: Sequence[Found]) -> str:
    captions = Counter(c.style or "factual" for sample in samples for c in sample.captions)
    styles = ", ".join(f"{count:,} {style}" for style, count in sorted(captions.items()))
    return f"{split}: {len(samples):,} images, captions: {styles or 'none'}"


def _examples(names: Iterable[str]) -> str:
    shown = [name for name, _ in zip(names, range(_SHOWN), strict=False)]
    return ", ".join(shown) or "nothing else"
