"""One generator update's Monte Carlo search: batched, naive, and the bare matrix products."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from distgan.benchmarks.sizes import add_sizes
from distgan.benchmarks.timing import seconds
from distgan.completions import Samples, complete
from distgan.models.captioner import AttentionCaptioner, CaptionerState, Context
from distgan.models.decoder import END, PAD, START
from distgan.randomness import STREAMS, Draw, uniforms
from distgan.rollouts import monte_carlo, sample
from distgan.sampling import choose
from distgan.work import Work

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


def add_to(commands: Any) -> None:
    """Add the subcommand `rollouts`."""
    parser = commands.add_parser("rollouts", help="Monte Carlo search: batched, naive, floor")
    add_sizes(parser)
    parser.add_argument("--skip-naive", action="store_true", help="leave the slow form out")
    parser.set_defaults(run=bench_rollouts)


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
        how = {"rollouts": args.rollouts, "draw": DRAW, "work": Work(args.chunk_rows)}
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
    how = {"rollouts": args.rollouts, "draw": DRAW, "work": Work(args.chunk_rows)}
    fast = complete(captioner, context, samples, empty_prefix=False, **how).spread()
    prefix = torch.arange(args.max_length, device=regions.device)
    rolled = (prefix > 0) & (prefix < samples.lengths[:, None])
    return {
        "naive_seconds": taken,
        "naive_steps": steps,
        "naive_row_steps": rows,
        "completions": int(rolled.sum()) * args.rollouts,
        "completions_that_differ": int((slow[0] != fast)[rolled].any(-1).sum()),
    }
