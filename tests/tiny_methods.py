"""Three tiny methods that drive the engine through everything a real one asks of it.

`Captioner`: MLE, a critic, then both in turn with a policy gradient; words sampled from keyed
uniforms; state of its own beside the networks. `ImageGAN`: three discriminators that are one
learner, a frozen matching network that is none, one batch and one set of fakes for both players.
`Wasserstein`: several critic steps a round, with a gradient penalty or with clipped weights.

Letters: B samples, T words, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from distgan.config import Config, OptimizerConfig
from distgan.engine.log import Log
from distgan.engine.stages import Batch, Loss, Moment, Prepared, Stage, Update
from distgan.engine.world import World
from distgan.losses import (
    bce_critic,
    gradient_penalty,
    mask,
    mle,
    policy_gradient,
    wasserstein_critic,
    word_log_probs,
)
from distgan.models.decoder import END, PAD, START, UNK
from distgan.randomness import STREAMS, Draw, normals, uniforms

V, T = 12, 5
SAMPLES = 23  # fewer than a few batches, so that batches cross the ends of epochs


@dataclass(frozen=True, kw_only=True)
class TinyConfig:
    """What all three are told; `rows` is the size of a global batch."""

    rows: int = 7
    rounds: int = 4  # of each stage
    dropout: float = 0.0
    batch_norm: bool = False
    critic_steps: int = 2
    generator: OptimizerConfig = field(default_factory=lambda: OptimizerConfig(lr=0.02))
    discriminator: OptimizerConfig = field(default_factory=lambda: OptimizerConfig(lr=0.02))


class TinyStream:
    """Samples in memory. Their order is a pure function of (seed, epoch); a rank takes a run of
    neighbours of each global batch, and shares differ by one at most."""

    def __init__(self, data: dict[str, Tensor], rows: int, seed: int, world: World) -> None:
        self.data, self.rows, self.seed, self.world = data, rows, seed, world
        self.size = len(next(iter(data.values())))
        self.consumed = 0  # by all ranks
        self._before = torch.zeros(2, dtype=torch.int64)  # count and digest up to a resume
        self._since = torch.zeros(2, dtype=torch.int64)  # this rank's, since then

    def __next__(self) -> Batch:
        cuts = [self.rows * rank // self.world.size for rank in range(self.world.size + 1)]
        mine = range(cuts[self.world.rank], cuts[self.world.rank + 1])
        position = torch.tensor([self.consumed + row for row in mine])
        self.consumed += self.rows
        id = torch.tensor([order(self.seed, self.size, int(p)) for p in position])
        self._since += torch.stack([torch.tensor(len(id)), digest(position, id)])
        return {
            "key": [f"sample-{i}" for i in id],
            "position": position,
            "id": id,
            "weight": torch.full((len(id),), 1 / self.rows, dtype=torch.float64),
            **{name: values[id] for name, values in self.data.items()},
        }

    def state_dict(self, total: Callable[[Tensor], Tensor]) -> dict[str, Any]:
        count, mixed = (self._before + total(self._since)).tolist()
        return {"consumed": self.consumed, "count": count, "digest": mixed}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.consumed = state["consumed"]
        self._before = torch.tensor([state["count"], state["digest"]])
        self._since.zero_()


def order(seed: int, size: int, position: int) -> int:
    """The sample at a place of the endless stream: each epoch is a permutation."""
    epoch, place = divmod(position, size)
    return _permutation(seed, size, epoch)[place]


@cache
def _permutation(seed: int, size: int, epoch: int) -> list[int]:
    draws = uniforms(Draw(seed, STREAMS["order"], epoch), torch.arange(size))
    return draws.argsort().tolist()


def digest(position: Tensor, id: Tensor) -> Tensor:
    """One number, modulo 2**64, of which samples were read in which places, in any sequence."""
    mixed = (position + 1) * 6364136223846793005 ^ (id + 1) * 1442695040888963407
    return (mixed * mixed).sum()


class TinyMethod:
    """What is alike in the three: no state beside the networks, nothing to show."""

    def __init__(self, config: Config, world: World) -> None:
        self.config: TinyConfig = config.method
        self.seed, self.world = config.seed, world
        self.networks: dict[str, nn.Module] = {}
        self.frozen: dict[str, nn.Module] = {}
        """Networks that take part and never learn."""
        self.optimizers: Mapping[str, OptimizerConfig] = {
            "generator": self.config.generator,
            "discriminator": self.config.discriminator,
        }
        self.drawn: list[Tensor] = []
        """What each `prepare` drew on this rank, one row a sample."""

    @classmethod
    def check(cls, config: Config) -> None:
        """Everything works."""

    def identity(self) -> dict[str, Any]:
        return {"data": f"{SAMPLES} samples", "vocabulary": str(V)}

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """There is nothing."""

    def show(self, log: Log, stage: Stage, step: int) -> None:
        """There is nothing to see."""

    def interpret(self, metrics: dict[str, float]) -> tuple[dict[str, float], list[str]]:
        return metrics, []


class Writer(nn.Module):
    """A captioner with a recurrent state; submodules `encoder` and `decoder`."""

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.encoder = nn.Linear(6, 8)
        self.decoder = nn.ModuleDict(
            {
                "embedding": nn.Embedding(V, 5),
                "cell": nn.GRUCell(5, 8),
                "dropout": nn.Dropout(dropout),
                "out": nn.Linear(8, V),
            }
        )

    def start(self, image: Tensor) -> Tensor:
        """The state before the first word: (B, 8) from image (B, 6)."""
        return torch.tanh(self.encoder(image.to(self.encoder.weight.dtype)))

    def step(self, words: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (B, V) of the next word and the new state, from words (B,) and a state."""
        state = self.decoder["cell"](self.decoder["embedding"](words), state)
        logits = self.decoder["out"](self.decoder["dropout"](state))
        return logits.index_fill(-1, torch.tensor([PAD, START]), -torch.inf), state

    def forward(self, image: Tensor, words: Tensor) -> Tensor:
        """Logits (B, T, V) that choose `words` (B, T), read from the true words before."""
        state, logits = self.start(image), []
        read = torch.cat([torch.full_like(words[:, :1], START), words[:, :-1]], 1)
        for t in range(words.shape[1]):
            now, state = self.step(read[:, t], state)
            logits.append(now)
        return torch.stack(logits, 1)

    def sample(self, image: Tensor, chance: Tensor) -> Tensor:
        """Words (B, T) by inverse CDF from uniforms (B, T); UNK is never picked."""
        state, words = self.start(image), []
        read = torch.full((len(image),), START)
        for t in range(T):
            logits, state = self.step(read, state)
            chances = logits.index_fill(-1, torch.tensor([UNK]), -torch.inf).double().softmax(-1)
            bins = chances.cumsum(-1) / chances.sum(-1, keepdim=True)
            picked = torch.searchsorted(bins, chance[:, t : t + 1].contiguous(), right=True)[:, 0]
            read = torch.where((read == END) | (read == PAD), PAD, picked.clamp_max(V - 1))
            words.append(read)
        return torch.stack(words, 1)


