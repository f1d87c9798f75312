"""Fills frozen dataclasses from YAML files and `dotted=override` words; knows none of them.

A YAML file may name one `base:` file, relative to itself; later values win: defaults < base <
file < overrides. Unknown keys and wrong types are errors that name the key and suggest the right.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, fields, is_dataclass, replace
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

PATH = {"path": "always"}
WORD_OR_PATH = {"path": "if it is there"}
"""Metadata of a field that holds, or may hold, a file's name: see `with_absolute_paths`."""


def require(holds: bool, key: str, value: object, what: str) -> None:
    """Raise a ValueError that names the key and the value unless `holds`."""
    if not holds:
        raise ValueError(f"{key} must be {what}, got {value!r}")


def load_settings(path: str | Path, overrides: Sequence[str], default: Any) -> Any:
    """The frozen dataclass `default` with the values of a YAML file and of overrides."""
    given: Any = read_with_base(Path(path))
    for word in overrides:
        given = merged(given, read_override(word))
    return filled(default, given, "")


def save_settings(value: Any, path: str | Path) -> None:
    """Write a dataclass as YAML that `load_settings` reads back to an equal one."""
    from omegaconf import OmegaConf

    Path(path).write_text(OmegaConf.to_yaml(OmegaConf.create(asdict(value))))


def with_absolute_paths(config: Any, root: Path) -> Any:
    """The config with its file names taken from `root`: a worker may stand in another folder.

    URIs stay as they are, and so does a bare word that names no file where a word is as good
    (`style: positive`).
    """
    changed: dict[str, Any] = {}
    for entry in fields(config):
        value = vars(config)[entry.name]
        if is_dataclass(value):
            changed[entry.name] = with_absolute_paths(value, root)
        elif isinstance(value, tuple) and any(is_dataclass(part) for part in value):
            changed[entry.name] = tuple(with_absolute_paths(part, root) for part in value)
        elif entry.metadata.get("path") and value and "://" not in value:
            path = root / Path(value).expanduser()
            is_word = entry.metadata["path"] != "always" and "/" not in value and not path.exists()
            changed[entry.name] = value if is_word else str(path.resolve())
    return replace(config, **changed)


def read_with_base(path: Path, seen: tuple[Path, ...] = ()) -> dict[str, Any]:
    if not path.is_file():
        raise ValueError(f"config file {path} does not exist")
    if path.resolve() in seen:
        raise ValueError(f"{path}: its base: files form a circle")
    given = read_yaml(path.read_text(), str(path))
    base = given.pop("base", None)
    if base is None:
        return given
    if not isinstance(base, str):
        raise ValueError(f"{path}: base must be one file's name, got {base!r}")
    return merged(read_with_base(path.parent / base, (*seen, path.resolve())), given)


def read_override(word: str) -> dict[str, Any]:
    """`a.b=value` as a nested mapping; the value is YAML."""
    keys, is_assignment, value = word.partition("=")
    if not is_assignment or not all(key.isidentifier() for key in keys.split(".")):
        raise ValueError(f"overrides look like key.subkey=value, got {word!r}")
    inner: Any = read_yaml(f"value: {value}", word).get("value")
    for key in reversed(keys.split(".")):
        inner = {key: inner}
    return inner


