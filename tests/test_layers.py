"""Who may import whom, and where each heavy library lives."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

BOTTOM = {"settings", "config"}
LOW = BOTTOM | {"models", "data", "losses", "randomness"}
MIDDLE = LOW | {"engine", "rollouts", "advantages", "metrics", "sampling", "work", "completions"}
MAY_IMPORT = {
    "settings": set[str](),
    "config": {"settings"},
    "randomness": set[str](),
    "models": BOTTOM | {"randomness"},
    "losses": BOTTOM | {"randomness", "models"},  # which word is no word
    "data": BOTTOM | {"randomness"},
    "engine": BOTTOM | {"randomness", "losses"},
    "sampling": BOTTOM | {"models", "randomness"},
    "work": BOTTOM | {"models"},
    "completions": BOTTOM | {"models", "randomness", "sampling", "work"},
    "rollouts": BOTTOM | {"models", "losses", "randomness", "sampling", "work", "completions"},
    "advantages": BOTTOM | {"models", "losses", "randomness", "rollouts"},
    "metrics": LOW,
    "methods": MIDDLE,
    "sweeps": BOTTOM,
    "cluster": MIDDLE | {"methods", "sweeps"},
    "benchmarks": MIDDLE | {"methods"},
    "launch": MIDDLE | {"methods", "sweeps", "cluster", "benchmarks"},
    "__init__": MIDDLE | {"methods"},
}

HOMES = {  # where a library may be imported at all, even inside a function
    "ray": ("distgan/cluster/",),
    "deepspeed": ("distgan/engine/deepspeed.py",),
    "torch.distributed": ("distgan/engine/", "distgan/cluster/"),
    "omegaconf": ("distgan/settings.py", "distgan/config.py"),
    "transformers": ("distgan/models/",),
    "webdataset": ("distgan/data/", "distgan/benchmarks/"),
    "h5py": ("distgan/data/importers/fashiongen.py",),
    "pyarrow": ("distgan/data/", "distgan/metrics/", "distgan/sweeps/results.py"),
    "optuna": ("distgan/sweeps/search.py",),
    "pycocoevalcap": ("distgan/metrics/",),
    "tensorboard": ("distgan/engine/log.py",),
    "torch.utils.tensorboard": ("distgan/engine/log.py", "distgan/sweeps/results.py"),
}

BARE = "ray deepspeed omegaconf webdataset pyarrow transformers tensorboard matplotlib tqdm"

FILES = sorted([*ROOT.glob("distgan/**/*.py"), *ROOT.glob("launch/*.py")])


def imports(path: Path) -> Iterator[str]:
    """Every module a file imports, anywhere in it, as absolute dotted names."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            yield from (f"{node.module}.{name.name}" for name in node.names)


def layer(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return parts[1] if parts[0] == "distgan" else parts[0]


def is_within(module: str, package: str) -> bool:
    return f"{module}.".startswith(f"{package}.")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_run_one_way(path: Path) -> None:
    mine = layer(path)
    for module in imports(path):
        assert not is_within(module, "launch"), f"{path} imports a program: {module}"
        if is_within(module, "distgan") and module.count("."):
            other = module.split(".")[1]
            if other in MAY_IMPORT:  # else a name of distgan itself, such as its version
                assert other in MAY_IMPORT[mine] | {mine}, f"{mine} may not import {module}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_heavy_libraries_stay_at_home(path: Path) -> None:
    where = str(path.relative_to(ROOT))
    for module in imports(path):
        for library, homes in HOMES.items():
            if is_within(module, library):
                assert where.startswith(homes), f"{where} imports {module}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_untrusted_is_unpickled(path: Path) -> None:
    """`torch.load` says `weights_only=True`; pickles are opened by the importers' reader alone."""
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Call):
            continue
        name, said = ast.unparse(node.func), {k.arg: ast.unparse(k.value) for k in node.keywords}
        assert name not in {"pickle.load", "pickle.loads", "yaml.load", "joblib.load"}, path
        assert name != "torch.load" or said.get("weights_only") == "True", path
        assert said.get("allow_pickle", "False") == "False", path
        if name == "pickle.Unpickler":
            assert path.is_relative_to(ROOT / "distgan/data/importers"), path


def run_without(blocked: str, program: str) -> None:
    """Run `program` in a fresh interpreter in which `blocked` cannot be imported."""
    block = f"import sys\nfor name in {blocked.split()!r}: sys.modules[name] = None\n"
    done = subprocess.run(
        [sys.executable, "-c", block + program], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_the_core_imports_with_torch_and_numpy_alone() -> None:
    """A bare GPU box may have only torch."""
    core = (
        "settings.py",
        "config.py",
        "losses.py",
        "randomness.py",
        "rollouts.py",
        "advantages.py",
        "completions.py",
    )
    paths = [ROOT / "distgan" / name for name in core]
    for package in ("engine", "models"):
        paths += sorted((ROOT / "distgan" / package).glob("**/*.py"))
    names = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in paths
        if path.is_file() and path.name != "deepspeed.py"
    ]
    run_without(
        BARE, "from importlib import import_module\n" + f"for n in {names!r}: import_module(n)"
    )


def test_methods_import_without_ray_and_deepspeed() -> None:
    names = [f"distgan.methods.{path.stem}" for path in (ROOT / "distgan/methods").glob("*.py")]
    run_without(
        "ray deepspeed",
        "from importlib import import_module\n"
        f"for n in {sorted(names)!r}: import_module(n.removesuffix('.__init__'))",
    )


@pytest.mark.parametrize("path", sorted(ROOT.glob("launch/*.py")), ids=lambda path: path.name)
def test_every_program_has_help_without_ray(path: Path) -> None:
    run_without(
        BARE if path.name == "bench.py" else "ray deepspeed",
        "import contextlib, io, runpy\n"
        f"sys.argv = [{str(path)!r}, '--help']\n"
        "said = io.StringIO()\n"
        "with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):\n"
        "    runpy.run_path(sys.argv[0], run_name='__main__')\n"
        f"assert {path.name!r} in said.getvalue(), said.getvalue()",
    )
