"""Each captioner with random weights, the slow way to decode with it, and its bare products."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import linear

from distgan.benchmarks.counted import Counted
from distgan.models.captioner import AttentionCaptioner
from distgan.models.decoder import END, PAD, START, Decoder
from distgan.models.gpt2_captioner import GPT2Captioner
from distgan.models.gru_captioner import GRUCaptioner

Next = Callable[[Tensor], Tensor]
"""Logits (R, V) of the next word, told the newest word (R,) of every row (`START` first)."""


@dataclass(frozen=True)
class Subject:
    """What is measured."""

    decoder: Decoder
    begin: Callable[[object, Tensor], Next]  # decode rows of images (R,) from their beginning
    floor: Callable[[object, Counted], Callable[[], None]]  # the bare products of those rows


def build(args: argparse.Namespace, device: torch.device) -> Subject:
    torch.manual_seed(0)
    return BUILDERS[args.decoder](args, device)


def end_after(subject: Subject, mean_length: float | None) -> None:
    """Make `END` about as likely as captions of so many words need; None: never."""
    decoder = subject.decoder
    never = -1e4
    if isinstance(decoder, GPT2Captioner):  # its logits have no bias: the word is written or not
        words = [PAD, START] if mean_length else [PAD, START, END]
        decoder.never = torch.tensor(words, device=decoder.never.device)
        return
    share = decoder.num_words / mean_length if mean_length else 0.0
    decoder.readout.bias.data[END] = torch.tensor(share).log().clamp_min(never)


def attention(
    args: argparse.Namespace, device: torch.device, kind: type[AttentionCaptioner]
) -> Subject:
    sizes = {"embedding": args.embedding, "hidden": args.hidden, "attention": args.attention}
    captioner = kind(args.words, args.max_length, args.features, **sizes).to(device)
    captioner.requires_grad_(False)

    def begin(context: object, image: Tensor) -> Next:
        state = captioner.start(context, image)

        def following(words: Tensor) -> Tensor:
            nonlocal state
            logits, state = captioner.step(words, state, context)
            return logits

        return following

    return Subject(captioner, begin, lambda context, rows: attention_floor(captioner, args, rows))


def attention_floor(
    captioner: AttentionCaptioner, args: argparse.Namespace, counted: Counted
) -> Callable[[], None]:
    """The products of what is made ready once a region, and of each row with it; the tanh of
    each row and region. Outputs are written to memory that is there."""
    weight = captioner.readout.weight
    K, H, V = args.regions, args.hidden, args.words
    gates, A = captioner.hidden_gates.out_features, args.attention
    reads = [rows for rows, words in counted.reads for _ in range(words)]
    most = max(*counted.readouts, *counted.advances, *reads, args.batch * K)
    given, out = (
        weight.new_ones(most, max(H, args.features, args.embedding)),
        weight.new_empty(most, max(V, gates)),
    )
    inner, share = weight.new_ones(max(reads + counted.advances), K, A), weight.new_ones(K, V)

    def product(rows: int, matrix: Tensor) -> None:
        torch.mm(given[:rows, : matrix.shape[1]], matrix.t(), out=out[:rows, : matrix.shape[0]])

    def run() -> None:
        for matrix in (captioner.region_gates.weight, weight[:, H:], captioner.region_keys.weight):
            product(args.batch * K, matrix)
        for rows in reads + counted.advances:
            for layer in (captioner.word_gates, captioner.hidden_gates, captioner.hidden_keys):
                product(rows, layer.weight)
            product(rows, share[:, :gates].t())
            inner[:rows].tanh_()
        for rows in counted.readouts:
            product(rows, weight[:, :H])
            product(rows, share.t())

    return run


def gpt2(args: argparse.Namespace, device: torch.device) -> Subject:
    captioner = GPT2Captioner(args.words, args.max_length, args.features).to(device)
    captioner.requires_grad_(False)

    def begin(context: object, image: Tensor) -> Next:
        past = context.trunk[:, :, image]
        tokens = captioner.embedding.weight.new_empty(len(image), 0, past.shape[3] * past.shape[5])

        def following(words: Tensor) -> Tensor:  # everything again: no cache of words
            nonlocal tokens
            tokens = torch.cat([tokens, captioner.embedding(words)[:, None]], 1)
            hidden, _ = captioner.body(tokens, past)
            logits = linear(hidden[:, -1], captioner.embedding.weight)
            return logits.index_fill_(-1, captioner.never, float("-inf"))

        return following

    return Subject(captioner, begin, lambda context, rows: gpt2_floor(captioner, args, rows))


def gpt2_floor(
    captioner: GPT2Captioner, args: argparse.Namespace, counted: Counted
) -> Callable[[], None]:
    """The products with every weight; attention's own are left out."""
    layers = [m for m in captioner.body.modules() if isinstance(m, torch.nn.Linear)]
    vocabulary = captioner.embedding.weight
    reads = [rows * words for rows, words in counted.reads]
    most = max(*counted.readouts, *reads, *counted.advances)
    widest = max(max(layer.weight.shape) for layer in layers)
    given = vocabulary.new_ones(most, widest)
    out = vocabulary.new_empty(most, max(widest, args.words))

    def product(rows: int, matrix: Tensor) -> None:
        torch.mm(given[:rows, : matrix.shape[1]], matrix.t(), out=out[:rows, : matrix.shape[0]])

    def run() -> None:
        for rows in reads + counted.advances:
            for layer in layers:
                product(rows, layer.weight)
        for rows in counted.readouts:
            product(rows, vocabulary)

    return run


BUILDERS: dict[str, Callable[[argparse.Namespace, torch.device], Subject]] = {
    "attention_lstm": lambda args, device: attention(args, device, AttentionCaptioner),
    "attention_gru": lambda args, device: attention(args, device, GRUCaptioner),
    "gpt2": gpt2,
}
