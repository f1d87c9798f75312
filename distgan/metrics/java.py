"""The two Java programs of caption scoring, from the jars that pycocoevalcap carries.

`tokenise_ptb` runs Stanford's PTB tokeniser as coco-caption does; `Meteor` runs METEOR 1.5
(Denkowski and Lavie, 2014), English, `-norm`. Everything that can go wrong is a `JavaError`
whose text is a reason a reader of the scores understands.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Self

PTB_JAR = Path("tokenizer", "stanford-corenlp-3.4.1.jar")
METEOR_JAR = Path("meteor", "meteor-1.5.jar")
METEOR_HEAP = "-Xmx2G"  # its paraphrase table needs most of that

PUNCTUATION = frozenset(
    [
        *("''", "'", "``", "`", "-LRB-", "-RRB-", "-LCB-", "-RCB-"),
        *(".", "?", "!", ",", ":", "-", "--", "...", ";"),
    ]
)
"""What coco-caption drops after tokenising. The brackets never match, tokens being lower case by
then; published scores are computed so, hence ours."""


class JavaError(RuntimeError):
    """Java, or a program of it, cannot be used here; the text says why."""


def tokenise_ptb(texts: Sequence[str], *, timeout_seconds: float = 600) -> list[str]:
    """PTB tokens of each text, lower case, without punctuation, joined by single spaces."""
    lines = [_one_line(text) for text in texts]
    command = [_java(), "-cp", str(_jar(PTB_JAR)), "edu.stanford.nlp.process.PTBTokenizer"]
    command += ["-preserveLines", "-lowerCase", "-encoding", "UTF-8"]
    try:
        # The last line is a guard: the tokeniser leaves out trailing empty ones.
        done = subprocess.run(
            command,
            input="\n".join([*lines, "end"]),
            capture_output=True,
            encoding="utf-8",
            timeout=timeout_seconds,
        )
    except subprocess.TimeoutExpired as error:
        raise JavaError(f"the PTB tokeniser took over {timeout_seconds:.0f} s") from error
    if done.returncode:
        raise JavaError(f"the PTB tokeniser failed: {_reason(done.stderr)}")
    found = done.stdout.split("\n")
    if len(found) != len(lines) + 1:
        raise JavaError(f"the PTB tokeniser returned {len(found) - 1} lines for {len(lines)}")
    return [" ".join(w for w in line.split() if w not in PUNCTUATION) for line in found[:-1]]


class Meteor:
    """METEOR, kept running: it takes seconds to start. Starts when it is first asked.

    After a JavaError it is as if never started.
    """

    def __init__(self, *, timeout_seconds: float = 1800) -> None:
        self.timeout_seconds = timeout_seconds
        self._process: subprocess.Popen[str] | None = None
        self._complaints: IO[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def score(self, hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> float:
        """METEOR of a whole set, in [0, 1]. Texts are tokenised already."""
        process, complaints = self._start()
        watchdog = threading.Timer(self.timeout_seconds, process.kill)
        watchdog.start()
        try:
            return _converse(process.stdin, process.stdout, hypotheses, references)
        except (OSError, ValueError) as error:
            process.kill()
            process.wait()
            complaints.seek(0)
            said = _reason(complaints.read().decode("utf-8", "replace"))
            self.close()
            raise JavaError(f"METEOR failed: {said}") from error
        finally:
            watchdog.cancel()

    def close(self) -> None:
        """End the program, if it runs."""
        if self._process is not None and self._complaints is not None:
            self._process.kill()
            self._process.communicate()
            self._complaints.close()
        self._process = self._complaints = None

    def _start(self) -> tuple[subprocess.Popen[str], IO[bytes]]:
        if self._process is None or self._complaints is None:
            command = [_java(), "-jar", METEOR_HEAP, str(_jar(METEOR_JAR))]
            command += ["-", "-", "-stdio", "-l", "en", "-norm"]
            self._complaints = tempfile.TemporaryFile()  # noqa: SIM115 (closed by `close`)
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._complaints,
                encoding="utf-8",
                # Numbers are read back by Python: "0.5", whatever the user's country writes.
                env={**os.environ, "LC_ALL": "C.UTF-8"},
            )
        return self._process, self._complaints


def _converse(
    to: IO[str] | None,
    answers: IO[str] | None,
    hypotheses: Sequence[str],
    references: Sequence[Sequence[str]],
) -> float:
    """METEOR's dialogue: statistics of each caption first, then the score of all of them."""
    assert to is not None and answers is not None
    statistics = []
    for hypothesis, several in zip(hypotheses, references, strict=True):
        fields = ["SCORE", *map(_one_field, several), _one_field(hypothesis)]
        to.write(" ||| ".join(fields) + "\n")
        to.flush()
        statistics.append(answers.readline().strip())
        if not statistics[-1]:
            raise ValueError("no answer")
    to.write(" ||| ".join(["EVAL", *statistics]) + "\n")
    to.flush()
    scores = [float(answers.readline()) for _ in range(len(statistics) + 1)]
    return scores[-1]  # the ones before it are those of single captions


def _java() -> str:
    path = shutil.which("java")
    if path is None:
        raise JavaError("no java on the PATH")
    return path


def _jar(name: Path) -> Path:
    spec = importlib.util.find_spec("pycocoevalcap")
    if spec is None or not spec.submodule_search_locations:
        raise JavaError("pycocoevalcap is not installed")
    path = Path(spec.submodule_search_locations[0]) / name
    if not path.is_file():
        raise JavaError(f"pycocoevalcap comes without {name}")
    return path


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _one_field(text: str) -> str:
    return _one_line(text.replace("|||", " "))


def _reason(complaints: str) -> str:
    lines = [line.strip() for line in complaints.splitlines() if line.strip()]
    return lines[0] if lines else "it ended without a word"
