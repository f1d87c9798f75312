"""A run's folder: what it is called, that nobody else has it, and how to find it again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import chain, count
from pathlib import Path

from distgan.config import Config, load_config, save_config
from distgan.settings import with_absolute_paths

CONFIG, ERROR = "config.yaml", "error.txt"


class RunError(RuntimeError):
    """Training failed; the message is one line and `error.txt` in the run's folder has the rest."""


def read_config(
    source: str | Path, overrides: Sequence[str], root: Path, *, methods: Mapping[str, type]
) -> Config:
    """The config of a YAML file, or of a run's folder, file names taken from `root`."""
    path = root / source
    file = path / CONFIG if path.is_dir() else path
    if path.is_dir() and not file.is_file():
        raise ValueError(f"{path} is no run: it has no {CONFIG}")
    config = with_absolute_paths(load_config(file, overrides, methods=methods), root)
    assert isinstance(config, Config)
    return config


def open_run(config: Config, source: Path, *, resume: bool) -> tuple[Config, Path]:
    """Make the run's folder, or with `resume` take it if it is there; keep the config in it.

    `source` is what the config was read from: a YAML file names a new run, a run's folder is
    taken as it is. Returns the config with the run's name in it, and the folder.
    """
    if source.is_dir():
        config = replace(config, name=source.name, out=str(source.parent))
        if not resume:
            raise ValueError(f"{source} is a run: add --resume to continue it")
    elif config.name is None and resume:
        raise ValueError(f"--resume: which run? Add --name NAME. {_newest(config, source.stem)}")
    elif config.name is None:
        config = replace(config, name=_new_name(Path(config.out), source.stem))
    folder = _claim(Path(config.out), str(config.name), resume=resume)
    config = replace(config, name=folder.name)
    fresh = folder / f".{CONFIG}.new"
    save_config(config, fresh)
    fresh.replace(folder / CONFIG)
    return config, folder


def new_folder(out: Path, name: str | None, stem: str) -> Path:
    """Make a new folder in `out`, of that name or of the stem and the time."""
    return _claim(out, name or _new_name(out, stem), resume=False)


def keep_at_home(out: str, here: Path) -> str:
    """A submitted job runs in a copy of its folder, which Ray deletes: its runs go elsewhere."""
    if "working_dir_files" not in here.parts or not Path(out).is_relative_to(here):
        return out
    home = Path.home() / Path(out).relative_to(here)
    print(f"this job's folder is a passing copy: runs are kept in {home} (out=/DIR changes it)")
    return str(home)


def _new_name(out: Path, stem: str) -> str:
    """The stem and the time; runs of the same second are counted."""
    name = f"{stem}-{datetime.now():%Y%m%d-%H%M%S}"
    others = (f"{name}-{number}" for number in count(2))
    return next(each for each in chain([name], others) if not (out / each).exists())


def _claim(out: Path, name: str, *, resume: bool) -> Path:
    folder = out / name
    try:
        folder.mkdir(parents=True, exist_ok=resume)
    except FileExistsError as error:
        raise ValueError(
            f"name={name} is in use: {folder} exists; --resume continues that run, "
            "--name NAME starts another"
        ) from error
    except OSError as error:
        raise ValueError(f"out={out}: cannot make {folder}: {error.strerror}") from error
    return folder


def _newest(config: Config, stem: str) -> str:
    found = [path.parent for path in Path(config.out).glob(f"{stem}*/{CONFIG}")]
    found.sort(key=lambda run: (run / CONFIG).stat().st_mtime, reverse=True)
    names = ", ".join(run.name for run in found[:5])
    return f"Newest in {config.out}: {names}" if names else f"There is none in {config.out}."
