"""Measure the parts that cost time.

    python launch/bench.py rollouts --batch 8 --words 9703 --json rollouts.json

`rollouts` times one generator update's Monte Carlo search with random weights: ours
(`distgan.completions`), the naive form (every prefix replayed and finished on its own, N times, by
the whole batch and to the last word), that with N rollouts side by side, and the floor: the bare
matrix products of ours and its tanh a row and region. All captions at full length; ours at natural
lengths beside it. `--decoder`, `--dtype`, `--device cuda`, `--ranks 2 4` (what ranks wait for each
other). Wall time, and CPU time of all threads. Needs torch and numpy alone.

    python launch/bench.py step --batch 64 --device cuda

`step` times one adversarial round with random weights and regions: sampling, rollouts, the
generator's update and the critic's, and the share of each. Needs torch and numpy alone.

    python launch/bench.py controls configs/attend_gan/shapes.yaml --out runs/controls

`controls` measures on the shapes world what adversarial training gains over likelihood alone for
the same data and CPU time (see distgan/methods/controls.py).

    python launch/bench.py loader data/mine --json

`loader` counts images a second and core: our stream, the decoding it cannot do without, the
webdataset pipeline and the DataLoader that users write; and memory over ten epochs. `--json`
without a file prints the numbers as one object and nothing else.
"""

from __future__ import annotations

import argparse
import json
import sys

import torch

from distgan.benchmarks import controls, loader, rollouts, rounds
from distgan.benchmarks.sizes import PRINTED

BENCHMARKS = (rollouts, rounds, controls, loader)


def parse(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for benchmark in BENCHMARKS:
        benchmark.add_to(commands)
    return parser.parse_args(words)


def main() -> None:
    args = parse(sys.argv[1:])
    if args.threads:
        torch.set_num_threads(args.threads)
    result = args.run(args)
    settings = {k: str(v) for k, v in vars(args).items() if k not in ("run", "json")}
    text = json.dumps({"settings": settings, **result}, indent=1)
    if args.json == PRINTED:
        print(text)
        return
    for name, value in result.items():
        if isinstance(value, (int, float, str)):
            shown = f"{value:.4g}" if isinstance(value, float) else value
            print(f"{name:>26}  {shown}")
    if args.json:
        args.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
