"""The processes of a run: who am I, where do I compute, and what do we all know together.

The only other files that talk to `torch.distributed` are `learner.py` (DDP) and `deepspeed.py`.
"""

from __future__ import annotations

import gc
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise

import torch
import torch.distributed as dist
from torch import Tensor

_CPU = torch.device("cpu")


@dataclass(frozen=True)
class World:
    """This process among `size` equal ones. Methods marked collective: every rank calls them."""

    rank: int = 0
    size: int = 1
    device: torch.device = _CPU

    @classmethod
    def local(cls, device: torch.device | str = "cpu") -> World:
        """One process alone."""
        return cls(0, 1, torch.device(device))

    @classmethod
    def from_torch(cls, device: torch.device | str = "cpu") -> World:
        """The default process group, which somebody (Ray Train, torchrun) has already made."""
        return cls(dist.get_rank(), dist.get_world_size(), torch.device(device))

    @classmethod
    def join(
        cls, init_method: str, rank: int, size: int, device: torch.device | str, seconds: int = 1800
    ) -> World:
        """Make the default process group: nccl for GPUs, gloo otherwise."""
        device = torch.device(device)
        dist.init_process_group(
            "nccl" if device.type == "cuda" else "gloo",
            init_method=init_method,
            rank=rank,
            world_size=size,
            timeout=timedelta(seconds=seconds),
        )
        return cls(rank, size, device)

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    @property
    def has_group(self) -> bool:
        """Is there a process group, be it of one? Somebody made it, or this process is alone."""
        return dist.is_initialized()

    def sum(self, value: Tensor) -> Tensor:
        """Sum over ranks, a new tensor without gradient. Collective."""
        total = value.detach().to(self.device, copy=True)
        if self.size > 1:
            dist.all_reduce(total)
        return total

    def any(self, flag: bool) -> bool:
        """Is it true on any rank? Collective."""
        if self.size == 1:
            return flag
        return bool(self.sum(torch.tensor(int(flag), device=self.device)).item())

    def gather(self, value: Tensor) -> list[Tensor]:
        """Every rank's tensor (one shape), in rank order, on every rank. Collective."""
        if self.size == 1:
            return [value]
        parts = [torch.empty_like(value) for _ in range(self.size)]
        dist.all_gather(parts, value.contiguous())
        return parts

    def gather_shares(self, value: Tensor, rows: int) -> Tensor:
        """All `rows` rows of a global batch, in order, of which `value` is this rank's share.

        Shares are those of streams: rows * r // size up to rows * (r + 1) // size. Collective.
        """
        ends = [rows * rank // self.size for rank in range(self.size + 1)]
        counts = [end - start for start, end in pairwise(ends)]
        if len(value) != counts[self.rank]:
            raise ValueError(f"rank {self.rank} of {self.size} has {len(value)} of {rows} rows")
        padded = value.new_zeros(max(counts), *value.shape[1:])
        padded[: len(value)] = value
        parts = zip(self.gather(padded), counts, strict=True)
        return torch.cat([part[:count] for part, count in parts])

    def share(self, value: object, source: int = 0) -> object:
        """The plain Python value of rank `source`, on every rank. Collective."""
        if self.size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=source, device=self.device)
        return box[0]

    def barrier(self) -> None:
        """Wait for every rank. Collective."""
        if self.size > 1:
            self.sum(torch.zeros(1, device=self.device))

    def leave(self) -> None:
        """Take the process group down. Drop every DDP object first: a live one aborts here."""
        if self.size > 1 and dist.is_initialized():
            gc.collect()
            self.barrier()
            dist.destroy_process_group()


def pick_device(wanted: str, local_rank: int = 0) -> torch.device:
    """`auto`, `cpu` or `cuda` as a device; a ValueError when a GPU is asked for and absent."""
    if wanted == "cuda" and not torch.cuda.is_available():
        raise ValueError("engine.device=cuda, but this machine has no usable GPU")
    if wanted == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", local_rank)
