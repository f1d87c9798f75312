"""Test images with the captions of several models, where each word looked, and its reward."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from torch import Tensor

from distgan.methods.caption_pictures import grids, names_of
from distgan.methods.caption_rewards import Rewards
from distgan.methods.captioning import Captioner
from distgan.metrics.evaluation import Decoding, Task
from distgan.metrics.pictures import SheetCaption, SheetRow, caption_sheet

if TYPE_CHECKING:
    from matplotlib.figure import Figure

REFERENCES = 2  # shown of each image


def draw_sheet(
    task: Task,
    models: Mapping[str, Captioner],
    rewards: Rewards | None,
    decoding: Decoding,
    count: int,
) -> Figure:
    """The first `count` images of the task. One critic rewards all models, if there is one."""
    size = next(iter(models.values())).config.data.image_size
    images = task.images(0, count, size)
    said = [
        _say(name, captioner, rewards, images, task.style, decoding)
        for name, captioner in models.items()
    ]
    rows = [
        SheetRow(
            image.permute(1, 2, 0).numpy(),
            captions,
            f"{task.split.key(row)}, {task.style}",
            references[:REFERENCES],
        )
        for image, row, references, captions in zip(
            images, task.rows[:count], task.references, zip(*said, strict=True), strict=False
        )
    ]
    return caption_sheet(rows)


def _say(
    name: str,
    captioner: Captioner,
    rewards: Rewards | None,
    images: Tensor,
    style: str,
    decoding: Decoding,
) -> list[SheetCaption]:
    """One model's caption of each image."""
    regions = captioner.see(images)
    words = captioner.write(
        regions, style, decoding.decode, decoding.temperature, decoding.beam, decoding.seed
    )
    attention = captioner.attend(regions, style, words).cpu() if captioner.attends else None
    q = None if rewards is None else rewards.of_words(captioner, regions, style, words)
    captions = []
    for row, caption in enumerate(words.cpu()):
        written = names_of(captioner.vocabulary, caption)
        captions.append(
            SheetCaption(
                name,
                written,
                None if attention is None else grids(attention[row, : len(written)]),
                None if q is None else q[row, : len(written)].cpu().numpy(),
            )
        )
    return captions
