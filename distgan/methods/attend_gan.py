"""ATTEND-GAN: stylised captions by adversarial training with Monte Carlo rollouts.

Nezami, Dras, Wan, Paris, Hamey: "Towards Generating Stylized Image Captions via Adversarial
Training", PRICAI 2019, arXiv 1908.02943. Equation numbers are the paper's.

    python launch/train.py configs/attend_gan/shapes.yaml --local

Where we depart, and why:
- Eq. 1 is minimised with log G, as a policy gradient must be; the paper prints G.
- Scores are high for real captions; the paper's Eq. 10 has the other sign.
- L2 may also be fed factual captions and lines of styled text without pictures, each with a
  weight of its own, and the critic may have a score of its own for the match with the image
  (`critic.heads: separate`): both for styles that have few pictures or none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from distgan.advantages import advantages
from distgan.config import Config, OptimizerConfig
from distgan.engine.log import Log
from distgan.engine.loop import Stream
from distgan.engine.stages import Batch, Loss, Moment, Prepared, Stage, Update
from distgan.engine.world import World
from distgan.losses import (
    CRITIC_LOSSES,
    attention_regulariser,
    entropy,
    gradient_penalty,
    mask,
    mle,
    policy_gradient,
    word_log_probs,
)
from distgan.methods.attend_gan_config import AttendGANConfig
from distgan.methods.caption_batches import join, repeat_rows
from distgan.methods.caption_corpora import Corpora, corpus_of
from distgan.methods.caption_networks import (
    CaptionNetwork,
    Generator,
    build_caption_critic,
    build_generator,
    evaluating,
    load_pretrained,
    score_captions,
    shown,
)
from distgan.methods.caption_pictures import draw_captions, draw_rewards
from distgan.methods.caption_pool import CaptionPool
from distgan.methods.caption_validation import Validation
from distgan.methods.critic_evidence import weighted_auc
from distgan.methods.critic_lessons import CriticLessons
from distgan.methods.rollout_policy import RolloutPolicy
from distgan.methods.round_facts import gradient_ratio, push, sampled_facts
from distgan.metrics.health import health
from distgan.models.decoder import Decoder
from distgan.randomness import STREAMS, Draw
from distgan.rollouts import (
    BARRED,
    MonteCarlo,
    Samples,
    Score,
    greedy,
    monte_carlo,
    sample,
    whole_captions,
)

PICTURED = 4  # validation images drawn for the log


class AttendGAN:
    """Algorithm 1 after its pre-training: factual, style, critic, adversarial."""

    def __init__(self, config: Config, world: World) -> None:
        self.config: AttendGANConfig = config.method
        self.world = world
        self.corpora = Corpora(config, world, max_length=self.config.generator.max_length)
        self.generator = self._build_generator()
        encoder = self.generator.encoder
        self.critic = build_caption_critic(self.config, self.caption_identity(), encoder.channels)
        self.networks: Mapping[str, nn.Module] = {
            "generator": self.generator,
            "discriminator": self.critic,
        }
        self.optimizers: Mapping[str, OptimizerConfig] = {
            "generator": self.config.generator.optimizer,
            "discriminator": self.config.critic.optimizer,
        }
        self.corpora.see_with(encoder.encode)
        self.corpora.read_features(encoder)
        self.rollout_policy = RolloutPolicy(self.config.rollout.ema)
        self.pool = CaptionPool(self.config.pool, self.config.generator.max_length, world)
        self.lessons = CriticLessons(self.config, self.corpora, self.captioner, self.pool)
        self.validation = Validation(self.corpora, config.log.evaluate_samples)
        if config.log.evaluate_every:
            self.validation.check()
        self._first_numbers: dict[str, float] = {}

    @property
    def captioner(self) -> CaptionNetwork:
        return self.generator.captioner

    def algorithm(self) -> tuple[Stage, ...]:
        c = self.config
        frozen = {"generator": ("captioner",)}
        l2, acting = self._l2_weights(c.text_weight), self._l2_weights(c.acting_text_weight)
        evidence = self.lessons.sources()
        learn = Update("generator", self.mle, tuple(l2), prepare=self.see(l2))
        act = Update(
            "generator",
            self.policy_gradient_and_mle,
            ("generator/images", *acting),
            times=c.g_steps,
            prepare=self.act_and_see(acting),
        )
        judge = Update("discriminator", self.real_or_fake, evidence, prepare=self.lessons.give)
        return (
            self._factual_stage(),
            Stage("style", c.style_steps, (learn,), frozen),
            Stage("critic", c.critic_steps, (judge,)),
            Stage("adversarial", c.rounds, (act, replace(judge, times=c.d_steps)), frozen),
        )

    def _factual_stage(self) -> Stage:
        """L2 on factual captions; an encoder without weights of its own learns along."""
        c = self.config
        if c.encoder.learns:
            update = Update("generator", self.mle_of_images, ("generator/factual_images",))
            return Stage("factual", c.factual_steps, (update,))
        weights = {"generator/factual": 1.0}
        update = Update("generator", self.mle, tuple(weights), prepare=self.see(weights))
        return Stage("factual", c.factual_steps, (update,), {"generator": ("captioner",)})

    def _l2_weights(self, text_weight: float) -> dict[str, float]:
        """What L2 sums over after the factual stage, and each part's weight."""
        c, corpora = self.config, self.corpora
        weights = {
            "generator/styled": c.styled_weight * corpora.has_pairs,
            "generator/text": text_weight * bool(corpora.lines),
            "generator/factual": c.factual_weight,
        }
        used = {name: weight for name, weight in weights.items() if weight > 0}
        if not used:
            raise ValueError(
                "nothing to learn the style from: no captions of images in style "
                f"{', '.join(corpora.asked_names)} (method.styled_weight={c.styled_weight}), "
                f"no lines of text (method.text_weight={text_weight}), "
                f"method.factual_weight={c.factual_weight}"
            )
        return used

    def streams(self) -> dict[str, Stream]:
        c = self.config
        updates = [update for stage in self.algorithm() for update in stage.updates]
        names = dict.fromkeys(name for update in updates for name in update.data)
        size = {"generator": c.batch, "discriminator": c.critic_batch}
        return {n: self.corpora.stream(n, size[n.partition("/")[0]]) for n in names}

    def bad_samples(self) -> list[str]:
        return self.corpora.bad_samples()

    def identity(self) -> dict[str, Any]:
        return {"data": self.corpora.digest, **self.caption_identity()}

    def caption_identity(self) -> dict[str, Any]:
        """What the networks are built from beside the config."""
        return {
            "vocabulary": self.corpora.vocabulary.state(),
            "styles": list(self.corpora.styles),
            "asked": list(self.corpora.asked),
        }

    def state_dict(self) -> dict[str, Any]:
        return {
            "first_numbers": self._first_numbers,
            "pool": self.pool.state_dict(),
            "rollout_policy": self.rollout_policy.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._first_numbers = state["first_numbers"]
        self.pool.load_state_dict(state["pool"])
        self.rollout_policy.load_state_dict(state["rollout_policy"])

    def _build_generator(self) -> Generator:
        generator = build_generator(self.config, self.caption_identity())
        load_pretrained(generator.captioner, self.config.generator, self.corpora.vocabulary)
        return generator

    # Generator

    def mle_of_images(self, batch: Batch) -> Loss:
        """Eq. 3 on images themselves, through the encoder."""
        regions = self.generator.encoder.encode(batch["image"])
        style = torch.full_like(batch["style"], self.corpora.factual)
        return self.mle({**batch, "regions": regions, "style": style, "looks": batch["weight"]})

    def mle(self, *batches: Batch) -> Loss:
        """Eq. 3, L2 = -sum_t log p(x_t) + lambda1 sum_k (1 - sum_t e_{t,k})^2."""
        batch = join(batches, ("regions", "words", "style", "weight", "looks"))
        words, weight = batch["words"], batch["weight"]
        style = self.captioner.told(batch["style"])
        logits, attention = self.captioner(batch["regions"], words, style)
        likelihood = mle(logits, words, weight)
        regulariser = attention_regulariser(attention, words, batch["looks"])
        total = likelihood + self.config.lambda_attention * regulariser
        return Loss(
            total,
            {
                "mle": likelihood,
                "attention": regulariser,
                "mle_push": push(logits, words, weight[:, None]),
            },
        )

    def policy_gradient_and_mle(self, images: Batch, *batches: Batch) -> Loss:
        """Eq. 8, L = lambda2 L1 + L2, with L1 of Eq. 1 on the sampled words.

        L1's distribution is the sampler's: without dropout, and with the same words barred.
        """
        l2 = self.mle(*batches)
        words, weight, A = images["words"], images["weight"], images["advantages"]
        with evaluating(self.captioner):
            style = self.captioner.told(images["style"])
            logits, _ = self.captioner(images["regions"], words, style)
        logits = logits.index_fill(-1, torch.tensor(BARRED, device=logits.device), -torch.inf)
        l1 = policy_gradient(word_log_probs(logits, words), A, words, weight)
        lam = self.config.lambda_adversarial
        log = {
            "policy": l1,
            "policy_push": lam**2 * push(logits, words, weight[:, None] * A),
            "entropy": entropy(logits, words, weight),
        }
        return Loss(lam * l1 + l2.total, l2.log | log)

    def see(self, weights: Mapping[str, float]) -> Callable[..., Prepared]:
        """Give batches of the named streams their regions and their weights in L2."""

        def prepare(_: Moment, *batches: Batch) -> Prepared:
            given = zip(weights.items(), batches, strict=True)
            return Prepared(tuple(self._weighed(item, batch) for item, batch in given))

        return prepare

    def act_and_see(self, weights: Mapping[str, float]) -> Callable[..., Prepared]:
        """Write captions for the images and judge each of their words; `see` the rest."""
        see = self.see(weights)

        def prepare(moment: Moment, images: Batch, *batches: Batch) -> Prepared:
            acted, facts = self.act(moment, images)
            return Prepared((acted, *see(moment, *batches).batches), facts)

        return prepare

    def act(self, moment: Moment, images: Batch) -> tuple[Batch, dict[str, Tensor]]:
        """x ~ G, Q by Eq. 2 with N rollouts a prefix, and the advantages A = Q - b."""
        c, S = self.config, self.config.captions
        regions, style = self.corpora.sight(moment, images)
        context = self.captioner.look(regions, self.captioner.told(style))
        draw = Draw(moment.seed, STREAMS["words"], moment.update)
        image = torch.arange(len(regions), device=regions.device).repeat_interleave(S)
        writer, rows = c.rollout.work.shared(self.captioner, context, image, c.rollouts)
        how = {"copies": S, "chunk_rows": rows}
        samples = sample(writer, context, draw, images["position"], **how)
        score = self._score(regions, style)
        policy = self.rollout_policy.follow(self.captioner)
        roller = (writer, context)
        if policy is not self.captioner:
            roller = (policy, policy.look(regions, policy.told(style)))
        draw = draw._replace(stream=STREAMS["rollouts"])
        values = self._values(roller, samples, score, draw)
        A = advantages(
            values,
            samples.words,
            c.baseline,
            whiten=c.whitens,
            total=self.world.sum,
            greedy_score=self._greedy_score(context, samples, score),
            copies=S,
        )
        acted = repeat_rows({**images, "regions": regions, "style": style}, S)
        acted |= {"words": samples.words, "advantages": A}
        share = samples.words.unflatten(0, (-1, S))
        every = self.world.gather_shares(share, c.batch).flatten(0, 1)
        return acted, sampled_facts(values, A, samples.words, every, self.world.sum)

    def _values(
        self, roller: tuple[Decoder, object], samples: Samples, score: Score, draw: Draw
    ) -> MonteCarlo:
        """Q of Eq. 2; without rollouts, the score of the whole caption for each of its words."""
        c = self.config
        if c.rollouts == 0:
            return whole_captions(samples, score)
        return monte_carlo(
            *roller,
            samples,
            score,
            rollouts=c.rollouts,
            draw=draw,
            empty_prefix=c.baseline == "prefix",
            sampling=c.rollout.sampling,
            work=c.rollout.work,
        )

    def _greedy_score(self, context: object, samples: Samples, score: Score) -> Tensor | None:
        if self.config.baseline != "greedy":
            return None
        S = self.config.captions
        image = samples.image[::S]
        return score(greedy(self.captioner, context, image), image).repeat_interleave(S)

    def _weighed(self, stream: tuple[str, float], batch: Batch) -> Batch:
        name, share = stream
        batch = self.corpora.with_regions(corpus_of(name), batch)
        weight = share * batch["weight"]
        looks = weight * self.corpora.has_pictures(corpus_of(name))
        return {**batch, "weight": weight, "looks": looks}

    # Critic

    def _score(self, regions: Tensor, style: Tensor) -> Score:
        return score_captions(self.critic, self.config, regions, style)

    def _shown(self, regions: Tensor | None, style: Tensor) -> tuple[Tensor | None, Tensor | None]:
        return shown(self.config.critic, regions, style)

    def real_or_fake(self, *groups: Batch) -> Loss:
        """Eq. 10 (or binary cross-entropy) on every row, each weighted as real or as fake.

        A row has one weight a head; rows that say nothing to a head weigh nothing there.
        """
        c = self.config.critic
        pictured = [g for g in groups if "regions" in g]
        plain = [g for g in groups if "regions" not in g]
        parts = [self._judge(rows) for rows in (pictured, plain) if rows]
        scores, real, fake = (torch.cat(values) for values in zip(*parts, strict=True))
        loss, log = scores.new_zeros(()), {}
        for head, name in enumerate(self._heads):
            s, r, f = scores[:, head], real[:, head].to(scores), fake[:, head].to(scores)
            loss = loss + CRITIC_LOSSES[c.loss](s, s, r, f)
            log |= {
                f"{name}_gap": (r * s).sum() - (f * s).sum(),
                f"{name}_auc": weighted_auc(s.detach(), r, f),
            }
        if c.penalty:
            penalty = self._penalty(groups[0], next(g for g in groups if "epsilon" in g))
            loss, log = loss + c.penalty * penalty, log | {"penalty": penalty}
        return Loss(loss, log)

    @property
    def _heads(self) -> tuple[str, ...]:
        return ("critic", "match") if self.config.critic.heads == "separate" else ("critic",)

    def _judge(self, groups: list[Batch]) -> tuple[Tensor, Tensor, Tensor]:
        """Scores and weights as real and as fake, each (rows, heads), of groups seen alike."""
        names = ("words", "style", "real", "fake")
        rows = join(groups, (*names, "regions") if "regions" in groups[0] else names)
        context = self.critic.look(*self._shown(rows.get("regions"), rows["style"]))
        image = torch.arange(len(rows["words"]), device=rows["words"].device)
        return self.critic(rows["words"], context, image), rows["real"], rows["fake"]

    def _penalty(self, fakes: Batch, reals: Batch) -> Tensor:
        """WGAN-GP on embedded captions, between each real one and a sample."""
        context = self.critic.look(*self._shown(reals.get("regions"), reals["style"]))
        written = mask(reals["words"]) | mask(fakes["words"])
        image = torch.arange(len(written), device=written.device)
        return gradient_penalty(
            lambda x: self.critic.forward_embedded(x, written, context, image).sum(1),
            self.critic.embed(reals["words"]),
            self.critic.embed(fakes["words"]),
            written,
            reals["epsilon"],
            reals["weight"],
        )

    # Log

    def evaluate(self, *, temperature: float = 1.0) -> dict[str, float]:
        """Quality and diversity on held-out images. Collective."""
        return self.validation.measure(self.captioner, temperature)

    def interpret(self, metrics: dict[str, float]) -> tuple[dict[str, float], list[str]]:
        """The round's numbers with what follows from them, and what they mean in plain words."""
        metrics = metrics | gradient_ratio(metrics)
        if "generator/policy" not in metrics:
            return metrics, []
        timeless = {k: v for k, v in metrics.items() if not k.startswith("seconds/")}
        self._first_numbers = self._first_numbers or timeless
        return metrics, health(metrics, self._first_numbers)

    def show(self, log: Log, stage: Stage, step: int) -> None:
        """Validation captions with their attention, and the rewards of a sampled caption."""
        images = self.corpora.pictured(PICTURED)
        vocabulary = self.corpora.vocabulary
        regions = self.corpora.see(torch.stack(list(images.values())))
        for number in self.corpora.asked:
            style = torch.full((len(images),), number, device=self.world.device)
            name = self.corpora.styles[number]
            sheet = draw_captions(
                self.captioner, regions, self.captioner.told(style), images, vocabulary
            )
            log.figure(f"captions/{name}", sheet, step)
            if any(update.learner == "discriminator" for update in stage.updates):
                score = self._score(regions[:1], style[:1])
                first = self.captioner.look(regions[:1], self.captioner.told(style[:1]))
                drawn = draw_rewards(self.captioner, first, score, vocabulary)
                log.figure(f"rewards/{name}", drawn, step)
