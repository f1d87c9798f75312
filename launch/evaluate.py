"""Evaluate a trained captioner: scores, truth where it is known, diversity, style.

examples:
  python launch/evaluate.py runs/first
  python launch/evaluate.py runs/first --checkpoint style adversarial --controls
  python launch/evaluate.py runs/first --split val --temperature 1 --limit 200
  python launch/evaluate.py runs/first --beam 3 data.path=/elsewhere/shapes

Prints a table (means over the run's styles) and writes report.md, report.json and a picture for
each style into the run's folder. A checkpoint is a stage's name (its end), the name of a folder in
RUN/checkpoints, or a path; without one, the newest is taken. Several stand side by side.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import distgan
from distgan.config import Config
from distgan.data.dataset import Dataset, Split
from distgan.engine import checkpoint
from distgan.engine.runs import read_config
from distgan.methods import CONFIGS
from distgan.methods.caption_corpora import read_style
from distgan.methods.caption_rewards import Rewards, load_rewards
from distgan.methods.caption_sheet import draw_sheet
from distgan.methods.captioning import Captioner
from distgan.metrics.evaluation import (
    BATCH,
    Column,
    Decoding,
    Judge,
    Task,
    controls,
    with_mean,
    write,
)
from distgan.metrics.report import headline, table, write_report

PICTURED = 4  # images on a contact sheet


def main(words: Sequence[str]) -> int:
    """Evaluate as the command line says; the exit code."""
    arguments = parse(words)
    try:
        evaluate(arguments)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def parse(words: Sequence[str]) -> argparse.Namespace:
    summary, _, rest = str(__doc__).partition("\n\n")
    parser = argparse.ArgumentParser(
        usage="python launch/evaluate.py RUN [key=value ...] [options]",
        description=summary,
        epilog=rest,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("run", type=Path, help="a run's folder")
    add("overrides", nargs="*", metavar="key=value", help="settings that differ from the run's")
    add("--split", default="test", help="which images (default: test)")
    add("--checkpoint", nargs="+", metavar="NAME", help="stages, checkpoints' names or paths")
    add("--style", nargs="+", help="styles to ask for (default: those of the run)")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--greedy", action="store_true", help="the likeliest word each time (default)")
    how.add_argument("--temperature", type=float, metavar="T", help="sample at this temperature")
    how.add_argument("--beam", type=int, metavar="K", help="beam search that keeps K captions")
    add("--seed", type=int, default=0, help="of sampling (default: 0)")
    add("--limit", type=int, metavar="N", help="the first N images only")
    add("--controls", action="store_true", help="score people's captions too, and shuffled ones")
    return parser.parse_intermixed_args(words)


def evaluate(arguments: argparse.Namespace) -> None:
    """Load, caption, score, draw, report."""
    run = arguments.run
    decoding = Decoding.chosen(arguments.temperature, arguments.beam, arguments.seed)
    config = read_config(run, arguments.overrides, Path.cwd(), methods=CONFIGS)
    models = {name: distgan.load(p) for name, p in checkpoints(run, arguments.checkpoint).items()}
    split, judge = open_data(config, arguments.split)
    styles = arguments.style or next(iter(models.values())).asked
    tasks = [Task.choose(split, style, arguments.limit) for style in styles]
    with judge:
        columns = controls(judge, tasks) if arguments.controls else []
        for name, captioner in models.items():
            columns += score(name, captioner, tasks, judge, decoding)
    pictures = [draw(run, task, models, decoding) for task in tasks]
    about = {
        "run": str(run),
        "images": f"{len(tasks[0].rows)} of split {arguments.split}",
        "decoding": str(decoding),
    }
    path = write_report(run, f"{run.name} on {arguments.split}", about, columns, pictures)
    print(table(headline(columns)))
    print("\n".join(["", f"report: {path}", *(f"picture: {picture}" for picture in pictures)]))


def score(
    name: str, captioner: Captioner, tasks: Sequence[Task], judge: Judge, decoding: Decoding
) -> list[Column]:
    """One model's scores in each style, and their mean if there are several."""
    columns = []
    for task in tasks:
        captions = write(captioner, task, decoding, captioner.config.data.image_size)
        column = judge.score(name, captions, task, against=task.references)
        columns.append(replace(column, scores=column.scores | surprise(captioner, task)))
    return with_mean(columns)


def surprise(captioner: Captioner, task: Task) -> dict[str, float]:
    """Nats a word of the first references, with their own images and with other ones."""
    if not all(task.references):
        return {}
    said = [references[0] for references in task.references]
    own = other = words = 0.0
    for first in range(0, len(said), BATCH):
        images = task.images(first, first + BATCH, captioner.config.data.image_size)
        found = captioner.surprise(images, said[first : first + BATCH], task.style)
        own, other, words = own + found[0], other + found[1], words + found[2]
    return {"cross_entropy": own / words, "cross_entropy_permuted": other / words}


def open_data(config: Config, split: str) -> tuple[Split, Judge]:
    """The images to caption, and a judge who knows what captions were learned from."""
    data = config.data
    facts = Dataset.open(data.path)
    styled = facts if data.styled is None else Dataset.open(data.styled)
    lines = read_style(data.style)
    return styled.split(split), Judge.of(facts, styled, data.styled_split, lines)


def checkpoints(run: Path, names: Sequence[str] | None) -> dict[str, Path]:
    """Checkpoints by the name they have in the table."""
    if names is None:
        return {run.name: checkpoint.find(run)}
    ends = stage_ends(run)
    return {name: find_checkpoint(run, name, ends) for name in names}


def stage_ends(run: Path) -> dict[str, int]:
    """After how many rounds each stage of the run ends."""
    stages = checkpoint.load(checkpoint.find(run))["identity"]["stages"]
    ends, rounds = {}, 0
    for stage in stages:
        name, _, length = stage.rpartition(": ")
        rounds += int(length)
        ends[name] = rounds
    return ends


def find_checkpoint(run: Path, name: str, ends: dict[str, int]) -> Path:
    folder = run / "checkpoints"
    if name in ends:
        found = sorted(folder.glob(f"step-{ends[name]:08d}-a*"))
        if not found:
            raise ValueError(f"--checkpoint {name}: {run} has not ended that stage")
        return found[-1]
    for path in (folder / name, Path(name)):
        if path.exists():
            return checkpoint.find(path)
    raise ValueError(f"--checkpoint {name}: neither a stage ({', '.join(ends)}) nor a checkpoint")


def draw(run: Path, task: Task, models: Mapping[str, Captioner], decoding: Decoding) -> Path:
    """A contact sheet of one style."""
    rewards = trained_critic(run, next(iter(models.values())))
    path = run / "pictures" / f"evaluation-{task.style}.png"
    path.parent.mkdir(exist_ok=True)
    draw_sheet(task, models, rewards, decoding, PICTURED).savefig(path)
    return path


def trained_critic(run: Path, captioner: Captioner) -> Rewards | None:
    """The run's newest critic, if it was trained at all."""
    stages = stage_ends(run)
    return load_rewards(run, captioner) if {"critic", "adversarial"} & set(stages) else None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
