"""Each loss moves its learner, and only its learner: weights, buffers, gradients and modes."""

from __future__ import annotations

import pytest
import torch
from tiny_methods import SAMPLES, Captioner, ImageGAN, TinyConfig, Wasserstein
from tiny_runs import Case, build, play_case, trespasses

from distgan.config import OptimizerConfig
from distgan.engine.loop import Round, learn, play
from distgan.engine.stages import Batch, Loss, Moment, Prepared, Progress, Stage, Update
from distgan.engine.world import World

CLIPPED = OptimizerConfig(name="rmsprop", lr=0.01, clip_weights=0.1)

CASES = {
    "captioner": Case(Captioner, TinyConfig(rounds=4, dropout=0.3)),
    "image gan": Case(ImageGAN, TinyConfig(batch_norm=True, dropout=0.3)),
    "image gan, accumulating": Case(ImageGAN, TinyConfig(batch_norm=True), accumulate=2),
    "penalty": Case(Wasserstein, TinyConfig()),
    "clipped": Case(Wasserstein, TinyConfig(discriminator=CLIPPED)),
}


@pytest.mark.parametrize("name", CASES)
def test_an_update_moves_all_of_its_learner_and_nothing_else(name):
    assert trespasses(CASES[name]) == []


class Spied(ImageGAN):
    """Remembers which modules were in training mode, in preparing and in the losses."""

    def __init__(self, config, world) -> None:
        super().__init__(config, world)
        self.preparing: set[str] = set()
        self.learning: dict[str, set[str]] = {"generator": set(), "discriminator": set()}

    def in_training(self) -> set[str]:
        parts = {**self.networks, **self.frozen}.items()
        return {f"{n}.{k}" for n, net in parts for k, m in net.named_modules() if m.training}

    def noise(self, moment: Moment, batch: Batch) -> Prepared:
        self.preparing |= self.in_training()
        assert not torch.is_grad_enabled()
        return super().noise(moment, batch)

    def fool(self, batch: Batch) -> Loss:
        self.learning["generator"] |= self.in_training()
        return super().fool(batch)

    def tell_apart(self, batch: Batch) -> Loss:
        self.learning["discriminator"] |= self.in_training()
        return super().tell_apart(batch)


def test_dropout_and_running_statistics_are_off_where_nothing_learns():
    method, players = build(World.local(), Case(Spied, TinyConfig(batch_norm=True, dropout=0.3)))
    play(method.algorithm(), players, Progress(), lambda stage, result: False)
    assert method.preparing == set(), "from the very first update on"
    for name, training in method.learning.items():
        assert {module.partition(".")[0] for module in training} == {name}
    assert "generator.dropout" in method.learning["generator"]
    assert method.in_training() == set()


def test_frozen_submodules_stay_in_evaluation_mode():
    method, players = build(World.local(), Case(Captioner, TinyConfig(dropout=0.3)))
    learner, writer = players.learners["generator"], method.writer
    for groups, dropout, encoder in (
        (("decoder",), True, False),
        (("encoder",), False, True),
        (None, True, True),
    ):
        learner.wrap(groups)
        with learner.only_learning(players.learners.values()):
            modes = writer.decoder["dropout"].training, writer.encoder.training
            learns = {k.partition(".")[0] for k, p in writer.named_parameters() if p.requires_grad}
            assert modes == (dropout, encoder)
            assert learns == set(groups or ("encoder", "decoder"))
        assert all(p.requires_grad for p in writer.parameters())


def test_a_submodule_frozen_by_its_builder_never_learns():
    case = Case(Captioner, TinyConfig())
    method, _ = build(World.local(), case)
    method.writer.encoder.requires_grad_(False)
    learner = case.learner("generator", method.writer, case.tiny.generator, World.local())
    learner.wrap()
    with learner.only_learning([learner]):
        assert not any(p.requires_grad for p in method.writer.encoder.parameters())
        assert not method.writer.encoder.training
    with pytest.raises(ValueError, match="generator: nothing learns under 'encoder'"):
        learner.wrap(("encoder",))


def test_noise_comes_from_keys_alone():
    """What is sampled depends on no generator, whatever has been drawn from it before."""
    case = Case(Captioner, TinyConfig(dropout=0.3))
    method, players = build(World.local(), case)
    torch.manual_seed(999)
    play(method.algorithm(), players, Progress(), lambda stage, result: torch.rand(3).sum() < 0)
    assert all(map(torch.equal, method.drawn, play_case(World.local(), case).drawn))


def test_one_batch_one_set_of_fakes_and_one_generator_forward_a_round():
    method, players = build(World.local(), Case(ImageGAN, TinyConfig(rows=7, rounds=1)))
    progress = Progress()
    paint, judge = method.algorithm()[0].updates
    for learner in players.learners.values():
        learner.wrap()
    batches = learn(paint, (), players, progress, Round())
    fakes = [batches[0][f"fake{n}"] for n in range(3)]
    assert [tuple(fake.shape) for fake in fakes] == [(7, 3, s, s) for s in (4, 8, 16)]
    assert not any(fake.requires_grad for fake in fakes)
    again = learn(judge, batches, players, progress, Round())
    assert all(again[0][key] is batches[0][key] for key in batches[0])
    assert method.forwards == 1
    assert players.streams["images"].consumed == 7
    assert progress.update == 2


def test_batches_cross_the_end_of_an_epoch():
    _, players = build(World.local(), Case(ImageGAN, TinyConfig(rows=7)))
    stream, seen = players.streams["images"], []
    for _ in range(SAMPLES):
        seen += next(stream)["id"].tolist()
    epochs = [seen[start : start + SAMPLES] for start in range(0, len(seen), SAMPLES)]
    assert all(sorted(epoch) == list(range(SAMPLES)) for epoch in epochs)
    assert epochs[0] != epochs[1]


def test_what_cannot_be_played_is_said():
    reuse = Update("generator", lambda batch: Loss(batch["weight"].sum()), reuse=True)
    with pytest.raises(ValueError, match="no batch to reuse"):
        Stage("first", 1, (reuse,))
    with pytest.raises(ValueError, match="not both"):
        Update("generator", reuse.loss, data=("images",), reuse=True)
    with pytest.raises(ValueError, match="train names 'painter'"):
        Stage("a", 1, (Update("generator", reuse.loss, data=("x",)),), train={"painter": ("x",)})


def test_a_finished_stage_is_not_entered_again():
    """A run resumed at the end of a stage goes on with the next one."""
    method, players = build(World.local(), Case(Wasserstein, TinyConfig()))
    entered = []
    (stage,) = method.algorithm()
    stages = [
        Stage(name, rounds, stage.updates, enter=lambda name=name: entered.append(name))
        for name, rounds in (("first", 2), ("none", 0), ("second", 1))
    ]
    assert play(stages, players, Progress(stage=0, round=2), lambda stage, result: False)
    assert entered == ["second"]


def test_asked_to_stop_at_the_end_a_run_is_finished():
    method, players = build(World.local(), Case(Wasserstein, TinyConfig(rounds=2)))
    progress = Progress()
    assert not play(method.algorithm(), players, progress, lambda stage, result: True)
    assert play(method.algorithm(), players, progress, lambda stage, result: True)
    assert progress.total_rounds == 2