def read_yaml(text: str, source: str) -> dict[str, Any]:
    """A YAML mapping in plain containers. Doubled keys are errors, 1e-3 is a number."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    try:
        given = OmegaConf.to_container(OmegaConf.create(text))
    except (YAMLError, OmegaConfBaseException) as error:
        raise ValueError(f"{source}: not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(given, dict) or given == {text: None}:
        raise ValueError(f"{source}: a config is a mapping of keys to values")
    return {str(key): value for key, value in given.items()}


def merged(below: Any, above: Any) -> Any:
    """`above` wins, key by key where both are mappings."""
    if not (isinstance(below, dict) and isinstance(above, dict)):
        return above
    return below | {key: merged(below.get(key), value) for key, value in above.items()}


def filled(default: Any, given: Any, prefix: str) -> Any:
    """The dataclass `default` with the values of `given`; errors name the whole dotted key."""
    if not isinstance(given, dict):
        raise ValueError(f"{prefix[:-1]} must be a mapping of keys to values, got {given!r}")
    known = [f.name for f in fields(default)]
    hints, values = get_type_hints(type(default)), {}
    for key, value in given.items():
        if key not in known:
            raise ValueError(f"unknown key {prefix}{key}; {_suggestion(default, str(key), prefix)}")
        values[key] = _converted(value, hints[key], vars(default)[key], f"{prefix}{key}")
    try:
        return replace(default, **values)
    except ValueError as error:  # from __post_init__, which knows its own keys only
        named = str(error).startswith(prefix)
        raise ValueError(str(error) if named else f"{prefix}{error}") from error


def _suggestion(schema: Any, key: str, prefix: str) -> str:
    known = [f.name for f in fields(schema)]
    near = [prefix + name for name in difflib.get_close_matches(key, known, n=3)]
    near = near or [name for name in _keys(schema, prefix) if name.endswith(f".{key}")]
    if near:
        return f"did you mean {' or '.join(near)}?"
    return f"known here: {', '.join(prefix + name for name in known)}"


def _keys(schema: Any, prefix: str) -> Iterator[str]:
    for name, value in vars(schema).items():
        yield f"{prefix}{name}"
        if is_dataclass(value):
            yield from _keys(value, f"{prefix}{name}.")


def _converted(value: Any, hint: Any, default: Any, key: str) -> Any:
    """`value` as what the annotation `hint` says, or a ValueError naming key and value."""
    if is_dataclass(default):
        return filled(default, value, f"{key}.")
    if hint is Any:
        return value
    if isinstance(value, str) and "${" in value:
        raise ValueError(f"{key} must be a plain value; nothing is filled in for {value!r}")
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return _converted_optional(value, arguments, hint, key)
    if is_dataclass(hint) and isinstance(hint, type):
        return filled(hint(), value, f"{key}.")
    if origin is Literal and value in arguments:
        return value
    if origin is tuple and isinstance(value, (list, tuple)):
        inner = arguments[:1] * len(value) if arguments[-1] is ... else arguments
        if len(inner) == len(value):
            parts = zip(value, inner, strict=True)
            return tuple(_converted(v, h, None, f"{key}[{i}]") for i, (v, h) in enumerate(parts))
    if origin is dict and isinstance(value, dict):
        given = {str(k): v for k, v in value.items()}
        below = default or {}
        return below | {
            k: _converted(v, arguments[1], below.get(k), f"{key}.{k}") for k, v in given.items()
        }
    if type(value) is hint or (type(value) is int and hint in (float, str)):
        return hint(value)
    raise ValueError(f"{key} must be {_in_words(hint)}, got {value!r}")


def _converted_optional(value: Any, choices: tuple[Any, ...], hint: Any, key: str) -> Any:
    if value is None and type(None) in choices:
        return None
    real = [choice for choice in choices if choice is not type(None)]
    for choice in real:
        try:
            return _converted(value, choice, None, key)
        except ValueError:
            if len(real) == 1 and (is_dataclass(choice) or get_origin(choice) is tuple):
                raise  # it names the very part that is wrong
    raise ValueError(f"{key} must be {_in_words(hint)}, got {value!r}")


def _in_words(hint: Any) -> str:
    plain = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
    if hint in plain:
        return plain[hint]
    if hint is type(None):
        return "null"
    arguments = get_args(hint)
    if get_origin(hint) is Literal:
        return f"one of {', '.join(map(str, arguments))}"
    if get_origin(hint) in (Union, UnionType):
        return " or ".join(_in_words(argument) for argument in arguments)
    if get_origin(hint) is tuple:
        count = "" if arguments[-1] is ... else f" of {len(arguments)}"
        return f"a list{count}, each {_in_words(arguments[0])}"
    return "a mapping of keys to values"
