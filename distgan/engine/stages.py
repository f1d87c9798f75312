"""An algorithm as data: stages of updates, and how far a run has come in them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from torch import Tensor

Batch = dict[str, Any]
"""One rank's share of a global batch. Every value has one entry per sample along its first
dimension (tensors) or is a list with one entry per sample.

`weight` (samples,) is float64 and adds to one over the global batch: a loss that sums
`weight * per_sample` is the mean over the global batch, however it is split.
`position` (samples,) int64 is the sample's place in its stream, the key of its noise.
`key` is the list of the samples' names, for error messages.
"""


class Moment(NamedTuple):
    """When an update happens: the key of all its noise."""

    seed: int
    update: int  # counts every update of the run, over all learners and stages


class Prepared(NamedTuple):
    """What one rank knows before the gradient passes: its batches, and facts for the log.

    `facts` are numbers of the global batch, equal on every rank.
    """

    batches: tuple[Batch, ...]
    facts: dict[str, Tensor] = {}  # noqa: RUF012 (a NamedTuple's default, never written to)


class Loss(NamedTuple):
    """What a loss returns. `total` is minimised.

    `total` and the numbers in `log` are this part's share of a sum over the global batch
    (use `weight`). `keep` holds detached tensors with a row per sample; they join the first
    batch of a following update that says `reuse`.
    """

    total: Tensor
    log: dict[str, Tensor] = {}  # noqa: RUF012
    keep: dict[str, Tensor] = {}  # noqa: RUF012


@dataclass(frozen=True)
class Update:
    """One kind of parameter update: who learns, from which loss, on what data, how often.

    `prepare(moment, *batches)` runs once a rank batch without gradients (sampling, rollouts,
    fakes, frozen features; it may talk to the other ranks and every rank calls it); its batches
    replace the drawn ones. `loss(*batches)` runs with gradients, on `accumulate` parts of them.
    `reuse` takes the batches of the update before it in the same round and draws none.
    """

    learner: str
    loss: Callable[..., Loss]
    data: tuple[str, ...] = ()
    times: int = 1
    prepare: Callable[..., Prepared] | None = None
    reuse: bool = False

    def __post_init__(self) -> None:
        if self.reuse == bool(self.data):
            raise ValueError(
                f"update of {self.learner}: name its data, or reuse the last, not both"
            )


def _nothing() -> None:
    """What most stages do on entry."""


@dataclass(frozen=True)
class Stage:
    """A stretch of training: `rounds` rounds of its updates, in order.

    `train` names, for a learner, the submodules that learn in this stage; a learner that is
    not named learns whole. `enter` is called on every rank when the stage begins or is resumed,
    with rounds still to play.
    """

    name: str
    rounds: int
    updates: tuple[Update, ...]
    train: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    enter: Callable[[], None] = _nothing

    def __post_init__(self) -> None:
        first = next((update for update in self.updates if update.times), None)
        if first is not None and first.reuse:
            raise ValueError(f"stage {self.name}: its first update has no batch to reuse")
        learners = {update.learner for update in self.updates}
        for name in set(self.train) - learners:
            raise ValueError(f"stage {self.name}: train names {name!r}, which has no update in it")


@dataclass
class Progress:
    """How far a run has come. `update` counts all updates, `round` those of the stage."""

    stage: int = 0
    round: int = 0
    update: int = 0
    total_rounds: int = 0

    @property
    def place(self) -> str:
        return f"round {self.total_rounds}, update {self.update}"

    def state_dict(self) -> dict[str, int]:
        return dict(vars(self))

    def load_state_dict(self, state: dict[str, int]) -> None:
        for name in vars(self):
            setattr(self, name, int(state[name]))