class Reader(nn.Module):
    """A critic of captions and whether they fit the image: scores (B,)."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(V, 5)
        self.cell = nn.GRUCell(5, 8)
        self.image = nn.Linear(6, 8)
        self.out = nn.Linear(8, 1)

    def forward(self, image: Tensor, words: Tensor) -> Tensor:
        state = torch.tanh(self.image(image.to(self.image.weight.dtype)))
        for t in range(words.shape[1]):
            moved = self.cell(self.embedding(words[:, t]), state)
            state = torch.where(mask(words)[:, t, None], moved, state)
        return self.out(state)[:, 0]


class Captioner(TinyMethod):
    """MLE, critic, adversarial, with two streams; its state is a running mean of rewards."""

    def __init__(self, config: Config, world: World) -> None:
        super().__init__(config, world)
        self.writer, self.reader = Writer(self.config.dropout), Reader()
        self.networks = {"generator": self.writer, "discriminator": self.reader}
        self.usual_reward = torch.zeros((), dtype=torch.float64)

    def algorithm(self) -> tuple[Stage, ...]:
        rounds = self.config.rounds
        write = Update("generator", self.mle, data=("captions",))
        judge = Update("discriminator", self.real_or_fake, data=("critiques",), prepare=self.fakes)
        again = Update(
            "discriminator",
            self.real_or_fake,
            data=("critiques",),
            prepare=self.fakes,
            times=self.config.critic_steps,
        )
        act = Update("generator", self.act, data=("captions",), prepare=self.try_out)
        return (
            Stage("mle", rounds, (write,), train={"generator": ("decoder",)}),
            Stage("critic", rounds, (judge,)),
            Stage("adversarial", rounds, (act, again)),
        )

    def streams(self) -> Mapping[str, TinyStream]:
        noise = torch.Generator().manual_seed(1)
        length = torch.randint(1, T, (SAMPLES, 1), generator=noise)
        words = torch.randint(UNK + 1, V, (SAMPLES, T), generator=noise)
        place = torch.arange(T)
        words = words.masked_fill(place == length, END).masked_fill(place > length, PAD)
        data = {"image": torch.randn(SAMPLES, 6, generator=noise), "words": words}
        rows = self.config.rows
        return {
            "captions": TinyStream(data, rows, self.seed, self.world),
            "critiques": TinyStream(data, rows + 3, self.seed + 1, self.world),
        }

    def mle(self, batch: Batch) -> Loss:
        loss = mle(self.writer(batch["image"], batch["words"]), batch["words"], batch["weight"])
        return Loss(loss, {"mle": loss})

    def fakes(self, moment: Moment, batch: Batch) -> Prepared:
        return Prepared(({**batch, "fake": self._write("fakes", moment, batch)},))

    def real_or_fake(self, batch: Batch) -> Loss:
        real = self.reader(batch["image"], batch["words"])
        fake = self.reader(batch["image"], batch["fake"])
        weight = batch["weight"]
        return Loss(bce_critic(real, fake, weight, weight), {"gap": (weight * (real - fake)).sum()})

    def try_out(self, moment: Moment, batch: Batch) -> Prepared:
        """Captions of the writer's own and how much better than usual each is, whitened."""
        words = self._write("words", moment, batch)
        reward = self.reader(batch["image"], words).double().sigmoid()
        mean = self.world.sum((batch["weight"] * reward).sum())
        spread = self.world.sum((batch["weight"] * (reward - mean).square()).sum()).sqrt()
        self.usual_reward = 0.9 * self.usual_reward + 0.1 * mean
        better = (reward - self.usual_reward) / spread
        return Prepared(({**batch, "fake": words, "better": better},), {"reward": mean})

    def act(self, batch: Batch) -> Loss:
        logits = self.writer(batch["image"], batch["fake"])
        log_probs = word_log_probs(logits, batch["fake"], (UNK,))
        better = batch["better"][:, None].expand(-1, T)
        acting = policy_gradient(log_probs, better, batch["fake"], batch["weight"])
        copying = self.mle(batch).total
        return Loss(acting + 0.5 * copying, {"acting": acting})

    def _write(self, purpose: str, moment: Moment, batch: Batch) -> Tensor:
        draw = Draw(moment.seed, STREAMS[purpose], moment.update)
        chance = uniforms(draw, batch["position"][:, None], position=torch.arange(T))
        self.drawn.append(self.writer.sample(batch["image"], chance))
        return self.drawn[-1]

    def state_dict(self) -> dict[str, Any]:
        return {"usual_reward": self.usual_reward}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.usual_reward = state["usual_reward"]


