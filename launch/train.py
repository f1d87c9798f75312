"""Train a method from its config: on Ray, or with --local in this process.

examples:
  python launch/train.py configs/attend_gan/shapes.yaml --local
  python launch/train.py configs/attend_gan/shapes.yaml engine.workers=4 --name first
  python launch/train.py runs/first --resume
  ray job submit --working-dir . -- python launch/train.py CONFIG data.path=$PWD/data/shapes

Ctrl-C and SIGTERM save a checkpoint and leave; the last line says how to go on. A run keeps
everything in OUT/NAME: config.yaml, checkpoints, metrics.jsonl, TensorBoard events, pictures.
Without --local the run goes to the Ray cluster of RAY_ADDRESS or of this machine, or to one
that is started for it; OUT and the data must be the same folders on all its machines.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from distgan.config import Config
from distgan.data.damage import TooManyBadSamples
from distgan.engine.checkpoint import Superseded
from distgan.engine.runs import ERROR, RunError, keep_at_home, open_run, read_config
from distgan.engine.stop import StopOnSignal
from distgan.engine.watch import RanksDiffer
from distgan.engine.world import World, pick_device
from distgan.methods import CONFIGS, training

FAILED, WRONG_INPUT = 1, 2
EXPECTED = (
    ValueError,
    ArithmeticError,
    OSError,
    RanksDiffer,
    RunError,
    Superseded,
    TooManyBadSamples,
)
"""What can go wrong with a run without a mistake in the code: told in one line."""


def main(words: Sequence[str]) -> int:
    """Train as the command line says; the exit code."""
    arguments = parse(words)
    try:
        config, run = prepare(arguments)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return WRONG_INPUT
    print(f"run: {run}", flush=True)
    with StopOnSignal() as stop:
        try:
            outcome = train(config, run, arguments.local, stop)
        except EXPECTED as error:
            report(error, run)
            return FAILED
    if not outcome.finished:
        again = f"python launch/train.py {shlex.quote(str(run))} --resume"
        print(f"stopped and saved; go on with: {again}{' --local' * arguments.local}", flush=True)
        return stop.exit_code
    print(f"finished: {run}")
    return 0


def parse(words: Sequence[str]) -> argparse.Namespace:
    """The command line. `source` is the first word that is no override, or None."""
    summary, _, rest = str(__doc__).partition("\n\n")
    parser = argparse.ArgumentParser(
        usage="python launch/train.py CONFIG [key=value ...] [--local] [--name NAME] [--resume]",
        description=summary,
        epilog=rest,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("words", nargs="*", metavar="CONFIG [key=value ...]", help="a YAML file, then settings")
    add("--local", action="store_true", help="one process, nothing of Ray")
    add("--name", help="the run's folder under OUT; default: the config's name and the time")
    add("--resume", action="store_true", help="go on with the run of that name, if there is one")
    arguments = parser.parse_intermixed_args(words)
    given = arguments.words
    arguments.source = given.pop(0) if given and "=" not in given[0] else None
    if arguments.source is None and not (arguments.name and arguments.resume):
        parser.error("name a config file, a run's folder with --resume, or --name NAME --resume")
    return arguments


def prepare(arguments: argparse.Namespace) -> tuple[Config, Path]:
    """Everything that can be known to be wrong before a run begins; then its folder."""
    here, overrides = Path.cwd(), list(arguments.words)
    source = Path(arguments.source or f"{_out(overrides)}/{arguments.name}")
    if arguments.name and arguments.source:
        overrides.append(f"name={arguments.name!r}")
    if not (here / source).exists():
        raise ValueError(f"{source} does not exist: neither a config file nor a run's folder")
    config = read_config(source, overrides, here, methods=CONFIGS)
    config = replace(config, out=keep_at_home(config.out, here))
    workers = 1 if arguments.local else config.engine.workers
    training.check(config, workers, local=arguments.local)
    if arguments.local:
        training.check_decoder(config, pick_device(config.engine.device).type)
        if config.engine.workers > 1:
            print(f"--local: one process; engine.workers={config.engine.workers} is for Ray")
        if config.engine.backend == "deepspeed" or config.engine.networks:
            print("--local: trains plainly; engine.backend and engine.networks are for Ray")
    else:
        from distgan.cluster.connect import choose_device, connect

        connect()
        training.check_decoder(config, choose_device(config.engine))
    return open_run(config, here / source, resume=arguments.resume)


def train(config: Config, run: Path, local: bool, stop: Callable[[], bool]) -> training.Outcome:
    """Train here or on Ray, going on from what the run's folder holds."""
    if local:
        world = World.local(pick_device(config.engine.device))
        return training.train(config, run, world, resume=True, should_stop=stop)
    from distgan.cluster.train import train as train_on_ray

    return train_on_ray(config, run, should_stop=stop)


def report(error: Exception, run: Path) -> None:
    """The first cause in one line; the rest is in the run's folder."""
    if not isinstance(error, RunError):
        (run / ERROR).write_text(traceback.format_exc())
    print(f"error: {error}\nmore in {run / ERROR}", file=sys.stderr)


def _out(overrides: Sequence[str]) -> str:
    given = [word.removeprefix("out=") for word in overrides if word.startswith("out=")]
    return given[-1] if given else "runs"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
