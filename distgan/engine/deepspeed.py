"""A learner under DeepSpeed: ZeRO 0 to 3, optimizer state on the host, fp16 with loss scaling.

DeepSpeed is given one flat module that holds the learning parameters and runs the whole loss in
its forward, so there is one forward and one backward a gradient pass whatever the loss calls.
The network itself stays whole and without hooks, refreshed after every update: all that samples,
rolls out, judges or saves uses it as it would anywhere else, ZeRO-3 included. What ZeRO shards
is the optimizer's state and masters, and from ZeRO-2 the gradients.

Three more rules, each against a silent fault:
- All gradients reach DeepSpeed at the end of the backward, in one sequence, zeros where a rank's
  samples use a parameter in nothing: else ranks would add up buckets of different parameters.
- The client optimizer's own step clips weights: ZeRO steps copies and overwrites the module.
- Clipping and precision are always explicit: `gradient_clipping` is 1.0 where nothing is said.

Written for DeepSpeed 0.19.8.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from distgan.config import OptimizerConfig
from distgan.engine.learner import Learner, LossForward, build_optimizer, learning_rate_share
from distgan.engine.stages import Batch, Loss
from distgan.engine.world import World

_BUCKET = 50_000_000
"""Gradients, at most, that go through one exchange."""


class _Lend(torch.autograd.Function):
    """The network's weights for a loss; their gradients go to the held parameters, all at once."""

    @staticmethod
    def forward(ctx: Any, weights: tuple[Tensor, ...], *held: Tensor) -> tuple[Tensor, ...]:
        ctx.dtypes = [parameter.dtype for parameter in held]
        return tuple(weight.detach() for weight in weights)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        return (None, *(g.to(d) for g, d in zip(gradients, ctx.dtypes, strict=True)))


class Held(nn.Module):
    """The parameters that DeepSpeed keeps; its forward runs a loss on the network.

    All are this one module's own: ZeRO-3 gathers them at its forward and its backward, as often
    on every rank, whatever the loss does with a rank's samples.
    """

    def __init__(
        self,
        network: nn.Module,
        learning: dict[str, nn.Parameter],
        start: Sequence[Tensor],
        precision: Callable[[], AbstractContextManager[Any]],
    ) -> None:
        super().__init__()
        self._run = (LossForward(network), dict(learning), precision)  # no submodules
        for number, value in enumerate(start):
            self.register_parameter(f"p{number}", nn.Parameter(value.detach().clone()))
        self.said = Loss(torch.empty(0))

    def forward(self, loss: Callable[[], Loss]) -> Tensor:
        call, learning, precision = self._run
        lent = _Lend.apply(tuple(learning.values()), *self.parameters())
        names = [f"network.{name}" for name in learning]
        with precision():
            self.said = functional_call(call, dict(zip(names, lent, strict=True)), (loss, ()))
        return self.said.total


@dataclass(frozen=True)
class Masters:
    """The float32 weights that an engine's optimizer steps, and where each parameter lies in them.

    `tensors` are this rank's share, of the optimizer's parameter groups `groups`.
    """

    tensors: list[Tensor]
    groups: list[int]
    held: list[nn.Parameter]
    read: Callable[[nn.Parameter], Tensor]
    write: Callable[[nn.Parameter, Tensor], None]

    def whole(self, values: Iterable[Tensor] | None = None) -> Iterator[Tensor]:
        """Each held parameter's whole part of the masters, or of `values` laid out like them.

        On the CPU. Collective: go through all of it on every rank.
        """
        if values is None:
            yield from (self.read(parameter).to("cpu", copy=True) for parameter in self.held)
            return
        kept = [master.detach().clone() for master in self.tensors]
        self._fill(values)
        yield from (self.read(parameter).to("cpu", copy=True) for parameter in self.held)
        self._fill(kept)

    def set(self, values: Iterable[Tensor]) -> None:
        """Set the masters from each held parameter's whole value."""
        for parameter, value in zip(self.held, values, strict=True):
            self.write(parameter, value.to(self.tensors[0].device, torch.float32))

    def parted(self, values: Iterable[Tensor]) -> list[Tensor]:
        """Whole values of the held parameters, laid out like the masters."""
        kept = [master.detach().clone() for master in self.tensors]
        self.set(values)
        parts = [master.detach().clone() for master in self.tensors]
        self._fill(kept)
        return parts

    def _fill(self, values: Iterable[Tensor]) -> None:
        for master, value in zip(self.tensors, values, strict=True):
            master.data.copy_(value)


