"""One generator update's Monte Carlo search: ours, two slower forms, and the bare products.

naive: every prefix replayed and finished on its own, one rollout after the other, by the whole
batch and to the last word; the image's part is computed once, before the loops. batched: the same
with the N rollouts of a prefix side by side. floor: the matrix products, and one tanh a row and
region, of the row-steps that ours makes.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
import torch
from torch import Tensor

from distgan.benchmarks.counted import Counted
from distgan.benchmarks.decoders import BUILDERS, Subject, build, end_after
from distgan.benchmarks.sizes import add_sizes
from distgan.benchmarks.timing import Taken, peak_gib, taken
from distgan.completions import Samples, complete
from distgan.models.decoder import END, PAD, START
from distgan.randomness import STREAMS, Draw, uniforms
from distgan.rollouts import monte_carlo, sample
from distgan.sampling import choose
from distgan.work import Work

DRAW = Draw(0, STREAMS["rollouts"], 0)
DTYPES = {"float32": None, "bf16": torch.bfloat16}


def add_to(commands: Any) -> None:
    """Add the subcommand `rollouts`."""
    parser = commands.add_parser("rollouts", help="Monte Carlo search: naive, batched, ours, floor")
    add_sizes(parser)
    parser.add_argument("--decoder", default="attention_lstm", choices=sorted(BUILDERS))
    parser.add_argument("--dtype", default="float32", choices=sorted(DTYPES), help="of ours")
    parser.add_argument("--tile", type=int, help="rows of every call (none: as they come)")
    parser.add_argument("--memory-gib", type=float, help="bound of ours (1/16 of the device)")
    parser.add_argument("--skip-naive", action="store_true", help="leave the slow forms out")
    parser.add_argument(
        "--naive-rollouts", type=int, default=1, help="time so many and multiply (1)"
    )
    parser.add_argument("--ranks", type=int, nargs="*", default=[], help="idle time of so many")
    parser.set_defaults(run=bench_rollouts)


@torch.no_grad()
def bench_rollouts(args: argparse.Namespace) -> dict[str, Any]:
    device = torch.device(args.device)
    subject = build(args, device)
    regions = torch.randn(args.batch, args.regions, args.features, device=device)
    end_after(subject, None)
    result: dict[str, Any] = {"versions": _versions(device), "threads": torch.get_num_threads()}
    result |= full_length(subject, regions, args)
    end_after(subject, args.mean_length)
    result |= natural_length(subject, regions, args)
    for ranks in args.ranks:
        result |= idle(subject, regions, args, ranks)
    return result


def full_length(subject: Subject, regions: Tensor, args: argparse.Namespace) -> dict[str, Any]:
    """All captions at their full length: the whole table."""
    samples = _samples(subject, regions)
    counted = Counted(subject.decoder)
    peak = peak_gib(lambda: _ours(counted, regions, samples, args), regions.device)
    rows = counted.row_steps
    ours = taken(
        lambda: _ours(subject.decoder, regions, samples, args), regions.device, args.repeat
    )
    context = subject.decoder.look(regions, None)
    floor = taken(subject.floor(context, counted), regions.device, args.repeat)
    written = args.batch * (args.max_length - 1) * args.rollouts
    result = {
        **_named("ours", ours),
        **_named("floor", floor),
        "ours_over_floor": ours.wall / floor.wall,
        "ours_over_floor_cpu": ours.cpu / max(floor.cpu, 1e-9),
        "peak_gib": peak,
        "row_steps": rows,
        "row_steps_per_s": rows / ours.wall,
        "completions_per_s": written / ours.wall,
    }
    if not args.skip_naive:
        result |= compare_slow(subject, regions, samples, args, ours)
    return result


def compare_slow(
    subject: Subject, regions: Tensor, samples: Samples, args: argparse.Namespace, ours: Taken
) -> dict[str, Any]:
    """The slow forms' times, and the completions in which the naive one differs from ours."""
    n = min(args.naive_rollouts, args.rollouts)
    slow: list[Tensor] = []
    naive = taken(lambda: slow.append(one_by_one(subject, regions, samples, n)), regions.device)
    naive = Taken(*(t * args.rollouts / n for t in naive))
    batched = taken(lambda: side_by_side(subject, regions, samples, args.rollouts), regions.device)
    fast = _completions(subject, regions, samples, args)[:, :, :n]
    prefix = torch.arange(args.max_length, device=regions.device)
    rolled = (prefix > 0) & (prefix < samples.lengths[:, None])
    return {
        **_named("naive", naive),
        **_named("batched", batched),
        "naive_over_ours": naive.wall / ours.wall,
        "naive_over_ours_cpu": naive.cpu / max(ours.cpu, 1e-9),
        "batched_over_ours": batched.wall / ours.wall,
        "naive_row_steps": args.rollouts * (args.max_length - 1) * args.max_length * args.batch,
        "completions": int(rolled.sum()) * n,
        "completions_that_differ": int((slow[0] != fast)[rolled].any(-1).sum()),
    }


