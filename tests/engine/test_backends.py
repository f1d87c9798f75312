"""Which backend a network gets, and what is refused before anything starts."""

from __future__ import annotations

import subprocess
import sys

import pytest
from torch import nn

from distgan.config import BackendConfig, EngineConfig, OptimizerConfig
from distgan.engine import backends
from distgan.engine.backends import build_learner, check_backends, choose, plainly
from distgan.engine.learner import Learner
from distgan.engine.world import World

NETWORKS = ("generator", "discriminator")
DEEP = BackendConfig(backend="deepspeed", zero=2, offload="cpu")


def test_each_network_may_have_its_own():
    engine = EngineConfig(workers=2, networks={"discriminator": DEEP})
    own, other = choose(engine, "discriminator"), choose(engine, "generator")
    assert (own.backend, own.zero, own.offload) == ("deepspeed", 2, True)
    assert other.backend == "auto"


def test_what_is_not_said_for_a_network_is_as_for_all():
    few = {"generator": BackendConfig(zero=0, offload="none"), "discriminator": BackendConfig()}
    engine = EngineConfig(backend="deepspeed", zero=3, offload="cpu", networks=few)
    own, other = choose(engine, "generator"), choose(engine, "discriminator")
    assert (own.backend, own.zero, own.offload) == ("deepspeed", 0, False)
    assert (other.backend, other.zero, other.offload) == ("deepspeed", 3, True)
    assert choose(EngineConfig(backend="deepspeed"), "generator").zero == 1


def engine(**settings) -> EngineConfig:
    own = settings.pop("discriminator", None)
    return EngineConfig(**settings, networks={"discriminator": own} if own else {})


REFUSED = {
    "engine.networks.critic: the networks are generator, discriminator": EngineConfig(
        networks={"critic": DEEP}
    ),
    "engine.zero=2 is deepspeed's, but engine.backend=auto": engine(zero=2),
    "engine.offload=cpu is deepspeed's, but engine.backend=ddp": engine(
        backend="ddp", offload="cpu"
    ),
    "engine.networks.discriminator.zero=1 is deepspeed's, but engine.backend=auto": engine(
        discriminator=BackendConfig(zero=1)
    ),
    "engine.networks.discriminator.offload=cpu is deepspeed's, but "
    "engine.networks.discriminator.backend=ddp": engine(
        backend="deepspeed", discriminator=BackendConfig(backend="ddp", offload="cpu")
    ),
    "engine.backend=local is one process, but engine.workers=2": engine(backend="local", workers=2),
    "engine.precision=fp16 needs loss scaling, which only engine.backend=deepspeed has, but for "
    "generator: engine.backend=auto": engine(precision="fp16", discriminator=DEEP),
    "engine.precision=float64: DeepSpeed computes in float32 at most, and "
    "engine.networks.discriminator.backend=deepspeed": engine(
        precision="float64", discriminator=DEEP
    ),
    "engine.offload=cpu needs zero=1, 2 or 3, but engine.networks.discriminator.zero=0": engine(
        backend="deepspeed", offload="cpu", discriminator=BackendConfig(zero=0)
    ),
    "engine.precision=fp16 needs zero=1, 2 or 3, but engine.zero=0 for generator": engine(
        backend="deepspeed", zero=0, precision="fp16"
    ),
    "engine.precision=fp16 needs a GPU, but engine.device=cpu": engine(
        backend="deepspeed", precision="fp16", device="cpu"
    ),
}


@pytest.mark.parametrize("said", REFUSED)
def test_what_cannot_work_is_refused(said, monkeypatch):
    monkeypatch.setattr(backends, "find_spec", lambda name: object())  # as if it were installed
    with pytest.raises(ValueError) as caught:
        check_backends(REFUSED[said], NETWORKS)
    assert said in str(caught.value)


def test_a_missing_deepspeed_is_said_before_anything_starts(monkeypatch):
    monkeypatch.setattr(backends, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"not installed: pip install 'distgan\[deepspeed\]'"):
        check_backends(engine(discriminator=DEEP), NETWORKS)
    check_backends(engine(discriminator=DEEP), NETWORKS, local=True)


def test_one_process_of_its_own_trains_plainly_and_refuses_what_it_cannot():
    deep = engine(backend="deepspeed", zero=3, workers=4)
    check_backends(deep, NETWORKS, local=True)
    learner = build_learner("net", nn.Linear(2, 2), OptimizerConfig(), World.local(), deep)
    assert type(learner) is Learner
    with pytest.raises(ValueError, match=r"fp16 needs loss scaling.*--local trains plainly"):
        check_backends(engine(backend="deepspeed", precision="fp16"), NETWORKS, local=True)
    check_backends(plainly(deep), NETWORKS)


def test_deepspeed_is_not_imported_unless_chosen():
    program = (
        "import sys\n"
        "sys.modules['deepspeed'] = None\n"
        "import distgan.engine.backends, distgan.engine.deepspeed\n"
        "assert 'distgan.methods' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
