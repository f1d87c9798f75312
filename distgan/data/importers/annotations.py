"""Annotation files in JSON, and image files under the names that annotations give them."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

_COCO_ID = re.compile(r"(?:^|_)(\d{12})\.jpg$")
_COCO_PREFIXES = ("", "COCO_train2014_", "COCO_val2014_", "COCO_test2014_")


def read_json(path: Path, what: str) -> Any:
    """The contents of a JSON file. ValueError saying `what` it should be when it is none."""
    if not path.is_file():
        raise ValueError(f"{what} {path} does not exist")
    try:
        return json.loads(path.read_bytes())
    except ValueError as error:  # not UTF-8 either
        raise ValueError(f"{what} {path} is not JSON: {error}") from error


def records(content: Any, key: str, needed: Iterable[str], where: Path) -> list[dict[str, Any]]:
    """The list `key` of a JSON object, each an object with the `needed` keys; else ValueError."""
    found = content.get(key) if isinstance(content, dict) else None
    if not isinstance(found, list):
        kind = f"an object with {', '.join(content)}" if isinstance(content, dict) else "no object"
        raise ValueError(f"{where}: no list `{key}` in it; it is {kind}")
    for number, record in enumerate(found):
        missing = [n for n in needed if not isinstance(record, dict) or n not in record]
        if missing:
            raise ValueError(f"{where}: {key}[{number}] has no {', '.join(missing)}")
    return found


def coco_id_of(name: str) -> int | None:
    """The COCO id in a file name of 2014 (COCO_val2014_000000000042.jpg) or 2017, else None."""
    found = _COCO_ID.search(name)
    return int(found[1]) if found else None


def coco_names(name: str) -> tuple[str, ...]:
    """The names that a COCO image has in the releases of 2014 and 2017, the given one first."""
    found = _COCO_ID.search(name)
    if not found:
        return (name,)
    others = tuple(f"{prefix}{found[1]}.jpg" for prefix in _COCO_PREFIXES)
    return (name, *(other for other in others if other != name.rpartition("/")[2]))


def published_names(
    images: Mapping[str, Path], names: Iterable[tuple[str, ...]]
) -> dict[str, Path]:
    """`images`, which lie in any folder, under the names that annotations give them.

    Each of `names` are one image's possible names, the published one first; a name may have a
    path, which counts where the image lies there. Images that have none of the names keep
    their path. ValueError when an image could be either of several files.
    """
    places: dict[str, list[str]] = defaultdict(list)
    for place in images:
        places[place.rpartition("/")[2]].append(place)
    renamed, taken = {}, set()
    for possible in names:
        place = _place(possible, images, places)
        if place is not None:
            renamed[possible[0]] = images[place]
            taken.add(place)
    return renamed | {place: path for place, path in images.items() if place not in taken}


def _place(
    names: Iterable[str], images: Mapping[str, Path], places: Mapping[str, list[str]]
) -> str | None:
    for name in names:
        if name in images:
            return name
        there = places.get(name.rpartition("/")[2], [])
        if len(there) > 1:
            raise ValueError(
                f"{name}: {len(there)} images have this name, none at this place: "
                f"{', '.join(there[:3])}"
            )
        if there:
            return there[0]
    return None