class Painter(nn.Module):
    """Noise (B, 4) and condition (B, 3) to images of 4, 8 and 16 pixels.

    Each of three kinds of image, kind (B,), has a layer of its own, which nobody uses where a
    share of the batch has none of that kind.
    """

    def __init__(self, dropout: float, batch_norm: bool) -> None:
        super().__init__()
        self.stem = nn.Linear(7, 6 * 4 * 4)
        self.norm: nn.Module = nn.BatchNorm2d(6) if batch_norm else nn.GroupNorm(2, 6)
        self.dropout = nn.Dropout(dropout)
        self.grow = nn.ModuleList(nn.Conv2d(6, 6, 3, padding=1) for _ in range(2))
        self.paint = nn.ModuleList(nn.Conv2d(6, 3, 1) for _ in range(3))
        self.tint = nn.ModuleList(nn.Linear(4, 6) for _ in range(3))

    def forward(self, noise: Tensor, condition: Tensor, kind: Tensor) -> list[Tensor]:
        start = torch.cat([noise, condition], 1).to(self.stem.weight.dtype)
        hidden = self.dropout(self.norm(self.stem(start).view(-1, 6, 4, 4)).relu())
        for number in kind.unique().tolist():
            (rows,) = torch.where(kind == number)
            tint = self.tint[number](start[rows, :4])[:, :, None, None].expand(-1, -1, 4, 4)
            hidden = hidden.index_add(0, rows, tint.to(hidden.dtype))
        images = [self.paint[0](hidden).tanh()]
        for grow, paint in zip(self.grow, list(self.paint)[1:], strict=True):
            hidden = grow(functional.interpolate(hidden, scale_factor=2.0)).relu()
            images.append(paint(hidden).tanh())
        return images


def _judge(batch_norm: bool) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, stride=2, padding=1),
        nn.BatchNorm2d(6) if batch_norm else nn.GroupNorm(2, 6),
        nn.LeakyReLU(0.2),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(24, 1),
    )


