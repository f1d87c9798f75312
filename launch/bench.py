"""Measure the parts that cost time.

    python launch/bench.py rollouts --batch 8 --words 9703 --json rollouts.json

`rollouts` times one generator update's Monte Carlo search with random weights: the batched form
of `distgan.rollouts`, the naive form (every prefix replayed and finished on its own, N times, by
the whole batch and to the last word), and the floor: the bare matrix products of the row-steps
that the batched form makes. Needs torch and numpy alone.

    python launch/bench.py step --batch 64 --device cuda

`step` times one adversarial round with random weights and regions: sampling, rollouts, the
generator's update and the critic's. Needs torch and numpy alone.

    python launch/bench.py controls configs/attend_gan/shapes.yaml --out runs/controls

`controls` measures on the shapes world what adversarial training gains over likelihood alone for
the same data and CPU time (see distgan/methods/controls.py).
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from distgan.losses import bce_critic, mle, policy_gradient, word_log_probs
from distgan.models.captioner import AttentionCaptioner, CaptionerState, Context
from distgan.models.critics import build_critic
from distgan.models.decoder import END, PAD, START
from distgan.randomness import STREAMS, Draw, uniforms
from distgan.rollouts import Samples, choose, complete, monte_carlo, sample

DRAW = Draw(0, STREAMS["rollouts"], 0)


class Counted(AttentionCaptioner):
    """A captioner that notes how many rows each step had."""

    def __init__(self, *sizes: int, **options: int) -> None:
        super().__init__(*sizes, **options)
        self.steps: list[int] = []

    def step(
        self, words: Tensor, state: CaptionerState, context: Context
    ) -> tuple[Tensor, CaptionerState]:
        self.steps.append(len(words))
        return super().step(words, state, context)


def naive(
    captioner: AttentionCaptioner, regions: Tensor, samples: Samples, rollouts: int
) -> Tensor:
    """Completions (R, T, N, T), one prefix and one rollout at a time; prefix 0 left out."""
    R, T = samples.words.shape
    texts = samples.words.new_zeros(R, T, rollouts, T)
    times = torch.arange(T, device=regions.device)
    for n in range(rollouts):
        for prefix in range(1, T):
            u = uniforms(DRAW, samples.position[:, None], rollout=n, prefix=prefix, position=times)
            context = captioner.look(regions)
            state = captioner.start(context, samples.image)
            read = torch.full_like(samples.image, START)
            for t in range(T):
                logits, state = captioner.step(read, state, context)
                drawn = choose(logits, u[:, t, None])[:, 0]
                read = samples.words[:, t] if t < prefix else drawn
                texts[:, prefix, n, t] = read
    ended = (texts == END).cumsum(3) - (texts == END).long()
    return texts.masked_fill(ended.bool(), PAD)


def products(captioner: AttentionCaptioner, rows: int) -> Callable[[], None]:
    """The matrix products of one step of `rows` rows."""
    layers = [
        captioner.word_gates,
        captioner.hidden_gates,
        captioner.region_gates,
        captioner.hidden_keys,
        captioner.readout,
    ]
    weight = captioner.readout.weight
    inputs = [weight.new_ones(rows, layer.in_features) for layer in layers]

    def run() -> None:
        for layer, x in zip(layers, inputs, strict=True):
            layer(x)

    return run


def seconds(work: Callable[[], object], device: torch.device, repeat: int = 1) -> float:
    """Wall time of one call, the best of `repeat`."""
    best = float("inf")
    for _ in range(repeat):
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        start = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = min(best, time.perf_counter() - start)
    return best


@torch.no_grad()
def bench_rollouts(args: argparse.Namespace) -> dict[str, float]:
    device = torch.device(args.device)
    torch.manual_seed(0)
    sizes = {"embedding": args.embedding, "hidden": args.hidden, "attention": args.attention}
    captioner = Counted(args.words, args.max_length, args.features, **sizes).to(device)
    captioner.readout.bias[END] = torch.tensor(args.words / args.mean_length).log()
    regions = torch.randn(args.batch, args.regions, args.features, device=device)
    position = torch.arange(args.batch, device=device)
    context = captioner.look(regions)
    samples = sample(captioner, context, DRAW._replace(stream=STREAMS["words"]), position)

    def free(words: Tensor, image: Tensor) -> Tensor:  # the critic is not measured
        return words.sum(1).float()

    def batched() -> None:
        how = {"rollouts": args.rollouts, "draw": DRAW, "chunk_rows": args.chunk_rows}
        monte_carlo(captioner, captioner.look(regions), samples, free, empty_prefix=False, **how)

    captioner.steps.clear()
    batched()  # warms up, and says which steps there are
    steps = list(captioner.steps)
    floor = [products(captioner, rows) for rows in steps]
    result = {
        "mean_length": float(samples.lengths.double().mean()),
        "batched_seconds": seconds(batched, device, args.repeat),
        "batched_steps": len(steps),
        "batched_row_steps": sum(steps),
        "floor_seconds": seconds(lambda: [work() for work in floor], device, args.repeat),
    }
    if not args.skip_naive:
        result |= compare_naive(captioner, regions, context, samples, args)
    return result


def compare_naive(
    captioner: Counted,
    regions: Tensor,
    context: Context,
    samples: Samples,
    args: argparse.Namespace,
) -> dict[str, float]:
    """Time the naive form, and count the completions in which it differs from the batched."""
    captioner.steps.clear()
    slow: list[Tensor] = []
    work = lambda: slow.append(naive(captioner, regions, samples, args.rollouts))  # noqa: E731
    taken = seconds(work, regions.device)
    steps, rows = len(captioner.steps), sum(captioner.steps)
    how = {"rollouts": args.rollouts, "draw": DRAW, "chunk_rows": args.chunk_rows}
    fast = complete(captioner, context, samples, empty_prefix=False, **how)
    prefix = torch.arange(args.max_length, device=regions.device)
    rolled = (prefix > 0) & (prefix < samples.lengths[:, None])
    return {
        "naive_seconds": taken,
        "naive_steps": steps,
        "naive_row_steps": rows,
        "completions": int(rolled.sum()) * args.rollouts,
        "completions_that_differ": int((slow[0] != fast)[rolled].any(-1).sum()),
    }


def bench_step(args: argparse.Namespace) -> dict[str, float]:
    """One adversarial round on random numbers: where its time goes, phase by phase."""
    device = torch.device(args.device)
    torch.manual_seed(0)
    sizes = {"embedding": args.embedding, "hidden": args.hidden, "attention": args.attention}
    captioner = AttentionCaptioner(args.words, args.max_length, args.features, **sizes).to(device)
    captioner.readout.bias.data[END] = math.log(args.words / args.mean_length)
    critic = build_critic(args.critic, args.words, args.max_length, channels=args.features)
    critic = critic.to(device)
    learners = [torch.optim.Adam(network.parameters()) for network in (captioner, critic)]
    regions = torch.randn(args.batch, args.regions, args.features, device=device)
    image = torch.arange(args.batch, device=device)
    weight = torch.full((args.batch,), 1 / args.batch, device=device)
    draw = DRAW._replace(stream=STREAMS["words"])
    with torch.no_grad():
        context = captioner.look(regions)
        samples = sample(captioner, context, draw, image)
        seen = critic.look(regions, None)

    def score(words: Tensor, image: Tensor) -> Tensor:
        return critic(words, seen, image)[:, 0]

    def improve_generator() -> None:
        logits, _ = captioner(regions, samples.words)
        log_p = word_log_probs(logits, samples.words)
        gain = torch.ones_like(log_p)
        loss = policy_gradient(log_p, gain, samples.words, weight)
        step(learners[0], loss + mle(captioner(regions, samples.words)[0], samples.words, weight))

    def improve_critic() -> None:
        scores = critic(samples.words, critic.look(regions, None), image)[:, 0]
        step(learners[1], bce_critic(scores, scores.flip(0), weight, weight))

    def roll_out() -> None:
        how = {"rollouts": args.rollouts, "draw": DRAW, "chunk_rows": args.chunk_rows}
        monte_carlo(captioner, context, samples, score, **how)

    phases: dict[str, Callable[[], object]] = {
        "sample": lambda: sample(captioner, context, draw, image),
        "rollouts": roll_out,
        "generator": improve_generator,
        "critic": improve_critic,
    }
    taken = {f"{name}_seconds": seconds(f, device, args.repeat) for name, f in phases.items()}
    whole = sum(taken.values())
    return {**taken, "round_seconds": whole, "captions_per_second": args.batch / whole}


def step(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()


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


def parse(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    rollouts = commands.add_parser("rollouts", help="Monte Carlo search: batched, naive, floor")
    rounds = commands.add_parser("step", help="one adversarial round, phase by phase")
    sizes = {
        "batch": (8, "images"),
        "words": (9703, "vocabulary"),
        "max-length": (16, "words a caption, at most"),
        "mean-length": (12, "words a caption, about, before the cut at max-length"),
        "rollouts": (5, "completions a prefix"),
        "regions": (49, "regions an image"),
        "features": (2048, "numbers a region"),
        "embedding": (300, "numbers a word"),
        "hidden": (512, "of the LSTM"),
        "attention": (512, "of the attention's scores"),
        "chunk-rows": (512, "rows decoded at once"),
        "repeat": (3, "the best of so many is reported"),
    }
    for name, (default, what) in sizes.items():
        for each in (rollouts, rounds):
            each.add_argument(f"--{name}", type=int, default=default, help=f"{what} ({default})")
    for each in (rollouts, rounds):
        each.add_argument("--device", default="cpu", help="cpu or cuda (cpu)")
        each.add_argument("--threads", type=int, help="CPU threads (torch's choice)")
        each.add_argument("--json", type=Path, help="write the numbers to this file too")
    rollouts.add_argument("--skip-naive", action="store_true", help="leave the slow form out")
    rollouts.set_defaults(run=bench_rollouts)
    rounds.add_argument("--critic", default="gru", choices=("gru", "textcnn"))
    rounds.set_defaults(run=bench_step)
    controls = commands.add_parser("controls", help="adversarial training against MLE on shapes")
    controls.add_argument("config", help="a config, such as configs/attend_gan/shapes.yaml")
    controls.add_argument("settings", nargs="*", metavar="key=value", help="settings changed")
    controls.add_argument("--out", type=Path, required=True, help="the folder for the runs")
    controls.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    controls.add_argument("--only", nargs="+", metavar="NAME", help="these controls (default: all)")
    controls.add_argument("--json", type=Path, help="write the numbers to this file too")
    controls.set_defaults(run=bench_controls, threads=None)
    return parser.parse_args(words)


def main() -> None:
    args = parse(sys.argv[1:])
    if args.threads:
        torch.set_num_threads(args.threads)
    result = args.run(args)
    for name, value in result.items():
        if isinstance(value, (int, float, str)):
            shown = f"{value:.4g}" if isinstance(value, float) else value
            print(f"{name:>26}  {shown}")
    if args.json:
        settings = {k: str(v) for k, v in vars(args).items() if k not in ("run", "json")}
        args.json.write_text(json.dumps({"settings": settings, **result}, indent=1) + "\n")


if __name__ == "__main__":
    main()
