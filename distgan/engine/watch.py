"""Stops a run that has gone wrong: losses that are not finite, ranks that drifted apart."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from distgan.engine.learner import Learner
from distgan.engine.loop import Suspect
from distgan.engine.world import World


class NonFiniteLoss(ArithmeticError):  # noqa: N818
    """A loss or gradient is infinite or not a number; names it, update, rank and samples."""


class RanksDiffer(RuntimeError):  # noqa: N818
    """Parameters that should be equal on every rank are not."""


class Watch:
    """Remembers every update's numbers on the device and looks at them only when asked to."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._seen: list[tuple[str, Suspect]] = []

    def add(self, place: str, suspects: Iterable[Suspect]) -> None:
        """Remember a round's numbers; `place` says where in the run they were."""
        self._seen.extend((place, suspect) for suspect in suspects)

    def check(self) -> None:
        """Raise NonFiniteLoss if a number since the last check was not finite. Collective.

        One bad number soon spoils every rank, so all name the first one, in the same words.
        """
        seen, self._seen = self._seen, []
        if not seen:
            return
        finite = torch.stack([suspect.value.isfinite() for _, suspect in seen])
        first = torch.cat([finite, finite.new_zeros(1)]).int().argmin()
        firsts = torch.stack(self._world.gather(first.to(self._world.device))).tolist()
        number = min(firsts)
        if number < len(seen):
            ranks = [rank for rank, index in enumerate(firsts) if index == number]
            place, suspect = seen[number]
            message = self._world.share(_describe(place, suspect, ranks), ranks[0])
            raise NonFiniteLoss(str(message))


def _describe(place: str, suspect: Suspect, ranks: list[int]) -> str:
    shown = ", ".join(suspect.keys[:20]) + (" ..." if len(suspect.keys) > 20 else "")
    where = f"rank {ranks[0]}" if len(ranks) == 1 else f"ranks {ranks}"
    return (
        f"{suspect.what} is {suspect.value.item()} on {where} in update {suspect.update} "
        f"({place}); the samples of rank {ranks[0]}: {shown}"
    )


def check_ranks(learners: Iterable[Learner], world: World) -> None:
    """Raise RanksDiffer, naming the network, unless all ranks hold equal bits. Collective."""
    if world.size == 1:
        return
    for learner in learners:
        sums = world.gather(checksum(learner).to(world.device))
        odd = [rank for rank, value in enumerate(sums) if value != sums[0]]
        if odd:
            raise RanksDiffer(f"the weights of {learner.name} on ranks {odd} differ from rank 0's")


def checksum(learner: Learner) -> Tensor:
    """A sum over the bits of all weights and buffers, weighted by place, modulo 2**64."""
    total = torch.zeros((), dtype=torch.int64)
    for place, values in enumerate(learner.network.state_dict().values()):
        flat = values.contiguous().view(-1).view(torch.uint8)
        flat = torch.nn.functional.pad(flat, (0, -flat.numel() % 8)).view(torch.int64)
        weights = torch.arange(1, 2 * flat.numel(), 2, device=flat.device)
        total = total + (2 * place + 1) * (flat * weights).sum().cpu()
    return total