class ImageGAN(TinyMethod):
    """The generator moves first and keeps its fakes; the discriminators take them over."""

    def __init__(self, config: Config, world: World) -> None:
        super().__init__(config, world)
        self.painter = Painter(self.config.dropout, self.config.batch_norm)
        self.judges = nn.ModuleList(_judge(self.config.batch_norm) for _ in range(3))
        self.networks = {"generator": self.painter, "discriminator": self.judges}
        double = config.engine.precision == "float64"
        self.matching = nn.Sequential(
            nn.Conv2d(3, 4, 3, stride=2), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(196, 3)
        ).to(torch.float64 if double else torch.float32)
        self.matching.requires_grad_(False).eval()
        self.frozen = {"matching": self.matching}
        self.forwards = 0

    def algorithm(self) -> tuple[Stage, ...]:
        paint = Update("generator", self.fool, data=("images",), prepare=self.noise)
        judge = Update("discriminator", self.tell_apart, reuse=True)
        return (Stage("adversarial", self.config.rounds, (paint, judge)),)

    def streams(self) -> Mapping[str, TinyStream]:
        noise = torch.Generator().manual_seed(2)
        data = {
            "image": torch.rand(SAMPLES, 3, 16, 16, generator=noise) * 2 - 1,
            "condition": torch.randn(SAMPLES, 3, generator=noise),
        }
        return {"images": TinyStream(data, self.config.rows, self.seed, self.world)}

    def noise(self, moment: Moment, batch: Batch) -> Prepared:
        draw = Draw(moment.seed, STREAMS["noise"], moment.update)
        self.drawn.append(normals(draw, batch["position"], 4))
        return Prepared(({**batch, "noise": self.drawn[-1]},))

    def fool(self, batch: Batch) -> Loss:
        self.forwards += 1
        fakes = self.painter(batch["noise"], batch["condition"], batch["id"] % 3)
        each = [functional.softplus(-D(x))[:, 0] for D, x in zip(self.judges, fakes, strict=True)]
        seen = self.matching(fakes[-1])
        match = 1 - functional.cosine_similarity(seen, batch["condition"].to(seen.dtype))
        matched = (batch["weight"] * match).sum()
        kept = {f"fake{number}": fake for number, fake in enumerate(fakes)}
        return Loss((batch["weight"] * sum(each)).sum() + matched, {"match": matched}, kept)

    def tell_apart(self, batch: Batch) -> Loss:
        total, weight = torch.zeros((), dtype=torch.float64), batch["weight"]
        for number, D in enumerate(self.judges):
            fake = batch[f"fake{number}"]
            real = functional.adaptive_avg_pool2d(batch["image"], fake.shape[-1]).to(fake.dtype)
            scores = D(torch.cat([real, fake]))[:, 0]
            total = total + bce_critic(*scores.chunk(2), weight, weight)
        return Loss(total)


class Wasserstein(TinyMethod):
    """Points in the plane; a gradient penalty unless the critic's weights are clipped."""

    def __init__(self, config: Config, world: World) -> None:
        super().__init__(config, world)
        self.maker = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2))
        self.critic = nn.Sequential(nn.Linear(2, 16), nn.Softplus(), nn.Linear(16, 1, bias=False))
        self.networks = {"generator": self.maker, "discriminator": self.critic}

    def algorithm(self) -> tuple[Stage, ...]:
        steps = self.config.critic_steps
        judge = Update(
            "discriminator", self.distance, data=("points",), prepare=self.make, times=steps
        )
        make = Update("generator", self.fool, data=("points",), prepare=self.noise)
        return (Stage("adversarial", self.config.rounds, (judge, make)),)

    def streams(self) -> Mapping[str, TinyStream]:
        points = torch.randn(SAMPLES, 2, generator=torch.Generator().manual_seed(3)) + 1
        return {"points": TinyStream({"point": points}, self.config.rows, self.seed, self.world)}

    def noise(self, moment: Moment, batch: Batch) -> Prepared:
        draw = Draw(moment.seed, STREAMS["noise"], moment.update)
        noise = normals(draw, batch["position"], 3).to(self.maker[0].weight.dtype)
        self.drawn.append(noise)
        return Prepared(({**batch, "noise": noise},))

    def make(self, moment: Moment, batch: Batch) -> Prepared:
        (batch,) = self.noise(moment, batch).batches
        epsilon = uniforms(Draw(moment.seed, STREAMS["penalty"], moment.update), batch["position"])
        return Prepared(({**batch, "fake": self.maker(batch["noise"]), "epsilon": epsilon},))

    def distance(self, batch: Batch) -> Loss:
        """The critic scores points as captions of one embedded word."""
        fake, weight = batch["fake"][:, None], batch["weight"]
        real = batch["point"].to(fake.dtype)[:, None]
        loss = wasserstein_critic(self.score(real), self.score(fake), weight, weight)
        if self.config.discriminator.clip_weights is not None:
            return Loss(loss)
        everywhere = torch.ones(len(fake), 1, dtype=torch.bool)
        penalty = gradient_penalty(self.score, real, fake, everywhere, batch["epsilon"], weight)
        return Loss(loss + 10 * penalty, {"penalty": penalty})

    def fool(self, batch: Batch) -> Loss:
        return Loss(-(batch["weight"] * self.score(self.maker(batch["noise"])[:, None])).sum())

    def score(self, points: Tensor) -> Tensor:
        return self.critic(points[:, 0])[:, 0]
