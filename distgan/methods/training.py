"""One run from its config to its end, in one process of the world. Every launcher calls `train`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from distgan.config import Config, config_text
from distgan.data.tokens import vocabulary_difference
from distgan.engine import checkpoint
from distgan.engine.backends import build_learner, check_backends, plainly
from distgan.engine.learner import Learner
from distgan.engine.log import Log
from distgan.engine.loop import Players, Stream
from distgan.engine.stages import Stage
from distgan.engine.trainer import Trainer
from distgan.engine.world import World
from distgan.methods import METHODS
from distgan.methods.bad_samples import report_bad_samples
from distgan.methods.method import Evaluates, Method


@dataclass(frozen=True)
class Outcome:
    """How a run ended: to its end or stopped before, with the last logged numbers."""

    finished: bool
    metrics: dict[str, float]


def check(config: Config, workers: int, *, local: bool = False) -> None:
    """Raise a ValueError naming key and value for what cannot work. Opens data, trains nothing.

    `local`: for one process of its own, outside any process group.
    """
    method: Method = METHODS[config.method.name](config, World.local())
    check_backends(config.engine, list(method.networks), local=local)
    choose_stages(method.algorithm(), config.stages)
    check_rows(method.streams(), workers, config.engine.accumulate)
    if config.init_from is not None:
        try:
            checkpoint.find(config.init_from)
        except ValueError as error:
            raise ValueError(f"init_from={config.init_from}: {error}") from error


def train(
    config: Config,
    run: Path,
    world: World,
    *,
    resume: bool,
    should_stop: Callable[[], bool] = lambda: False,
    on_checkpoint: Callable[[dict[str, float]], None] = lambda _: None,
    build: Callable[[Config, World], Method] | None = None,
    until: int | None = None,
) -> Outcome:
    """Train until the last stage ends or `should_stop` holds on some rank. Every rank calls it.

    `until` stops it after that round, with a checkpoint.

    With `resume` it goes on from the newest whole checkpoint in `run`, if there is one.
    `on_checkpoint(metrics)` is called on every rank after each checkpoint. `build` makes the
    method; by default the one that `method.name` names.
    """
    check_decoder(config, world.device.type)
    prepare_torch(config)
    method = (build or METHODS[config.method.name])(config, world)
    check_backends(config.engine, list(method.networks), local=not world.has_group)
    stages = choose_stages(method.algorithm(), config.stages)
    players = Players(
        learners=build_learners(method, config, world),
        streams=method.streams(),
        world=world,
        seed=config.seed,
        accumulate=config.engine.accumulate,
    )
    check_batches(players)
    store = checkpoint.Store(run / "checkpoints", keep=config.checkpoint.keep)
    if world.is_first:
        store = store.claim()  # before looking: an earlier attempt writes nothing from here on
    state = _starting_point(config, store, players, resume=resume)
    start = state["progress"]["total_rounds"] if state else 0
    log = Log(run, config.log, sum(s.rounds for s in stages), world.is_first, start)
    trainer = Trainer(
        config=config,
        stages=stages,
        players=players,
        store=store,
        log=log,
        identity=identity(config, stages, method),
        extra=method,
        show=method.show,
        interpret=method.interpret,
        evaluate=method.evaluate if isinstance(method, Evaluates) else None,
        until=until,
        should_stop=should_stop,
        on_checkpoint=on_checkpoint,
    )
    if state is None and config.init_from is not None:
        initialise_from(config.init_from, config.init_networks, players, trainer.identity)
    if state:
        if state["identity"]["data"] == trainer.identity["data"]:
            same_vocabulary("cannot resume", state["identity"], trainer.identity)
        trainer.load_state_dict(state)
        log.say(f"resumed at {trainer.progress.place}")
    try:
        finished = trainer.run()
        bad = report_bad_samples(method, world, log, run)
    finally:
        log.close()
    return Outcome(finished, trainer.metrics | bad)


def plan(
    config: Config, build: Callable[[Config, World], Method] | None = None
) -> tuple[Stage, ...]:
    """The stages that a run of this config plays. Opens data, trains nothing."""
    method: Method = (build or METHODS[config.method.name])(config, World.local())
    return choose_stages(method.algorithm(), config.stages)


def evaluate(
    config: Config,
    path: Path,
    world: World,
    *,
    temperature: float = 1.0,
    build: Callable[[Config, World], Method] | None = None,
) -> dict[str, float]:
    """What the method measures of a checkpoint (`val/...`); empty if it measures nothing."""
    prepare_torch(config)
    method = (build or METHODS[config.method.name])(config, world)
    if not isinstance(method, Evaluates):
        return {}
    state = checkpoint.load(path)
    alone = replace(config, engine=plainly(config.engine))
    for name, learner in build_learners(method, alone, world).items():
        learner.load_state_dict(state["learners"][name])
        learner.network.eval()
    return {f"val/{k}": v for k, v in method.evaluate(temperature=temperature).items()}


def check_decoder(config: Config, device: str) -> None:
    """A ValueError where images are to be decoded on a GPU and the run's device is none."""
    if config.data.decode == "gpu" and device != "cuda":
        raise ValueError(f"data.decode=gpu needs a GPU, but the run's device is {device}")


