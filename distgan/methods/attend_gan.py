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
from distgan.data.word_vectors import read_word_vectors
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
    Generator,
    build_caption_critic,
    build_generator,
    evaluating,
    score_captions,
    shown,
)
from distgan.methods.caption_pictures import draw_captions, draw_rewards
from distgan.methods.caption_pool import CaptionPool, Written
from distgan.methods.critic_evidence import Evidence, rows, weighted_auc
from distgan.methods.round_facts import gradient_ratio, push, sampled_facts
from distgan.methods.word_swaps import swap_a_word
from distgan.metrics.health import health
from distgan.models.captioner import AttentionCaptioner
from distgan.randomness import STREAMS, Draw, uniforms
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
        self.pool = CaptionPool(self.config.pool, self.config.generator.max_length, world)
        self._first_numbers: dict[str, float] = {}

    @classmethod
    def check(cls, config: Config) -> None:
        cls(config, World.local()).streams()

    @property
    def captioner(self) -> AttentionCaptioner:
        return self.generator.captioner

    def algorithm(self) -> tuple[Stage, ...]:
        c = self.config
        frozen = {"generator": ("captioner",)}
        l2, evidence = self._l2_weights(), self._evidence_sources()
        learn = Update("generator", self.mle, tuple(l2), prepare=self.see(l2))
        act = Update(
            "generator",
            self.policy_gradient_and_mle,
            ("generator/images", *l2),
            times=c.g_steps,
            prepare=self.act_and_see(l2),
        )
        judge = Update("discriminator", self.real_or_fake, evidence, prepare=self.show_evidence)
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

    def _l2_weights(self) -> dict[str, float]:
        """What L2 sums over after the factual stage, and each part's weight."""
        c, corpora = self.config, self.corpora
        weights = {
            "generator/styled": c.styled_weight * corpora.has_pairs,
            "generator/text": c.text_weight * bool(corpora.lines),
            "generator/factual": c.factual_weight,
        }
        used = {name: weight for name, weight in weights.items() if weight > 0}
        if not used:
            raise ValueError(
                "nothing to learn the style from: no captions of images in style "
                f"{', '.join(corpora.asked_names)} (method.styled_weight={c.styled_weight}), "
                f"no lines of text (method.text_weight={c.text_weight}), "
                f"method.factual_weight={c.factual_weight}"
            )
        return used

    def _evidence_sources(self) -> tuple[str, ...]:
        """The streams of a critic's update, samples' images first."""
        c, corpora = self.config.critic, self.corpora
        corpus = {
            "styled": corpora.has_pairs,
            "factual": c.heads == "separate",
            "text": bool(corpora.lines) and (c.heads == "separate" or not c.sees_image),
        }
        used = tuple(f"discriminator/{name}" for name, use in corpus.items() if use)
        if not corpus["styled"] and not corpus["text"]:
            need = "images with captions" if c.sees_image and c.heads == "joint" else "captions"
            hint = "; try method.critic.heads=separate" if corpora.lines else ""
            raise ValueError(
                f"method.critic.heads={c.heads} with sees_image={c.sees_image} needs {need} in "
                f"style {', '.join(corpora.asked_names)}: data.styled_split="
                f"{corpora.config.data.styled_split} has none{hint}"
            )
        return ("discriminator/images", *used)

    def streams(self) -> dict[str, Stream]:
        c = self.config
        updates = [update for stage in self.algorithm() for update in stage.updates]
        names = dict.fromkeys(name for update in updates for name in update.data)
        size = {"generator": c.batch, "discriminator": c.critic_batch}
        return {n: self.corpora.stream(n, size[n.partition("/")[0]]) for n in names}

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
        return {"first_numbers": self._first_numbers, "pool": self.pool.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._first_numbers = state["first_numbers"]
        self.pool.load_state_dict(state["pool"])

    def _build_generator(self) -> Generator:
        g = self.config.generator
        generator = build_generator(self.config, self.caption_identity())
        if g.word_vectors is not None:
            vectors = read_word_vectors(g.word_vectors, self.corpora.vocabulary)
            generator.captioner.load_word_vectors(vectors)
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
        logits, attention = self.captioner(batch["regions"], words, self._told(batch["style"]))
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
            logits, _ = self.captioner(images["regions"], words, self._told(images["style"]))
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
        regions, style = self._sight(moment, images)
        context = self.captioner.look(regions, self._told(style))
        draw = Draw(moment.seed, STREAMS["words"], moment.update)
        samples = sample(self.captioner, context, draw, images["position"], copies=S)
        score = self._score(regions, style)
        values = self._values(context, samples, score, draw)
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

    def _values(self, context: object, samples: Samples, score: Score, draw: Draw) -> MonteCarlo:
        """Q of Eq. 2; without rollouts, the score of the whole caption for each of its words."""
        c = self.config
        if c.rollouts == 0:
            return whole_captions(samples, score)
        return monte_carlo(
            self.captioner,
            context,
            samples,
            score,
            rollouts=c.rollouts,
            draw=draw._replace(stream=STREAMS["rollouts"]),
            empty_prefix=c.baseline == "prefix",
        )

    def _greedy_score(self, context: object, samples: Samples, score: Score) -> Tensor | None:
        if self.config.baseline != "greedy":
            return None
        S = self.config.captions
        image = samples.image[::S]
        return score(greedy(self.captioner, context, image), image).repeat_interleave(S)

    def _sight(self, moment: Moment, images: Batch) -> tuple[Tensor, Tensor]:
        """The images' regions, and the style each is to be described in."""
        draw = Draw(moment.seed, STREAMS["fakes"], moment.update)
        choice = uniforms(draw, images["position"]) * len(self.corpora.asked)
        asked = torch.tensor(self.corpora.asked, device=choice.device)
        return self.corpora.regions("images", images["id"]), asked[choice.long()]

    def _told(self, style: Tensor) -> Tensor | None:
        return style if self.captioner.num_styles else None

    def _weighed(self, stream: tuple[str, float], batch: Batch) -> Batch:
        name, share = stream
        batch = self._pictured(name, batch)
        weight = share * batch["weight"]
        looks = weight * self.corpora.has_pictures(corpus_of(name))
        return {**batch, "weight": weight, "looks": looks}

    def _pictured(self, stream: str, batch: Batch) -> Batch:
        """The batch with its regions, and factual captions under the factual style."""
        corpus = corpus_of(stream)
        style = batch["style"]
        if corpus == "factual":
            style = torch.full_like(style, self.corpora.factual)
        return {**batch, "style": style, "regions": self.corpora.regions(corpus, batch["id"])}

    # Critic

    def _score(self, regions: Tensor, style: Tensor) -> Score:
        return score_captions(self.critic, self.config, regions, style)

    def _shown(self, regions: Tensor | None, style: Tensor) -> tuple[Tensor | None, Tensor | None]:
        return shown(self.config.critic, regions, style)

    def show_evidence(self, moment: Moment, images: Batch, *batches: Batch) -> Prepared:
        """Samples of the generator, real captions, and real captions misplaced, for the critic."""
        names = [corpus_of(stream) for stream in self._evidence_sources()[1:]]
        evidence = self._evidence(names)
        regions, style = self._sight(moment, images)
        fakes = self._replayed(moment, self._samples(moment, images, regions, style))
        groups = [rows(fakes, fake=evidence.samples)]
        if any(evidence.factual_samples):
            factual = torch.full_like(style, self.corpora.factual)
            alike = self._samples(moment, images, regions, factual)
            groups.append(rows(alike, fake=evidence.factual_samples))
        for corpus, batch in zip(names, batches, strict=True):
            real = self._shown_pair(corpus, batch)
            real["epsilon"] = uniforms(
                Draw(moment.seed, STREAMS["penalty"], moment.update), batch["position"]
            )
            groups.append(rows(real, real=evidence.real[corpus]))
            if corpus in evidence.wrong_image:
                wrong = self._beside_another(moment, corpus, batch)
                groups.append(rows(wrong, fake=evidence.wrong_image[corpus]))
            if corpus in evidence.wrong_style:
                wrong = self._restyled(moment, real)
                groups.append(rows(wrong, fake=evidence.wrong_style[corpus]))
            if corpus in evidence.swapped:
                wrong = self._swapped(moment, corpus, real)
                groups.append(rows(wrong, fake=evidence.swapped[corpus]))
        return Prepared(tuple(groups))

    def _evidence(self, corpora: list[str]) -> Evidence:
        c, styles = self.config.critic, len(self.corpora.asked)
        style = c.sees_style and styles > 1
        if c.heads == "separate":
            return Evidence.separate(
                corpora, style=style, match_samples=c.match_samples, swapped=c.swapped
            )
        return Evidence.joint(corpora, image=c.sees_image, style=style, swapped=c.swapped)

    def _samples(self, moment: Moment, images: Batch, regions: Tensor, style: Tensor) -> Batch:
        """x ~ G for each image, in its style."""
        context = self.captioner.look(regions, self._told(style))
        draw = Draw(moment.seed, STREAMS["words"], moment.update)
        words = sample(self.captioner, context, draw, images["position"]).words
        return self._seen({**images, "words": words, "style": style, "regions": regions})

    def _replayed(self, moment: Moment, fakes: Batch) -> Batch:
        """Some of the samples exchanged for earlier ones, with their own images."""
        if self.config.pool == 0:
            return fakes
        draw = Draw(moment.seed, STREAMS["pool"], moment.update)
        fresh = Written(fakes["id"], fakes["style"], fakes["words"])
        met = self.pool.exchange(fresh, fakes["position"], draw, self.config.critic_batch)
        regions = self.corpora.regions("images", met.image)
        named = {"id": met.image, "style": met.style, "words": met.words, "regions": regions}
        return self._seen({**fakes, **named})

    def _shown_pair(self, corpus: str, batch: Batch) -> Batch:
        if corpus == "text":
            return dict(batch)
        return self._seen(self._pictured(corpus, batch))

    def _seen(self, batch: Batch) -> Batch:
        """Without the regions where the critic does not look at images."""
        if self.config.critic.sees_image:
            return batch
        return {name: value for name, value in batch.items() if name != "regions"}

    def _beside_another(self, moment: Moment, corpus: str, batch: Batch) -> Batch:
        """The captions beside other images of their corpus."""
        draw = Draw(moment.seed, STREAMS["negatives"], moment.update)
        others = self.corpora.other_images(corpus, batch["id"], batch["position"], draw)
        return self._seen(self._pictured(corpus, {**batch, "id": others}))

    def _restyled(self, moment: Moment, batch: Batch) -> Batch:
        """The captions under another of the styles asked for; a text head needs no regions."""
        asked = torch.tensor(self.corpora.asked, device=batch["style"].device)
        place = (batch["style"][:, None] == asked).double().argmax(1)
        draw = Draw(moment.seed, STREAMS["negatives"], moment.update)
        u = uniforms(draw, batch["position"], rollout=1)
        shift = 1 + (u * (len(asked) - 1)).long()
        restyled = {**batch, "style": asked[(place + shift) % len(asked)]}
        if self.config.critic.heads == "separate":
            restyled.pop("regions", None)
        return restyled

    def _swapped(self, moment: Moment, corpus: str, real: Batch) -> Batch:
        """The captions with a word each that the generator says of another image, or of none."""
        draw = Draw(moment.seed, STREAMS["negatives"], moment.update)
        ids, position, words = real["id"], real["position"], real["words"]
        if self.corpora.has_pictures(corpus):
            ids = self.corpora.other_images(corpus, ids, position, draw)
        regions = self.corpora.regions(corpus, ids)
        logits, _ = self.captioner(regions, words, self._told(real["style"]))
        place, pick = (uniforms(draw, position, rollout=n) for n in (2, 3))
        return {**real, "words": swap_a_word(logits, words, place, pick)}

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

    def interpret(self, metrics: dict[str, float]) -> tuple[dict[str, float], list[str]]:
        """The round's numbers with what follows from them, and what they mean in plain words."""
        metrics = metrics | gradient_ratio(metrics)
        if "generator/policy" not in metrics:
            return metrics, []
        self._first_numbers = self._first_numbers or metrics
        return metrics, health(metrics, self._first_numbers)

    def show(self, log: Log, stage: Stage, step: int) -> None:
        """Validation captions with their attention, and the rewards of a sampled caption."""
        images = self.corpora.pictured(PICTURED)
        vocabulary = self.corpora.vocabulary
        regions = self.corpora.see(torch.stack(list(images.values())))
        for number in self.corpora.asked:
            style = torch.full((len(images),), number, device=self.world.device)
            name = self.corpora.styles[number]
            sheet = draw_captions(self.captioner, regions, self._told(style), images, vocabulary)
            log.figure(f"captions/{name}", sheet, step)
            if any(update.learner == "discriminator" for update in stage.updates):
                score = self._score(regions[:1], style[:1])
                first = self.captioner.look(regions[:1], self._told(style[:1]))
                drawn = draw_rewards(self.captioner, first, score, vocabulary)
                log.figure(f"rewards/{name}", drawn, step)
