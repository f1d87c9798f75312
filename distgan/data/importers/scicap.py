"""SciCap: figures of arXiv papers with their captions, at a level of normalisation.

From github.com/tingyaohsu/SciCap: scicap_data.zip (18 GB), unpacked:

  prepare.py scicap scicap_data --out data/scicap
  prepare.py scicap scicap_data --text 2-1-basic-num --experiment Single-Sentence-Caption \\
      --figures yes-subfig --out data/scicap_subfig

Captions are one JSON a figure in SciCap-Caption-All/{train,val,test}, or one list a split in
SciCap-Caption-All-{train,val,test}.json. An experiment is a published list of figures
(List-of-Files-for-Each-Experiments); First-Sentence takes the first sentence of each caption,
the others all of it. `--experiment all` needs no list. NUM-TK, BRACKET-TK and EQUAT-TK are
written NUM_TK and so on: each stays one word. The challenge's release (train.json, val.json) is
in COCO's format: see `prepare.py coco --help`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from distgan.data.importers.annotations import published_names, read_json
from distgan.data.importers.found import fingerprint, image_files
from distgan.data.importers.joining import Described, ImageFiles, check_joined
from distgan.data.importers.options import JoinOptions, option
from distgan.data.samples import Caption

SPLITS = ("train", "val", "test")
_FIRST = "First-Sentence"
_LEVELS = {  # by the published names, misspelt as published; the second of a pair is not
    "0-originally-extracted": (("0-originally-extracted",),),
    "1-lowercase-and-token-and-remove-figure-index": (
        ("1-lowercase-and-token-and-remove-figure-index",),
    ),
    "2-1-basic-num": (("2-normalized", "2-1-basic-num"),),
    "2-2-advanced-euqation-bracket": (
        ("2-normalized", "2-2-advanced-euqation-bracket"),
        ("2-normalized", "2-2-advanced-equation-bracket"),
    ),
}
_FIGURES = {"no-subfig": (False,), "yes-subfig": (True,), "both": (False, True)}
_FOLDER = {False: "no-subfig", True: "yes-subfig"}
_SPECIAL = re.compile(r"\b(NUM|BRACKET|EQUAT)-TK\b")


@dataclass(frozen=True, kw_only=True)
class SciCapOptions(JoinOptions):
    """Where SciCap is, and which figures and form of the captions are taken."""

    root: Path = option("scicap_data, with SciCap-Caption-All in it", positional=True)
    text: Literal[
        "0-originally-extracted",
        "1-lowercase-and-token-and-remove-figure-index",
        "2-1-basic-num",
        "2-2-advanced-euqation-bracket",
    ] = option(
        "how far captions are normalised, by the published name",
        default="1-lowercase-and-token-and-remove-figure-index",
    )
    experiment: Literal[
        "First-Sentence", "Single-Sentence-Caption", "Caption-No-More-Than-100-Tokens", "all"
    ] = option("the published list of figures that is taken", default="First-Sentence")
    figures: Literal["no-subfig", "yes-subfig", "both"] = option(
        "figures without subfigures, with them, or both", default="no-subfig"
    )
    max_tokens: int | None = option("leave out captions of more published tokens", default=None)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.text.startswith("0") and (self.experiment == _FIRST or self.max_tokens is not None):
            raise ValueError(
                f"text={self.text} has neither sentences nor tokens: choose another --text, or "
                f"--experiment other than {_FIRST} and no --max-tokens"
            )


class SciCap(ImageFiles):
    """Figures of one experiment with their captions, in the published splits."""

    name = "scicap"

    def __init__(self, options: SciCapOptions) -> None:
        listed = {split: _listed(options, split) for split in _caption_places(options.root)}
        read = {split: _read(options.root, split, names) for split, (names, _) in listed.items()}
        folders = [_folder(options.root, f"{_FOLDER[s]}-img") for s in _FIGURES[options.figures]]
        images = {f"{f.name}/{name}": p for f in folders for name, p in image_files(f).items()}
        figures = [figure for entries, _ in read.values() for figure in entries]
        images = published_names(images, [(name, _escaped(name)) for name in figures])
        files = [path for those in (*listed.values(), *read.values()) for path in those[1]]
        super().__init__(options, inputs=fingerprint(images, files))
        missing = [split for split in SPLITS if split not in read]
        if missing:
            self.report.say(f"no captions of {', '.join(missing)} in {options.root.name}")
        described: list[Described] = []
        for split, (entries, _) in read.items():
            self._check_list(split, listed[split][0], entries)
            wanted = list(self._described(split, entries))
            if not wanted:
                raise ValueError(
                    f"split {split} would be empty: none of its {len(entries):,} figures is wanted "
                    f"({', '.join(self.report.dropped) or 'there are none'})"
                )
            described += wanted
        self.join(described, images)

    def _check_list(
        self, split: str, listed: list[str] | None, entries: dict[str, dict[str, Any]]
    ) -> None:
        self.report.say(f"{split}: found captions of {len(entries):,} figures")
        if listed is None:
            return
        self.report.say(f"{split}: {len(listed):,} figures in the list of the experiment")
        check_joined(f"the list of {split}", listed, entries, self.options.min_joined)
        for name in listed:
            if name not in entries:
                self.report.drop("figures of the list without a caption file", name)

    def _described(self, split: str, entries: dict[str, dict[str, Any]]) -> Iterator[Described]:
        """The captions that are wanted; why the others are not goes into the report."""
        o, first = self.options, self.options.experiment == _FIRST
        for figure, entry in entries.items():
            subfigures = bool(entry["contains-subfigure"])
            if o.experiment == "all" and subfigures not in _FIGURES[o.figures]:
                self.report.drop(f"figures that --figures {o.figures} leaves out", figure)
                continue
            level = level_of(entry, o.text)
            if o.max_tokens is not None and len(level.tokens) > o.max_tokens:
                self.report.drop(f"captions of more than {o.max_tokens} tokens", figure)
                continue
            text = _SPECIAL.sub(r"\1_TK", level.first if first else level.caption)
            yield Described(figure, [Caption(text)], split, facts_of(entry))


@dataclass(frozen=True)
class Level:
    """A caption as normalised so far; at level 0 without sentences and tokens."""

    caption: str
    sentences: tuple[str, ...] = ()
    tokens: tuple[str, ...] = ()

    @property
    def first(self) -> str:
        """The first sentence; none of a caption without sentences."""
        return self.sentences[0] if self.sentences else ""


def level_of(entry: dict[str, Any], text: str) -> Level:
    """A published caption at the level named `text`. ValueError naming the figure without it."""
    for keys in _LEVELS[text]:
        content: Any = entry
        for key in keys:
            content = content.get(key) if isinstance(content, dict) else None
        if isinstance(content, str):
            return Level(content)
        if content is not None:  # the levels differ in how they call the tokens
            tokens = content["tokens"] if "tokens" in content else content["token"]
            return Level(content["caption"], tuple(content["sentence"]), tuple(tokens))
    raise ValueError(f"{entry['figure-ID']}: its captions have no {text}: {', '.join(entry)}")


def facts_of(entry: dict[str, Any]) -> dict[str, Any]:
    """Paper, label in the paper (Figure5.2, TableII) and kind of a figure."""
    label = entry["figure-ID"].removesuffix(".png").removeprefix(f"{entry['paper-ID']}-")
    return {
        "paper": entry["paper-ID"],
        "figure": re.sub(r"-\d+$", "", label),  # the number counts figures of the same label
        "figure_type": entry["figure-type"],
        "subfigures": bool(entry["contains-subfigure"]),
    }


def _caption_places(root: Path) -> dict[str, Path]:
    """By split, the folder of one JSON a figure, or the file of one list."""
    captions = _folder(root, "caption-all")
    places = {}
    for split in SPLITS:
        there = [
            path
            for path in sorted(captions.iterdir())
            if path.name.casefold() in (split, f"{split}.json", f"scicap-caption-all-{split}.json")
        ]
        if len(there) > 1:
            raise ValueError(f"{captions}: both {there[0].name} and {there[1].name} hold {split}")
        if there:
            places[split] = there[0]
    if not places:
        raise ValueError(f"{captions} holds none of the splits {', '.join(SPLITS)}")
    return places


def _read(
    root: Path, split: str, wanted: list[str] | None
) -> tuple[dict[str, dict[str, Any]], list[Path]]:
    """What is published of the `wanted` figures (None: of all), by figure, and the files read."""
    place = _caption_places(root)[split]
    if place.is_file():
        entries, files = read_json(place, "captions file"), [place]
        if not isinstance(entries, list):
            raise ValueError(f"{place}: not a list of figures")
    else:
        paths = {path.name: path for path in sorted(place.glob("*.json"))}
        if wanted is None:
            files = list(paths.values())
        else:
            stems = [name.removesuffix(".png") for name in wanted]
            names = [f"{form}.json" for stem in stems for form in {stem, _escaped(stem)}]
            files = [paths[name] for name in names if name in paths]
        entries = [read_json(path, "captions file") for path in files]
    figures = {_checked(entry, place)["figure-ID"]: entry for entry in entries}
    if len(figures) < len(entries):
        raise ValueError(f"{place}: {len(entries) - len(figures):,} figures occur twice")
    kept = figures.keys() if wanted is None else figures.keys() & set(wanted)
    return {name: entry for name, entry in figures.items() if name in kept}, files


def _checked(entry: Any, place: Path) -> dict[str, Any]:
    needed = ("figure-ID", "paper-ID", "figure-type", "contains-subfigure")
    missing = [key for key in needed if not isinstance(entry, dict) or key not in entry]
    if missing:
        raise ValueError(f"{place}: a figure has no {', '.join(missing)}: {str(entry)[:80]}")
    return entry


def _listed(options: SciCapOptions, split: str) -> tuple[list[str] | None, list[Path]]:
    """The figures of an experiment in one split (None: all there are), and the lists read."""
    if options.experiment == "all":
        return None, []
    lists = _folder(options.root, "list-of-files-for-each-experiment")
    paths = []
    for subfigures in _FIGURES[options.figures]:
        place: Path | None = lists
        for name in (options.experiment, _FOLDER[subfigures], split, "file_idx.json"):
            place = _child(place, name) if place else None
        if place is None:
            raise ValueError(
                f"{lists}: no list of {options.experiment}, {_FOLDER[subfigures]}, {split} "
                "(file_idx.json); --experiment all takes every figure with a caption"
            )
        paths.append(place)
    return [name for path in paths for name in read_json(path, "list of figures")], paths


def _folder(root: Path, name: str) -> Path:
    """The folder of `root` so called, with SciCap- before the name or s after it, or not."""
    if not root.is_dir():
        raise ValueError(f"folder {root} does not exist")
    for path in sorted(root.iterdir()):
        if path.name.casefold().removeprefix("scicap-").removesuffix("s") == name:
            return path
    raise ValueError(f"{root} has no folder SciCap-{name.title()}; is it scicap_data?")


def _child(folder: Path, name: str) -> Path | None:
    """Split folders are Train in the description and train in the files."""
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.name.casefold() == name.casefold():
            return path
    return None


def _escaped(name: str) -> str:
    """A name as unzip writes it where the locale has no such letter (#U2013 of a dash)."""
    return "".join(c if c.isascii() else f"#U{ord(c):04x}" for c in name)
