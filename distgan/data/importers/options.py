"""Command-line options of importers, made from frozen dataclasses of what they are told."""

from __future__ import annotations

import argparse
import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

_SIMPLE = (str, int, float, Path)


def option(
    help: str,
    *,
    default: Any = MISSING,
    metavar: str | tuple[str, ...] | None = None,
    choices: Sequence[Any] | None = None,
    flag: str | None = None,
    positional: bool = False,
) -> Any:
    """A field of an options class, with what `--help` says of it; without a default: required.

    `flag` is the option's name where it is not the field's (`--style` of `styles`).
    """
    about = {"help": help, "metavar": metavar, "choices": choices}
    metadata = {**about, "flag": flag, "positional": positional}
    if default is MISSING:
        return field(metadata=metadata)
    return field(default=default, metadata=metadata)


def add_options(parser: argparse.ArgumentParser, options: type[Any]) -> None:
    """An argument for each field of the dataclass `options`, its own before the inherited ones.

    Path, str, int and float are read as they are, X | None as X, bool as a switch, Literal as a
    choice, tuple[X, X, X] as three values, tuple[X, ...] as several; a tuple of dataclasses is
    an option that may be repeated, each time with a value for each of their fields.
    """
    hints = get_type_hints(options)
    for each in _own_first(options):
        about = _argument(each, hints[each.name])
        name = each.name.replace("_", "-")
        if each.metadata.get("positional"):
            parser.add_argument(each.name, **about)
        else:
            required = each.default is MISSING
            flag = each.metadata.get("flag") or f"--{name}"
            parser.add_argument(flag, dest=each.name, required=required, **about)


def options_from(arguments: argparse.Namespace, options: type[Any]) -> Any:
    """The options that were given. ValueError, naming key and value, where they are impossible.

    Paths become absolute: other processes may read them, on machines of a cluster, from other
    working folders. Links stay links, whose names say what they are.
    """
    hints = get_type_hints(options)
    given = vars(arguments)
    return options(**{f.name: _value(given[f.name], hints[f.name]) for f in fields(options)})


def _own_first(options: type[Any]) -> Iterator[Field[Any]]:
    by_name = {each.name: each for each in fields(options)}
    for one in options.__mro__:
        for name in inspect.get_annotations(one):
            if name in by_name:
                yield by_name.pop(name)


def _argument(each: Field[Any], hint: Any) -> dict[str, Any]:
    """What argparse is told of a field, its name apart."""
    about: dict[str, Any] = {"help": each.metadata.get("help")}
    if each.default is not MISSING:
        about["default"] = each.default
    hint = _without_none(hint)
    if hint is bool:
        action = argparse.BooleanOptionalAction if each.default is True else "store_true"
        return about | {"action": action}
    about["metavar"] = each.metadata.get("metavar")
    if get_origin(hint) is Literal:
        return about | {"choices": get_args(hint)}
    if get_origin(hint) is tuple:
        return about | _several(get_args(hint))
    if hint not in _SIMPLE:
        raise TypeError(f"{each.name}: no command-line option can be made of {hint}")
    return about | {"type": hint, "choices": each.metadata.get("choices")}


def _several(kinds: tuple[Any, ...]) -> dict[str, Any]:
    first = kinds[0]
    if is_dataclass(first):
        return {"action": "append", "nargs": len(fields(first)), "default": []}
    if kinds[1:] == (...,):
        return {"nargs": "+", "type": first}
    return {"nargs": len(kinds), "type": first}


def _value(given: Any, hint: Any) -> Any:
    hint = _without_none(hint)
    if get_origin(hint) is not tuple or given is None:
        return given.absolute() if isinstance(given, Path) else given
    first: Any = get_args(hint)[0]
    if not is_dataclass(first):
        return tuple(_value(each, first) for each in given)
    kinds = get_type_hints(first)
    read: list[Callable[[str], Any]] = [kinds[each.name] for each in fields(first)]
    return tuple(
        first(*(_value(kind(word), kind) for kind, word in zip(read, words, strict=True)))
        for words in given
    )


def _without_none(hint: Any) -> Any:
    if get_origin(hint) not in (Union, UnionType):
        return hint
    kinds = [kind for kind in get_args(hint) if kind is not NoneType]
    if len(kinds) != 1:
        raise TypeError(f"no command-line option can be made of {hint}")
    return kinds[0]


def fractions_of(train: float, val: float, test: float) -> tuple[tuple[str, float], ...]:
    """The splits asked for with their shares. ValueError unless they add up to 1."""
    shares = (("train", train), ("val", val), ("test", test))
    if any(share < 0 for _, share in shares) or abs(train + val + test - 1) > 1e-6:
        raise ValueError(f"fractions must add up to 1, got {train} {val} {test}")
    if train == 0:
        raise ValueError("fractions must leave something to train on, got 0 for train")
    return tuple((split, share) for split, share in shares if share)


@dataclass(frozen=True)
class StyleText:
    """A style, and a text file of its lines, which belong to no image."""

    style: str
    file: Path


@dataclass(frozen=True, kw_only=True)
class LineOptions:
    """Options of every importer of images."""

    lines: tuple[StyleText, ...] = option(
        "a style and a text file of its lines, which need no images (FlickrStyle10K's are such)",
        default=(),
        metavar=("STYLE", "FILE"),
    )


@dataclass(frozen=True, kw_only=True)
class JoinOptions(LineOptions):
    """Options of every importer that joins captions with image files."""

    min_joined: float = option(
        "share of the images named in the captions that must be there; fewer is an error",
        default=0.5,
        metavar="SHARE",
    )

    def __post_init__(self) -> None:
        if not 0 <= self.min_joined <= 1:
            raise ValueError(f"min_joined must be in [0, 1], got {self.min_joined}")


@dataclass(frozen=True, kw_only=True)
class SplitOptions(JoinOptions):
    """Options of importers of sources without published splits."""

    fractions: tuple[float, float, float] = option(
        "shares of the splits where none is given; each image's is fixed by a hash of its name",
        default=(0.8, 0.1, 0.1),
        metavar=("TRAIN", "VAL", "TEST"),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        fractions_of(*self.fractions)
