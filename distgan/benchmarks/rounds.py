"""One adversarial round on random numbers, phase by phase."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from distgan.benchmarks.sizes import add_sizes
from distgan.benchmarks.timing import taken
from distgan.completions import complete
from distgan.losses import bce_critic, mle, policy_gradient, word_log_probs
from distgan.models.captioner import AttentionCaptioner
from distgan.models.critics import build_critic
from distgan.models.decoder import END, within
from distgan.randomness import STREAMS, Draw
from distgan.rollouts import SCORED, sample, score_each
from distgan.work import Work

DRAW = Draw(0, STREAMS["rollouts"], 0)


def add_to(commands: Any) -> None:
    """Add the subcommand `step`."""
    parser = commands.add_parser("step", help="one adversarial round, phase by phase")
    add_sizes(parser)
    parser.add_argument("--critic", default="gru", choices=("gru", "textcnn"))
    parser.set_defaults(run=bench_step)


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
        work = Work(args.chunk_rows)
        writer, rows = work.shared(captioner, context, image, args.rollouts)
        samples = sample(writer, context, draw, image, chunk_rows=rows)
        seen = critic.look(regions, None)
        how = {"rollouts": args.rollouts, "draw": DRAW, "work": work}
        done = complete(writer, context, samples, **how)

    def score(words: Tensor, image: Tensor) -> Tensor:
        return critic(within(words), seen, image)[:, 0]

    def improve_generator() -> None:
        logits, _ = captioner(regions, samples.words)
        log_p = word_log_probs(logits, samples.words)
        gain = torch.ones_like(log_p)
        loss = policy_gradient(log_p, gain, samples.words, weight)
        step(learners[0], loss + mle(captioner(regions, samples.words)[0], samples.words, weight))

    def improve_critic() -> None:
        scores = critic(samples.words, critic.look(regions, None), image)[:, 0]
        step(learners[1], bce_critic(scores, scores.flip(0), weight, weight))

    phases: dict[str, Callable[[], object]] = {
        "look": lambda: work.shared(captioner, captioner.look(regions), image, args.rollouts),
        "sample": lambda: sample(writer, context, draw, image, chunk_rows=rows),
        "rollouts": lambda: complete(writer, context, samples, **how),
        "scoring": lambda: score_each(score, done.words, done.image, SCORED),
        "generator": improve_generator,
        "critic": improve_critic,
    }
    each = {name: taken(f, device, args.repeat) for name, f in phases.items()}
    whole, cpu = (sum(time[i] for time in each.values()) for i in (0, 1))
    return {
        **{f"{name}_seconds": time.wall for name, time in each.items()},
        **{f"{name}_cpu_share": time.cpu / max(cpu, 1e-9) for name, time in each.items()},
        "round_seconds": whole,
        "captions_per_second": args.batch / whole,
    }


def step(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
