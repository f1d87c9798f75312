"""The commands that help texts, configs and the README give are commands that prepare.py takes."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

import pytest
from importing import ROOT, program

from distgan.data.importers.registry import IMPORTERS


def commands(text: str) -> Iterator[list[str]]:
    """The words after `prepare.py` of every command in `text`, over continued lines.

    Three spaces part a command from a remark on it.
    """
    text = re.sub(r"^# ?", "", text, flags=re.MULTILINE)
    text = re.sub(r"(?<=\S) {3,}\S.*$", "", text, flags=re.MULTILINE)
    for line in re.sub(r"\\\n", " ", text).splitlines():
        found = re.match(r"\s*(?:\$ )?(?:python launch/)?prepare\.py (?!-)(?P<words>.*)", line)
        if found:
            yield shlex.split(found["words"])


TEXTS = {name: registered.manual for name, registered in IMPORTERS.items()}
TEXTS |= {str(p.relative_to(ROOT)): p.read_text() for p in ROOT.glob("configs/*/*.yaml")}
TEXTS["README.md"] = (ROOT / "README.md").read_text()


def test_commands_are_found_in_texts() -> None:
    text = "# say\n#   python launch/prepare.py a --b c \\\n#       --d e\nprepare.py f   so f\n"
    assert list(commands(text)) == [["a", "--b", "c", "--d", "e"], ["f"]]


@pytest.mark.parametrize("name", TEXTS)
def test_commands_are_taken(name: str) -> None:
    parser = program("prepare")._parser()
    found = [words for words in commands(TEXTS[name]) if words[-1] != "--help"]
    assert found or name not in IMPORTERS
    for words in found:
        parser.parse_args(words)
