"""Stops a run that has gone wrong: losses that are not finite, ranks that drifted apart."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from distgan.engine.learner import Learner
from distgan.engine.world import World


class NonFiniteLoss(ArithmeticError):  # noqa: N818
    """A loss became infinite or not a number; names the loss, update, rank and samples."""


class RanksDiffer(RuntimeError):  # noqa: N818
    """Parameters that should be equal on every rank are not."""


class Watch:
    """Remembers every update's loss on the device and looks at them only when asked to."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._seen: list[tuple[str, str, Tensor, list[str]]] = []

    def add(self, place: str, totals: Iterable[tuple[str, Tensor, list[str]]]) -> None:
        """Remember a round's losses; `place` says where in the run they were."""
        self._seen.extend((place, *total) for total in totals)

    def check(self) -> None:
        """Raise NonFiniteLoss if any loss since the last check was not finite. Collective."""
        seen, self._seen = self._seen, []
        finite = torch.stack([total for _, _, total, _ in seen]).isfinite().tolist() if seen else []
        bad = next((entry for entry, ok in zip(seen, finite, strict=True) if not ok), None)
        if not self._world.any(bad is not None):
            return
        if bad is None:
            raise NonFiniteLoss(f"rank {self._world.rank}: another rank's loss is not finite")
        place, learner, total, keys = bad
        raise NonFiniteLoss(
            f"the loss of {learner} is {total.item()} at {place} on rank {self._world.rank}; "
            f"its samples: {', '.join(keys[:20])}{' ...' if len(keys) > 20 else ''}"
        )


def check_ranks(learners: Iterable[Learner], world: World) -> None:
    """Raise RanksDiffer, naming the network, unless all ranks hold equal bits. Collective."""
    if world.size == 1:
        return
    for learner in learners:
        sums = world.gather(checksum(learner).to(world.device))
        odd = [rank for rank, value in enumerate(sums) if value != sums[0]]
        if odd:
            raise RanksDiffer(f"parameters of {learner.name} on ranks {odd} differ from rank 0's")


def checksum(learner: Learner) -> Tensor:
    """A sum over the bits of all parameters, each weighted by its place, modulo 2**64."""
    total = torch.zeros((), dtype=torch.int64)
    for place, parameter in enumerate(learner.trainable.values()):
        flat = parameter.detach().contiguous().view(-1).view(torch.uint8)
        flat = torch.nn.functional.pad(flat, (0, -flat.numel() % 8)).view(torch.int64)
        weights = torch.arange(1, 2 * flat.numel(), 2, device=flat.device)
        total = total + (2 * place + 1) * (flat * weights).sum().cpu()
    return total
