"""`report.md` to read and `report.json` to compute with: what an evaluation found."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from distgan.metrics.evaluation import MEAN, Column

ORDER = (
    "joint",
    "truth_f1",
    "truth_precision",
    "truth_recall",
    "relation",
    "fit",
    "style",
    "grammatical",
    "BLEU-1",
    "BLEU-2",
    "BLEU-3",
    "BLEU-4",
    "METEOR",
    "ROUGE-L",
    "CIDEr",
    "cross_entropy",
    "cross_entropy_permuted",
    "style_sound",
    "style_sound_held_out",
    "distinct_1",
    "distinct_2",
    "distinct_3",
    "self_bleu",
    "adjective_entropy",
    "adjective_top4",
    "vocabulary",
    "length",
    "novel",
    "duplicates",
    "repeats",
)
MEANING = {
    "joint": "grammatical, all true, relation right, adjective fits, the asked style alone",
    "truth_f1": "claims that hold, facts that are told",
    "style": "the asked style and no other, by the grammar",
    "fit": "adjectives that fit their noun",
    "cross_entropy": "nats a word of people's captions, beside their own images",
    "cross_entropy_permuted": "the same beside other images: the difference is what images tell",
    "style_sound": "captions that a classifier of texts takes for the asked style",
    "style_sound_held_out": "how often that classifier is right on texts it has not seen",
    "self_bleu": "BLEU-4 of each caption against the others: high is monotonous",
    "adjective_entropy": "of the style's adjectives in captions, bits",
    "adjective_top4": "share of the four most used adjectives among all that were used",
    "novel": "captions that are in no training text of the style",
    "duplicates": "captions that an earlier one already said",
    "repeats": "captions that say something twice in a row",
}
DECIMALS = {"vocabulary": 0, "length": 1}  # 3 elsewhere
SHOWN_CAPTIONS = 8


def headline(columns: Sequence[Column]) -> list[Column]:
    """One column a model: the means over styles, where there are several."""
    return [column for column in columns if column.style == MEAN] or list(columns)


def table(columns: Sequence[Column]) -> str:
    """Scores by row, models and styles by column: Markdown that also reads well on a terminal."""
    known = {name for column in columns for name in column.scores}
    names = [name for name in ORDER if name in known] + sorted(known - set(ORDER))
    head = ["", *(f"{column.model} {column.style}" for column in columns)]
    body = [[name, *(_number(name, column.scores) for column in columns)] for name in names]
    widths = [max(len(row[at]) for row in (head, *body)) for at in range(len(head))]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    lines = [
        [row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]
        for row in (head, rule, *body)
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def write_report(
    folder: Path,
    title: str,
    facts: Mapping[str, str],
    columns: Sequence[Column],
    pictures: Sequence[Path] = (),
) -> Path:
    """Write both reports into `folder`; the path of the readable one. `facts` stand above."""
    scores = [asdict(column) for column in columns]
    (folder / "report.json").write_text(
        json.dumps({"title": title, **facts, "columns": scores}, indent=1, ensure_ascii=False)
    )
    remarks = dict.fromkeys(remark for column in columns for remark in column.remarks)
    known = {name for column in columns for name in column.scores}
    parts = [
        f"# {title}",
        "\n".join(f"- {name}: {value}" for name, value in facts.items()),
        table(headline(columns)),
        "\n".join(f"- {remark}" for remark in remarks),
        "\n".join(f"- `{name}`: {said}" for name, said in MEANING.items() if name in known),
        *(f"![{path.stem}]({path.relative_to(folder).as_posix()})" for path in pictures),
        *([] if headline(columns) == list(columns) else ["## By style", table(columns)]),
        _some_captions(columns),
    ]
    path = folder / "report.md"
    path.write_text("\n\n".join(part for part in parts if part) + "\n", encoding="utf-8")
    return path


def _some_captions(columns: Sequence[Column]) -> str:
    blocks = [
        f"## {column.model}, {column.style}\n\n"
        + "\n".join(f"- {caption}" for caption in column.captions[:SHOWN_CAPTIONS])
        for column in columns
        if column.captions
    ]
    return "\n\n".join(blocks)


def _number(name: str, scores: Mapping[str, float]) -> str:
    return f"{scores[name]:.{DECIMALS.get(name, 3)}f}" if name in scores else ""
