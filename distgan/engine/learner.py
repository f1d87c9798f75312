"""A network that can be improved: its optimizer, schedule, average, precision and wrapper.

One wrapped forward and one backward per gradient pass: the whole loss runs inside
`LossForward.forward`, so DDP sees a single forward whatever the loss calls, and how often.
"""

from __future__ import annotations

import gc
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from distgan.config import OptimizerConfig
from distgan.engine.stages import Batch, Loss
from distgan.engine.world import World

_LOCAL_STATISTICS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


class LossForward(nn.Module):
    """Runs a loss inside one forward call of the network it improves."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, loss: Callable[..., Loss], batches: Sequence[Batch]) -> Loss:
        result = loss(*batches)
        return Loss(result.total, _detached(result.log), _detached(result.keep))


class Learner:
    """A network, its optimizer, learning-rate schedule, averaged weights and wrapper."""

    def __init__(
        self,
        name: str,
        network: nn.Module,
        config: OptimizerConfig,
        world: World,
        *,
        autocast: torch.dtype | None = None,
    ) -> None:
        if world.size > 1 and world.device.type == "cuda":
            nn.SyncBatchNorm.convert_sync_batchnorm(network)
        self.name, self.network, self.config, self.world = name, network.eval(), config, world
        self.autocast = autocast
        self.trainable = {n: p for n, p in network.named_parameters() if p.requires_grad}
        self.optimizer = build_optimizer(self.trainable.values(), config)
        self.updates = 0
        self.average = deepcopy(network).requires_grad_(False) if config.ema else None
        self._learning: frozenset[str] = frozenset(self.trainable)
        self._call: nn.Module = LossForward(network)

    def wrap(self, groups: tuple[str, ...] | None = None) -> None:
        """Wrap the network anew for a stage in which only submodules `groups` learn (None: all).

        `find_unused_parameters` keeps DDP from rebuilding its buckets after the first backward,
        which would make a resumed run differ from an uninterrupted one at three or more ranks.
        """
        self._choose(groups)
        self.unwrap()
        if self.world.size == 1:
            return
        with self.only_learning([self]):
            self._refuse_local_statistics()
            wrapped = DistributedDataParallel(
                self._call,
                device_ids=[self.world.device] if self.world.device.type == "cuda" else None,
                find_unused_parameters=True,
            )
        wrapped.broadcast_buffers = False  # in forwards; they were made equal just now
        self._call = wrapped

    def _choose(self, groups: tuple[str, ...] | None) -> None:
        for group in groups or ():
            if not any(_belongs(name, (group,)) for name in self.trainable):
                raise ValueError(f"{self.name}: nothing learns under {group!r}")
        self._learning = frozenset(n for n in self.trainable if _belongs(n, groups))

    def unwrap(self) -> None:
        """Drop the wrapper and its hooks, so that the process group can be taken down."""
        wrapped = isinstance(self._call, DistributedDataParallel)
        self._call = LossForward(self.network)
        if wrapped:
            gc.collect()  # DDP objects refer to themselves

    @contextmanager
    def only_learning(self, learners: Iterable[Learner]) -> Iterator[None]:
        """Inside, exactly this learner's parameters have `requires_grad` and its mode is train."""
        learners = list(learners)
        for learner in learners:
            learner.network.requires_grad_(False).eval()
        for name in self._learning:
            self.trainable[name].requires_grad_(True)
        self._train_mode()
        try:
            yield
        finally:
            for learner in learners:
                learner.network.eval()
                for parameter in learner.trainable.values():
                    parameter.requires_grad_(True)

    def _train_mode(self) -> None:
        """Modules that hold no learning parameter stay in eval mode: frozen includes buffers.

        A module without any parameter (dropout) goes with its parent.
        """
        for name, module in self.network.named_modules():
            if name and next(module.parameters(), None) is None:
                parent = self.network.get_submodule(name.rpartition(".")[0])
                module.training = parent.training
            else:
                prefix = f"{name}." if name else ""
                module.training = any(n.startswith(prefix) for n in self._learning)

    def _refuse_local_statistics(self) -> None:
        """Batch statistics of one rank's share would make training depend on the ranks."""
        for name, module in self.network.named_modules():
            if isinstance(module, _LOCAL_STATISTICS) and module.training:
                raise ValueError(
                    f"{self.name}.{name}: BatchNorm on engine.workers={self.world.size} needs GPUs "
                    "(SyncBatchNorm); take one worker or another normalisation"
                )

    def backward(self, loss: Callable[..., Loss], batches: Sequence[Batch], *, last: bool) -> Loss:
        """One gradient pass; gradients are exchanged between ranks in the `last` one.

        Losses are shares of a sum over the global batch and DDP averages over ranks, so the
        loss is multiplied by their number.
        """
        with self._no_exchange(last):
            with self._precision():
                result: Loss = self._call(loss, batches)
            (result.total * self.world.size).backward()
        return result._replace(total=result.total.detach())

    def step(self) -> Tensor:
        """Clip, step, average; the gradient's norm before clipping."""
        parameters = [self.trainable[n] for n in sorted(self._learning)]
        bound = self.config.clip_norm or math.inf
        norm = nn.utils.clip_grad_norm_(parameters, bound, foreach=True)
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.lr * learning_rate_share(self.config, self.updates)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.updates += 1
        if self.average is not None:
            self._update_average()
        return norm.detach()

    @torch.no_grad()
    def _update_average(self) -> None:
        assert self.average is not None and self.config.ema is not None
        for mean, now in zip(
            self.average.state_dict().values(), self.network.state_dict().values(), strict=True
        ):
            if mean.is_floating_point():
                mean.lerp_(now, 1 - self.config.ema)
            else:
                mean.copy_(now)

    def _no_exchange(self, last: bool) -> AbstractContextManager[None]:
        if last or not isinstance(self._call, DistributedDataParallel):
            return nullcontext()
        return self._call.no_sync()

    def _precision(self) -> AbstractContextManager[Any]:
        if self.autocast is None:
            return nullcontext()
        return torch.autocast(self.world.device.type, dtype=self.autocast)

    def start_from(self, weights: dict[str, Tensor]) -> None:
        """Begin with another run's weights; the average begins there too."""
        self.network.load_state_dict(weights)
        if self.average is not None:
            self.average.load_state_dict(weights)

    def state_dict(self) -> dict[str, Any]:
        return {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "updates": self.updates,
            "average": self.average.state_dict() if self.average is not None else None,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.network.load_state_dict(state["network"])
        own = [{k: v for k, v in g.items() if k != "params"} for g in self.optimizer.param_groups]
        self.optimizer.load_state_dict(state["optimizer"])
        for group, settings in zip(self.optimizer.param_groups, own, strict=True):
            group.update(settings)  # those of this run's config, which may have changed
        self.updates = state["updates"]
        if self.average is not None:  # which a checkpoint made without one starts from its weights
            self.average.load_state_dict(state["average"] or state["network"])


def build_optimizer(
    parameters: Iterable[nn.Parameter], config: OptimizerConfig
) -> torch.optim.Optimizer:
    """The optimizer a config names; weight clipping is part of its step.

    Clamping a module's weights after the step would be undone wherever the optimizer keeps
    master copies (ZeRO-1 to 3, fp16): the hook clamps what the optimizer itself steps.
    """
    parameters = list(parameters)
    decay = config.weight_decay
    optimizer: torch.optim.Optimizer
    if config.name == "adam":
        optimizer = torch.optim.Adam(parameters, config.lr, config.betas, weight_decay=decay)
    elif config.name == "adamw":
        optimizer = torch.optim.AdamW(parameters, config.lr, config.betas, weight_decay=decay)
    elif config.name == "rmsprop":
        optimizer = torch.optim.RMSprop(parameters, config.lr, weight_decay=decay)
    else:
        optimizer = torch.optim.SGD(
            parameters, config.lr, momentum=config.momentum, weight_decay=decay
        )
    if config.clip_weights is not None:
        optimizer.register_step_post_hook(_clipper(config.clip_weights))
    return optimizer


def _clipper(bound: float) -> Callable[..., None]:
    @torch.no_grad()
    def clip(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        for group in optimizer.param_groups:
            learning = [p for p in group["params"] if p.requires_grad]
            torch._foreach_clamp_min_(learning, -bound)
            torch._foreach_clamp_max_(learning, bound)

    return clip


def learning_rate_share(config: OptimizerConfig, updates: int) -> float:
    """The learning rate before update number `updates`, as a share of `lr`."""
    warm = min(1.0, (updates + 1) / config.warmup_updates) if config.warmup_updates else 1.0
    if config.schedule == "constant" or config.decay_updates is None:
        return warm
    span = max(1, config.decay_updates - config.warmup_updates)
    done = min(1.0, max(0, updates - config.warmup_updates) / span)
    fall = 1 - done if config.schedule == "linear" else (1 + math.cos(math.pi * done)) / 2
    return warm * (config.final + (1 - config.final) * fall)


def _belongs(name: str, groups: tuple[str, ...] | None) -> bool:
    return groups is None or any(name == g or name.startswith(f"{g}.") for g in groups)


def _detached(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach() for name, tensor in tensors.items()}