def prepare_torch(config: Config) -> None:
    """Threads and the seed that every rank's networks are made from."""
    if config.engine.threads is not None:
        torch.set_num_threads(config.engine.threads)
    torch.manual_seed(config.seed)


def build_learners(method: Method, config: Config, world: World) -> dict[str, Learner]:
    """The method's networks on their device, in their precision, with their optimizers."""
    dtype = torch.float64 if config.engine.precision == "float64" else torch.float32
    return {
        name: build_learner(
            name, network.to(world.device, dtype), method.optimizers[name], world, config.engine
        )
        for name, network in method.networks.items()
    }


def choose_stages(stages: tuple[Stage, ...], names: tuple[str, ...] | None) -> tuple[Stage, ...]:
    """The stages to play, in the algorithm's order; a ValueError names one it does not have."""
    known = [stage.name for stage in stages]
    for name in names or ():
        if name not in known:
            raise ValueError(f"stages: {name!r} is not one of {', '.join(known)}")
    return tuple(s for s in stages if names is None or s.name in names)


def check_batches(players: Players) -> None:
    """Every gradient pass on every rank needs a sample."""
    check_rows(players.streams, players.world.size, players.accumulate)


def check_rows(streams: Mapping[str, Stream], workers: int, accumulate: int) -> None:
    """A ValueError names the first stream with a batch that does not reach for everybody."""
    for name, stream in streams.items():
        if stream.rows < workers * accumulate:
            raise ValueError(
                f"a batch of {stream.rows} from {name} is too small for "
                f"engine.workers={workers} x engine.accumulate={accumulate}"
            )


def identity(config: Config, stages: tuple[Stage, ...], method: Method) -> dict[str, Any]:
    """What a checkpoint carries to be recognised and rebuilt by."""
    return {
        "stages": [f"{stage.name}: {stage.rounds}" for stage in stages],
        "config": config_text(config),
        **method.identity(),
    }


def initialise_from(
    path: str,
    networks: tuple[str, ...] | None,
    players: Players,
    identity: Mapping[str, Any],
) -> None:
    """Start from another run's weights: those of `networks`, or of all networks both have."""
    state = checkpoint.load(checkpoint.find(path))
    same_vocabulary(f"init_from={path}", state["identity"], identity)
    for name in networks or [n for n in players.learners if n in state["learners"]]:
        if name not in state["learners"] or name not in players.learners:
            raise ValueError(f"init_networks: no network {name!r} in this run and in {path}")
        try:
            players.learners[name].start_from(state["learners"][name]["network"])
        except RuntimeError as error:
            raise ValueError(f"init_from={path}: {name} does not fit: {error}") from error


def same_vocabulary(what: str, theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> None:
    """ValueError, naming the first words that differ, unless two identities have one vocabulary."""
    its, own = theirs["vocabulary"], ours["vocabulary"]
    if its == own:
        return
    both = isinstance(its, dict) and isinstance(own, dict)
    how = vocabulary_difference(its, own) if both else f"it has {its!r:.80}, this run {own!r:.80}"
    raise ValueError(f"{what}: its vocabulary is not this run's: {how}")


def _starting_point(
    config: Config, store: checkpoint.Store, players: Players, *, resume: bool
) -> Mapping[str, Any] | None:
    """The state to go on from; all ranks take the checkpoint that the first rank found."""
    found = store.latest() if resume and players.world.is_first else None
    name = players.world.share(str(found) if found else None)
    return checkpoint.load(str(name)) if name else None
