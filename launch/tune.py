"""Sweep over the settings of a method on Ray: grid, random, Optuna, ASHA, populations.

examples:
  python launch/tune.py configs/sweeps/attend_gan/shapes.yaml
  python launch/tune.py configs/sweeps/attend_gan/shapes.yaml trials=6 settings.seed=3 --name first
  python launch/tune.py runs/first --resume
  python launch/tune.py runs/first --confirm 3
  ray job submit --working-dir . -- python launch/tune.py SWEEP settings.data.path=$PWD/data/shapes

A sweep keeps everything in OUT/NAME: each trial's run, results.parquet and .csv, report.html,
best.yaml for launch/train.py. Ctrl-C and SIGTERM let the trials save and leave; --resume goes on
without repeating what has ended. --confirm N runs the best settings and the config's own again on
N new seeds and reports the difference. Without a cluster at --address, RAY_ADDRESS or on this
machine, one is started.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from distgan.config import Config, load_config, save_config
from distgan.engine.runs import CONFIG, RunError, keep_at_home, new_folder
from distgan.engine.stop import StopOnSignal
from distgan.methods import CONFIGS, training
from distgan.settings import save_settings, with_absolute_paths
from distgan.sweeps.checks import check
from distgan.sweeps.journal import SWEEP, Journal
from distgan.sweeps.plan import Sweep, load_sweep, trial_config
from distgan.sweeps.results import best, rows, write, write_hparams
from distgan.sweeps.search import trial_count

FAILED, WRONG_INPUT = 1, 2
MAY_CHANGE = ("trials", "max_concurrent", "max_failures", "max_seconds")


def main(words: Sequence[str]) -> int:
    """Sweep as the command line says; the exit code."""
    arguments = parse(words)
    if arguments.address:
        os.environ["RAY_ADDRESS"] = arguments.address
    try:
        plan, base, folder = prepare(arguments)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return WRONG_INPUT
    print(f"sweep: {folder}", flush=True)
    with StopOnSignal() as stop:
        try:
            ended = play(arguments, plan, base, folder, stop)
        except ValueError as error:
            print(f"error: {error}", file=sys.stderr)
            return WRONG_INPUT
        except (OSError, RunError) as error:
            print(f"error: {error}", file=sys.stderr)
            return FAILED
    if ended:
        return 0
    confirming = f" --confirm {arguments.confirm}" * bool(arguments.confirm)
    again = f"python launch/tune.py {shlex.quote(str(folder))} --resume{confirming}"
    print(f"not at its end; go on with: {again}", flush=True)
    return stop.exit_code if stop() else FAILED


def parse(words: Sequence[str]) -> argparse.Namespace:
    """The command line. `source` is the first word that is no override."""
    summary, _, rest = str(__doc__).partition("\n\n")
    parser = argparse.ArgumentParser(
        usage="python launch/tune.py SWEEP [key=value ...] [--name NAME] [--resume] [--confirm N]",
        description=summary,
        epilog=rest,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("words", nargs="+", metavar="SWEEP [key=value ...]", help="a YAML file or a sweep's folder")
    add("--name", help="the sweep's folder under OUT; default: the file's name and the time")
    add("--resume", action="store_true", help="go on with the sweep in that folder")
    add("--address", help="of the Ray cluster; default: RAY_ADDRESS, or this machine's")
    add("--confirm", type=int, metavar="N", help="afterwards, best against default on N new seeds")
    arguments = parser.parse_intermixed_args(words)
    arguments.source = Path(arguments.words.pop(0))
    if "=" in arguments.source.name:
        parser.error("name a sweep's YAML file or its folder first")
    if arguments.confirm is not None and arguments.confirm < 1:
        parser.error("--confirm: at least 1 seed")
    return arguments


def prepare(arguments: argparse.Namespace) -> tuple[Sweep, Config, Path]:
    """Everything that can be known to be wrong before a sweep begins; then its folder."""
    here, source = Path.cwd(), arguments.source
    if (here / source).is_dir():
        return reopen(arguments, (here / source).resolve())
    if arguments.resume:
        raise ValueError(f"--resume: {source} is no sweep's folder")
    plan = load_sweep(here / source, arguments.words)
    if not plan.config:
        raise ValueError("config must name the runs' YAML file, seen from the sweep's own")
    runs = (here / source).parent / plan.config
    fixed = trial_config(load_config(runs, methods=CONFIGS), plan, {})
    out = keep_at_home(str((here / plan.out).resolve()), here)
    plan = replace(plan, settings={}, config=str(runs.resolve()), out=out)
    base = with_absolute_paths(replace(fixed, name=None, out=out), here)
    training.check(base, base.engine.workers)
    check(plan, base)
    folder = new_folder(Path(plan.out), arguments.name or plan.name, source.stem)
    save_settings(replace(plan, name=folder.name), folder / SWEEP)
    save_config(base, folder / CONFIG)
    return plan, base, folder


def reopen(arguments: argparse.Namespace, folder: Path) -> tuple[Sweep, Config, Path]:
    """A sweep that has begun, with what may change of it changed, for later starts too."""
    if not (folder / SWEEP).is_file():
        raise ValueError(f"{folder} is no sweep: it has no {SWEEP}")
    if not arguments.resume and arguments.confirm is None:
        raise ValueError(f"{folder} is a sweep: add --resume to continue it")
    for word in arguments.words:
        if word.partition("=")[0] not in MAY_CHANGE:
            raise ValueError(f"{word}: of a sweep that has begun only {', '.join(MAY_CHANGE)} may")
    plan = load_sweep(folder / SWEEP, arguments.words)
    begun, count = max(Journal(folder).trials, default=-1) + 1, trial_count(plan)
    if count < begun:
        raise ValueError(f"trials={plan.trials}: {begun} trials have begun, say at least that many")
    fresh = folder / f"{SWEEP}.new"
    save_settings(plan, fresh)
    fresh.replace(folder / SWEEP)
    return plan, load_config(folder / CONFIG, methods=CONFIGS), folder


def play(
    arguments: argparse.Namespace, plan: Sweep, base: Config, folder: Path, stop: StopOnSignal
) -> bool:
    """Run what is left and write the report; False if it was stopped."""
    from distgan.cluster.confirm import confirm
    from distgan.cluster.tune import sweep

    ended = sweep(plan, base, folder, should_stop=stop)
    write(Journal(folder), plan, base)
    try:
        if not ended or arguments.confirm is None:
            return ended
        return confirm(plan, base, folder, arguments.confirm, should_stop=stop)
    finally:
        show(plan, folder)


def show(plan: Sweep, folder: Path) -> None:
    """Write the report and say where it is."""
    from distgan.sweeps.report import write as write_report

    journal = Journal(folder)
    found = rows(journal, plan)
    if not found:
        return
    write_hparams(found, folder)
    path = write_report(journal, plan, found)
    winner = best(found, plan)
    if winner is not None:
        metric = plan.objectives[0].metric
        print(f"best: trial {winner.number}, {metric} {winner.values[metric]:.4g}")
        print(f"      python launch/train.py {folder / 'best.yaml'}")
    print(f"report: {path}", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
