"""What adversarial training gains over likelihood alone on the shapes world."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from distgan.benchmarks.sizes import add_json


def add_to(commands: Any) -> None:
    """Add the subcommand `controls`."""
    parser = commands.add_parser("controls", help="adversarial training against MLE on shapes")
    parser.add_argument("config", help="a config, such as configs/attend_gan/shapes.yaml")
    parser.add_argument("settings", nargs="*", metavar="key=value", help="settings changed")
    parser.add_argument("--out", type=Path, required=True, help="the folder for the runs")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these controls (default: all)")
    add_json(parser)
    parser.set_defaults(run=bench_controls, threads=None)


def bench_controls(args: argparse.Namespace) -> dict[str, object]:
    """Train every control for every seed; the table goes to the screen and to OUT/table.txt."""
    from distgan.config import load_config
    from distgan.methods import CONFIGS, controls

    config = load_config(args.config, args.settings, methods=CONFIGS)
    rows = {name: [scores] for name, scores in controls.references(config).items()}
    rows |= {name: [] for name in controls.REPORTED}
    for seed in args.seeds:
        names = args.only or controls.REPORTED
        for name, scores in controls.run_seed(config, args.out, seed, names).items():
            rows[name].append(scores)
    text = controls.table({name: each for name, each in rows.items() if each})
    (args.out / "table.txt").write_text(text + "\n")
    print(text)
    return {"rows": rows}
