"""What adversarial training must beat on the shapes world: the same data and the same CPU time.

    python launch/bench.py controls --data data/shapes --out runs/controls --seeds 3

Every control starts from one factual captioner and keeps factual captions in its likelihood. `mle`
learns the scarce styled pairs, `text` the lines without pictures, `pairs and text` both, each as
long as `adversarial` in all; `adversarial` learns both and then plays Algorithm 1, `whole captions`
does so without rollouts, `constant` with a critic that gives every caption the same reward.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean, stdev

import torch

from distgan.config import Config, OptimizerConfig, save_config
from distgan.data.dataset import Dataset
from distgan.data.shapes import truth
from distgan.engine.world import World
from distgan.methods.captioning import Captioner, load
from distgan.methods.training import train

SHOWN = ("joint", "truth_f1", "relation", "grammatical", "fit", "style")


@dataclass(frozen=True)
class Control:
    """One way to learn a style: which control it starts from, its settings of `method`."""

    start: str
    stages: tuple[str, ...]
    settings: Mapping[str, object]
    lr: float = 1e-3  # of the generator
    like: str | None = None  # goes on until it has cost the CPU time of this one in all
    networks: tuple[str, ...] | None = None


LONG = 1_000_000
CONTROLS: dict[str, Control] = {
    "both": Control("factual", ("style",), {}, networks=("generator",)),
    "critic": Control("both", ("critic",), {}, networks=("generator",)),
    "adversarial": Control("critic", ("adversarial",), {}, lr=5e-4),
    "whole captions": Control(
        "critic",
        ("adversarial",),
        {"rollouts": 0, "captions": 5, "baseline": "leave_one_out"},
        lr=5e-4,
    ),
    "constant": Control("critic", ("adversarial",), {"reward": "constant"}, lr=5e-4),
    "mle": Control("factual", ("style",), {"text_weight": 0.0}),
    "mle continued": Control(
        "factual", ("style",), {"text_weight": 0.0, "style_steps": LONG}, like="adversarial"
    ),
    "pairs and text": Control("factual", ("style",), {"style_steps": LONG}, like="adversarial"),
    "text": Control(
        "factual", ("style",), {"styled_weight": 0.0, "style_steps": LONG}, like="adversarial"
    ),
}
REPORTED = tuple(name for name in CONTROLS if name not in ("critic", "both"))


def needed(names: Sequence[str]) -> list[str]:
    """These controls and all that they start from or are compared with, in order."""
    wanted = set(names)
    for name in reversed(CONTROLS):
        control = CONTROLS[name]
        if name in wanted:
            wanted |= {control.start, control.like or control.start}
    return [name for name in CONTROLS if name in wanted]


def run_seed(
    config: Config, out: Path, seed: int, names: Sequence[str] = REPORTED
) -> dict[str, dict[str, float]]:
    """Train controls for one seed and score them on the test split; what exists is kept.

    All seeds share one factual captioner, of the config's own seed.
    """
    learn(config, Control("", ("factual",), {}), out / "factual", None, float("inf"))
    seconds: dict[str, float] = {"factual": 0.0}
    scores = {}
    for name in needed(names):
        control, run = CONTROLS[name], out / f"seed-{seed}" / name.replace(" ", "-")
        start = out / "factual" if control.start == "factual" else run.parent / control.start
        budget = seconds[control.like] if control.like else float("inf")
        own = replace(config, seed=seed)
        seconds[name] = seconds[control.start] + learn(own, control, run, start, budget)
        if name in names:
            scores[name] = evaluate(run, config) | {"cpu_seconds": seconds[name]}
            shown = {key: round(value, 3) for key, value in scores[name].items()}
            print(f"seed {seed} {name}: {json.dumps(shown)}", flush=True)
    return scores


def learn(config: Config, control: Control, run: Path, start: Path | None, budget: float) -> float:
    """Train one control, or until `budget` CPU seconds are spent; the CPU seconds it took."""
    done = run / "cpu_seconds"
    if done.exists():
        return float(done.read_text())
    own = replace(
        config,
        stages=control.stages,
        init_from=str(start) if start else None,
        init_networks=control.networks,
        method=replace(config.method, **control.settings),
    )
    if start is not None:
        generator = own.method.generator
        optimizer = OptimizerConfig(lr=control.lr, clip_norm=generator.optimizer.clip_norm)
        generator = replace(generator, optimizer=optimizer)
        own = replace(own, method=replace(own.method, generator=generator))
    run.mkdir(parents=True, exist_ok=True)
    save_config(own, run / "config.yaml")
    begin = time.process_time()
    spent = lambda: time.process_time() - begin  # noqa: E731
    train(own, run, World.local(), resume=False, should_stop=lambda: spent() >= budget)
    done.write_text(str(spent()))
    return float(done.read_text())


def evaluate(run: Path, config: Config) -> dict[str, float]:
    """Scores on the test split, mean over styles, greedy and sampled at temperature 1."""
    captioner = load(run)
    split = Dataset.open(config.data.path).split("test")
    scenes = [split.facts(i)["scene"] for i in range(len(split))]
    regions = [
        captioner.see(
            torch.stack(
                [split.image(i, config.data.image_size) for i in range(a, min(a + 50, len(split)))]
            )
        )
        for a in range(0, len(split), 50)
    ]
    found: dict[str, float] = {}
    for decode in ("greedy", "sample"):
        each = [_score(captioner, torch.cat(regions), scenes, s, decode) for s in captioner.asked]
        found |= {f"{decode}_{key}": mean(one[key] for one in each) for key in SHOWN}
    return found


def _score(
    captioner: Captioner, regions: torch.Tensor, scenes: Sequence[object], style: str, decode: str
) -> dict[str, float]:
    words = captioner.write(regions, style, decode)
    captions = [captioner.vocabulary.decode(row) for row in words.tolist()]
    return truth.score(captions, scenes, [style] * len(captions))


def references(config: Config) -> dict[str, dict[str, float]]:
    """What people's captions score on the test split, with their images and with the next ones'."""
    dataset = Dataset.open(config.data.path)
    split = dataset.split("test")
    scenes = [split.facts(i)["scene"] for i in range(len(split))]
    found: dict[str, list[dict[str, float]]] = {"references": [], "shuffled references": []}
    for style in dataset.styles:
        said = [
            next(c.text for c in split.captions(i) if c.style == style) for i in range(len(split))
        ]
        asked = [style] * len(said)
        found["references"].append(truth.score(said, scenes, asked))
        found["shuffled references"].append(truth.score([*said[1:], said[0]], scenes, asked))
    return {
        name: {f"greedy_{key}": mean(one[key] for one in each) for key in SHOWN}
        for name, each in found.items()
    }


def table(rows: Mapping[str, Sequence[Mapping[str, float]]]) -> str:
    """One line a control: means over seeds, the spread of joint, and the CPU time."""
    columns = (
        "greedy_joint",
        "sample_joint",
        *(f"greedy_{key}" for key in SHOWN[1:]),
        "cpu_seconds",
    )
    lines = [f"{'':20}" + "".join(f"{name:>20}" for name in columns)]
    for name, each in rows.items():
        cells = [_cell([one[column] for one in each if column in one]) for column in columns]
        lines.append(f"{name:20}" + "".join(f"{cell:>20}" for cell in cells))
    return "\n".join(lines)


def _cell(values: Sequence[float]) -> str:
    if not values:
        return "-"
    spread = f" +-{stdev(values):.3f}" if len(values) > 1 else ""
    return f"{mean(values):.3f}{spread}"
