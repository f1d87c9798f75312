"""How much images tell a captioner: captions beside their own images and beside other ones."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import distgan
from distgan.config import load_config
from distgan.data.dataset import Dataset
from distgan.engine.world import World
from distgan.losses import word_log_probs
from distgan.methods import CONFIGS
from distgan.methods.training import train


def test_surprise_is_the_sum_over_captions_one_by_one(shapes, tmp_path):
    tiny = Path(__file__).with_name("tiny.yaml")
    config = load_config(tiny, [f"data.path={shapes}", "stages=[factual]"], methods=CONFIGS)
    train(config, tmp_path, World.local(), resume=False)
    captioner = distgan.load(tmp_path)
    split = Dataset.open(shapes).split("val")
    images = torch.stack([split.image(i, 32) for i in range(5)])
    said = [split.captions(i)[0].text for i in range(5)]
    own, other, count = captioner.surprise(images, said, "factual")

    def nats(place: int, seen: int) -> tuple[float, int]:
        ids = captioner.vocabulary.encode(said[place], 12)
        style = torch.tensor([captioner.styles.index("factual")])
        with torch.no_grad():
            regions = captioner.generator.encoder.encode(images[seen : seen + 1])
            logits, _ = captioner.generator.captioner(regions, torch.tensor([ids]), style)
            return -float(word_log_probs(logits, torch.tensor([ids])).sum()), len(ids)

    alone = [nats(i, i) for i in range(5)]
    beside = [nats(i, (i - 1) % 5) for i in range(5)]
    assert own == pytest.approx(sum(n for n, _ in alone), rel=1e-5)
    assert other == pytest.approx(sum(n for n, _ in beside), rel=1e-5)
    assert count == sum(words for _, words in alone) and other != own