def natural_length(subject: Subject, regions: Tensor, args: argparse.Namespace) -> dict[str, Any]:
    """Ours on captions that end on their own."""
    samples = _samples(subject, regions)
    counted = Counted(subject.decoder)
    _ours(counted, regions, samples, args)
    ours = taken(
        lambda: _ours(subject.decoder, regions, samples, args), regions.device, args.repeat
    )
    return {
        **_named("natural", ours),
        "natural_mean_length": float(samples.lengths.double().mean()),
        "natural_row_steps": counted.row_steps,
    }


def idle(
    subject: Subject, regions: Tensor, args: argparse.Namespace, ranks: int
) -> dict[str, float]:
    """What ranks that share the batch wait for each other, by the row-steps of their shares."""
    samples, rows = _samples(subject, regions), []
    for share in torch.arange(args.batch).tensor_split(ranks):
        counted = Counted(subject.decoder)
        part = samples.take(share.to(regions.device))
        _ours(counted, regions[share], part._replace(image=part.image - share[0]), args)
        rows.append(counted.row_steps)
    return {f"idle_share_of_{ranks}_ranks": 1 - sum(rows) / (ranks * max(rows))}


def one_by_one(subject: Subject, regions: Tensor, samples: Samples, rollouts: int) -> Tensor:
    """Completions (R, T, N, T), one prefix and one rollout at a time; prefix 0 left out."""
    R, T = samples.words.shape
    texts = samples.words.new_zeros(R, T, rollouts, T)
    context = subject.decoder.look(regions, None)
    for n in range(rollouts):
        for prefix in range(1, T):
            copies = torch.full_like(samples.image, n)
            texts[:, prefix, n] = _replayed(subject, context, samples, prefix, copies)
    return _until_end(texts)


def side_by_side(subject: Subject, regions: Tensor, samples: Samples, rollouts: int) -> Tensor:
    """The same, the rollouts of a prefix in one batch."""
    R, T = samples.words.shape
    texts = samples.words.new_zeros(R, T, rollouts, T)
    context = subject.decoder.look(regions, None)
    every = Samples(*(values.repeat_interleave(rollouts, 0) for values in samples))
    copies = torch.arange(rollouts, device=regions.device).repeat(R)
    for prefix in range(1, T):
        written = _replayed(subject, context, every, prefix, copies)
        texts[:, prefix] = written.unflatten(0, (R, rollouts))
    return _until_end(texts)


def _replayed(
    subject: Subject, context: object, samples: Samples, prefix: int, rollout: Tensor
) -> Tensor:
    """Rows (R, T) that begin with the captions' first `prefix` words, decoded from the start."""
    T = samples.words.shape[1]
    times = torch.arange(T, device=rollout.device)
    u = uniforms(
        DRAW, samples.position[:, None], rollout=rollout[:, None], prefix=prefix, position=times
    )
    following = subject.begin(context, samples.image)
    words, read = samples.words.clone(), torch.full_like(samples.image, START)
    for t in range(T):
        logits = following(read)
        if t >= prefix:
            words[:, t] = choose(logits, u[:, t, None])[:, 0]
        read = words[:, t]
    return words


def _until_end(texts: Tensor) -> Tensor:
    ended = (texts == END).cumsum(3) - (texts == END).long()
    return texts.masked_fill(ended.bool(), PAD)


def _samples(subject: Subject, regions: Tensor) -> Samples:
    context = subject.decoder.look(regions, None)
    position = torch.arange(len(regions), device=regions.device)
    return sample(subject.decoder, context, DRAW._replace(stream=STREAMS["words"]), position)


def _work(args: argparse.Namespace) -> Work:
    return Work(args.chunk_rows, args.memory_gib, args.tile, DTYPES[args.dtype])


def _ours(decoder: Any, regions: Tensor, samples: Samples, args: argparse.Namespace) -> None:
    """All of it but the critic, which is not measured here."""
    how = {"rollouts": args.rollouts, "draw": DRAW, "empty_prefix": False, "work": _work(args)}
    monte_carlo(decoder, decoder.look(regions, None), samples, _free, **how)


def _completions(
    subject: Subject, regions: Tensor, samples: Samples, args: argparse.Namespace
) -> Tensor:
    how = {"rollouts": args.rollouts, "draw": DRAW, "empty_prefix": False, "work": _work(args)}
    context = subject.decoder.look(regions, None)
    return complete(subject.decoder, context, samples, **how).spread()


def _free(words: Tensor, image: Tensor) -> Tensor:
    return words.sum(1).float()


def _named(form: str, time: Taken) -> dict[str, float]:
    return {f"{form}_s": time.wall, f"{form}_cpu_s": time.cpu}


def _versions(device: torch.device) -> dict[str, str]:
    versions = {"torch": torch.__version__, "numpy": np.__version__}
    if device.type == "cuda":
        versions |= {"cuda": str(torch.version.cuda), "gpu": torch.cuda.get_device_name(device)}
    return versions