class DeepSpeedLearner(Learner):
    """A network whose gradients, masters and optimizer state DeepSpeed exchanges and shards.

    `zero` is the stage; `offload` keeps masters and state on the host (from stage 1 on);
    `autocast=torch.float16` is DeepSpeed's fp16, float16 weights in the loss over float32
    masters (from stage 1 on); bf16 is autocast over float32 weights as elsewhere. A parameter
    that the loss of no rank uses gets a zero gradient, where torch's optimizers pass it over.
    """

    def __init__(
        self,
        name: str,
        network: nn.Module,
        config: OptimizerConfig,
        world: World,
        *,
        autocast: torch.dtype | None = None,
        zero: int = 1,
        offload: bool = False,
    ) -> None:
        super().__init__(name, network, config, world, autocast=autocast)
        self.zero, self.offload = zero, offload
        self._engine: Any = None
        self._lost = False
        self._scaler: dict[str, Any] = {}
        self._exact: dict[str, Tensor] = {}
        """The float32 weights behind the network's rounded ones, by name; fp16 alone has them."""
        self._round()

    @property
    def _is_half(self) -> bool:
        return self.autocast is torch.float16

    def wrap(self, groups: tuple[str, ...] | None = None) -> None:
        """A new engine for a stage in which only submodules `groups` learn. Collective."""
        self._take_back()
        self._choose(groups)
        self.unwrap()
        with self.only_learning([self]):
            if self.world.size > 1:
                self._refuse_local_statistics()
            self._start()
        self._lost = False

    def unwrap(self) -> None:
        """Drop the engine. What it alone held is lost: see `state_dict` first. Not collective."""
        if self._engine is not None:
            self._engine.destroy()
            self._engine, self._lost = None, True

    def _start(self) -> None:
        """Hand the learning parameters and their state to a new engine.

        ZeRO keeps one count of steps for a parameter group: parameters that have learned for
        different times are in groups of their own.
        """
        deepspeed = prepare(self.world)
        names = self._names
        learning = {name: self.trainable[name] for name in names}
        start = [self._exact.get(name, learning[name]) for name in names]
        self._held = Held(self.network, learning, start, self._precision)
        held = list(self._held.parameters())
        ages = [_age(self.optimizer.state.get(self.trainable[name], {})) for name in names]
        kinds = list(dict.fromkeys(ages))
        self._groups = [kinds.index(age) for age in ages]
        self._client = build_optimizer(held, self.config)
        (group,) = self._client.param_groups
        self._client.param_groups[:] = [
            {**group, "params": [p for p, g in zip(held, self._groups, strict=True) if g == number]}
            for number in range(len(kinds))
        ]
        self._engine, *_ = deepspeed.initialize(
            model=self._held, optimizer=self._client, config=self._settings()
        )
        self._masters = masters(self._engine, self._client, held, self.zero, self.world)
        self._give(names)
        self._refresh()

    def _settings(self) -> dict[str, Any]:
        """DeepSpeed's config. Nothing that changes training is left to its defaults."""
        size = sum(self.trainable[name].numel() for name in self._names)
        zero: dict[str, Any] = {
            "stage": self.zero,
            "overlap_comm": False,
            "reduce_bucket_size": min(size, _BUCKET),  # its buffer's size, whatever there is
            "stage3_param_persistence_threshold": 0,
        }
        if self.offload:
            pinned = self.world.device.type == "cuda"
            zero["offload_optimizer"] = {"device": "cpu", "pin_memory": pinned}
        return {
            "train_micro_batch_size_per_gpu": 1,  # it counts with it and nothing else
            "gradient_accumulation_steps": 1,  # we say which pass is the last
            "gradient_clipping": self.config.clip_norm or 0.0,
            "fp16": {"enabled": self._is_half, "loss_scale": 0},
            "bf16": {"enabled": False},
            "zero_optimization": zero,
            "zero_allow_untested_optimizer": True,
            "zero_force_ds_cpu_optimizer": False,
            "steps_per_print": 2**62,
            "wall_clock_breakdown": False,
        }

    def backward(self, loss: Callable[..., Loss], batches: Sequence[Batch], *, last: bool) -> Loss:
        """One gradient pass; see `Learner.backward`, whose scaling by the ranks is the same."""
        self._engine.set_gradient_accumulation_boundary(last)
        total = self._engine(partial(loss, *batches))
        self._engine.backward(total * self.world.size)
        return self._held.said._replace(total=total.detach())

    def step(self) -> Tensor:
        """Clip, step, refresh the network, average; the gradient's norm before clipping.

        Where fp16 overflowed, which its scaling then mends, nothing moves and the norm is 0.
        """
        for group in self._client.param_groups:
            group["lr"] = self.config.lr * learning_rate_share(self.config, self.updates)
        norm = self._whole_norm() if self.zero == 0 else None
        self._engine.step()
        if norm is None:
            norm = torch.as_tensor(self._engine.get_global_grad_norm(), device=self.world.device)
            if self._is_half and self._engine.optimizer.overflow:
                norm = torch.zeros_like(norm)
        self.updates += 1
        self._refresh()
        if self.average is not None:
            self._update_average()
        return norm.detach()

    def _whole_norm(self) -> Tensor:
        gradients = [p.grad for p in self._held.parameters() if p.grad is not None]
        return nn.utils.get_total_norm(gradients, foreach=True)

    @torch.no_grad()
    def _refresh(self) -> None:
        """The network's weights are the engine's again: the same memory where that can be."""
        held = list(self._held.parameters())
        learning = [self.trainable[name] for name in self._names]
        with gathered(held, self.zero):
            for own, now in zip(learning, held, strict=True):
                if self.zero == 3 or self._is_half:
                    own.copy_(now)
                else:
                    own.data = now.data

    @torch.no_grad()
    def _round(self) -> None:
        """In fp16 the network is at once what it is in a loss; `_exact` keeps what it was."""
        if self._is_half:
            for name, parameter in self.trainable.items():
                self._exact[name] = parameter.detach().to("cpu", copy=True)
                parameter.copy_(parameter.half())

    @property
    def _names(self) -> list[str]:
        return sorted(self._learning)

    def _give(self, names: list[str]) -> None:
        """Give the new engine the optimizer state of its parameters. Collective."""
        states = [self.optimizer.state.pop(self.trainable[name], {}) for name in names]
        if self._is_half:
            self._masters.set(self._exact[name] for name in names)
            scaler = vars(self._engine.optimizer.loss_scaler)
            scaler.update({k: v for k, v in self._scaler.items() if k in scaler})
        for key in sorted({key for state in states for key in state} - _COUNTS):
            values = [
                state[key] if key in state else torch.zeros(self.trainable[name].shape)
                for name, state in zip(names, states, strict=True)
            ]
            for master, part in zip(
                self._masters.tensors, self._masters.parted(values), strict=True
            ):
                self._client.state[master][key] = part
        for master, group in zip(self._masters.tensors, self._masters.groups, strict=True):
            state = states[self._groups.index(group)]
            if not state:
                self._client.state.pop(master, None)
            for key in _COUNTS & state.keys():
                self._client.state[master][key] = state[key].clone()

    @torch.no_grad()
    def _take_back(self) -> None:
        """Put all that the engine holds into `optimizer` and `_exact`, whole. Collective."""
        if self._engine is None:
            return
        names, masters = self._names, self._masters
        if self._is_half:
            self._exact.update(zip(names, masters.whole(), strict=True))
            scaler = vars(self._engine.optimizer.loss_scaler)
            self._scaler = {k: v for k, v in scaler.items() if type(v) in (bool, int, float)}
        states = [self._client.state.get(master, {}) for master in masters.tensors]
        whole: dict[str, list[Tensor]] = {}
        for key in sorted({key for state in states for key in state} - _COUNTS):
            pairs = zip(states, masters.tensors, strict=True)
            parts = [state.get(key, torch.zeros_like(master)) for state, master in pairs]
            whole[key] = list(masters.whole(parts))
        for number, name in enumerate(names):
            state = states[masters.groups.index(self._groups[number])]
            if state:
                kept = {key: whole[key][number] for key in state.keys() - _COUNTS}
                kept |= {key: state[key].clone() for key in _COUNTS & state.keys()}
                self.optimizer.state[self.trainable[name]] = kept

    def start_from(self, weights: dict[str, Tensor]) -> None:
        """See `Learner.start_from`; before the first `wrap`, as a new run does."""
        assert self._engine is None
        super().start_from(weights)
        self._round()

    def state_dict(self) -> dict[str, Any]:
        """What a plain learner would save, whole, and fp16's loss scaling. Collective."""
        if self._lost:
            raise RuntimeError(
                f"{self.name}: its engine is gone, and the optimizer's state with it"
            )
        self._take_back()
        state = super().state_dict()
        if self._engine is not None:
            for name in self._names:  # the engine goes on holding it
                self.optimizer.state.pop(self.trainable[name], None)
        exact = {id(self.trainable[name]): value for name, value in self._exact.items()}
        kept = self.network.state_dict(keep_vars=True).items()
        state["network"] |= {name: exact[id(p)] for name, p in kept if id(p) in exact}
        return {**state, "scaler": self._scaler}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take what any learner saved. The engine goes; the next `wrap` makes another."""
        self.unwrap()
        super().load_state_dict(state)
        self._round()
        self._scaler = dict(state.get("scaler", {}))
        self._lost = False


_COUNTS = {"step"}
"""What optimizers keep one of for a whole tensor; all else is as large as what they step."""


def _age(state: dict[str, Any]) -> int:
    """How many steps a parameter has learned; -1 where it has no state."""
    return int(state.get("step", 0)) if state else -1


def masters(engine: Any, client: Any, held: list[nn.Parameter], zero: int, world: World) -> Masters:
    """Where an engine of this stage keeps its masters."""
    from deepspeed.utils import safe_get_full_fp32_param, safe_set_full_fp32_param

    if zero == 0:
        groups = {id(p): n for n, g in enumerate(client.param_groups) for p in g["params"]}

        def write(parameter: nn.Parameter, value: Tensor) -> None:
            parameter.data.copy_(value)

        tensors: list[Tensor] = list(held)
        return Masters(tensors, [groups[id(p)] for p in held], held, lambda p: p.detach(), write)
    if zero == 3:
        tensors = engine.optimizer.fp32_partitioned_groups_flat
        of_tensors = [engine.optimizer.sub_group_to_group_id[n] for n in range(len(tensors))]
        write = partial(_write_share, world)
        return Masters(tensors, of_tensors, held, safe_get_full_fp32_param, write)
    tensors = engine.optimizer.single_partition_of_fp32_groups
    groups_of = list(range(len(tensors)))
    return Masters(tensors, groups_of, held, safe_get_full_fp32_param, safe_set_full_fp32_param)


def _write_share(world: World, parameter: nn.Parameter, value: Tensor) -> None:
    """This rank's share of a ZeRO-3 parameter's master; the last share is filled up with zeros."""
    from deepspeed.utils import safe_get_local_fp32_param, safe_set_local_fp32_param

    share = safe_get_local_fp32_param(parameter).numel()
    padded = value.new_zeros(share * world.size)
    padded[: value.numel()] = value.flatten()
    safe_set_local_fp32_param(parameter, padded.narrow(0, share * world.rank, share))


@contextmanager
def gathered(held: list[nn.Parameter], zero: int) -> Iterator[None]:
    """Inside, the held parameters are whole on every rank. Collective."""
    if zero < 3:
        yield
        return
    import deepspeed

    with deepspeed.zero.GatheredParameters(held):
        yield


def prepare(world: World) -> Any:
    """DeepSpeed, imported for this process's device, in its process group."""
    kind = world.device.type
    os.environ.setdefault("DS_ACCELERATOR", kind)  # read at the first import
    if kind == "cuda":
        os.environ["LOCAL_RANK"] = str(world.device.index or 0)  # the device it will take
    os.environ.setdefault("LOCAL_RANK", "0")
    os.environ.setdefault("LOCAL_SIZE", os.environ.get("LOCAL_WORLD_SIZE", "1"))
    import deepspeed

    if kind == "cpu":
        # It serves inference only, and would be compiled when the process group is met.
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.utils.logger.setLevel("WARNING")
    deepspeed.init_distributed("nccl" if kind == "cuda" else "gloo", verbose=False)
    return deepspeed
