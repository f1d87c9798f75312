"""What only a GPU can show: the same words as on the CPU, and a whole run on the device."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from distgan.config import load_config
from distgan.data.importers.shapes import Shapes
from distgan.data.shapes.world import ShapesOptions
from distgan.data.shards import WriteOptions, write_dataset
from distgan.engine.world import World
from distgan.losses import gradient_penalty, mask
from distgan.methods import CONFIGS
from distgan.methods.training import train
from distgan.models.captioner import AttentionCaptioner
from distgan.models.critics import build_critic
from distgan.randomness import Draw, uniforms
from distgan.rollouts import monte_carlo, sample

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"),
]
TINY = Path(__file__).resolve().parents[1] / "methods/tiny.yaml"


def test_keyed_noise_is_the_same_on_every_device():
    sample_numbers = torch.arange(1000)
    here = uniforms(Draw(3, 1, 7), sample_numbers)
    there = uniforms(Draw(3, 1, 7), sample_numbers.cuda())
    assert torch.equal(here, there.cpu())


def test_float64_words_and_rollouts_are_those_of_the_cpu():
    torch.manual_seed(0)
    captioner = AttentionCaptioner(30, 8, 12, embedding=8, hidden=16, attention=8).double()
    regions, position = torch.randn(6, 9, 12, dtype=torch.float64), torch.arange(6)
    told = []
    for device in ("cpu", "cuda"):
        moved = captioner.to(device)
        context = moved.look(regions.to(device))
        samples = sample(moved, context, Draw(1, 1, 0), position.to(device))
        values = monte_carlo(
            moved, context, samples, lambda w, _: w.sum(1).double(), rollouts=3, draw=Draw(1, 2, 0)
        )
        told.append((samples.words.cpu(), values.q.cpu()))
    assert torch.equal(told[0][0], told[1][0])
    torch.testing.assert_close(told[0][1], told[1][1], rtol=0, atol=1e-9)


@pytest.mark.parametrize("network", ["gru", "textcnn"])
def test_the_penalty_has_a_second_derivative_on_the_device(network):
    critic = build_critic(network, 30, 8, embedding_size=8, hidden_size=8).cuda()
    words = torch.randint(4, 30, (5, 8)).cuda()
    context = critic.look(None, None)
    rows = torch.arange(5).cuda()
    real, fake = critic.embed(words), critic.embed(words.flip(0))
    penalty = gradient_penalty(
        lambda x: critic.forward_embedded(x, mask(words), context, rows).sum(1),
        real,
        fake,
        mask(words),
        torch.rand(5).cuda(),
        torch.full((5,), 0.2).cuda(),
    )
    penalty.backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in critic.parameters())


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_every_stage_runs_on_the_device(precision, tmp_path):
    data = tmp_path / "shapes"
    options = ShapesOptions(images=32, size=32, styled=8, lines=20, unlabelled=2, val=4, test=2)
    write_dataset(Shapes(options), {"name": "shapes"}, data, WriteOptions())
    settings = [f"data.path={data}", "engine.device=cuda", f"engine.precision={precision}"]
    config = load_config(TINY, settings, methods=CONFIGS)
    assert train(config, tmp_path / "run", World.local("cuda"), resume=False).finished
