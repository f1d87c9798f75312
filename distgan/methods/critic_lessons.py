"""What each update of the critic is made of: samples, real captions, and hard negatives."""

from __future__ import annotations

import torch
from torch import Tensor

from distgan.engine.stages import Batch, Moment, Prepared
from distgan.methods.attend_gan_config import AttendGANConfig
from distgan.methods.caption_corpora import Corpora, corpus_of
from distgan.methods.caption_networks import CaptionNetwork
from distgan.methods.caption_pool import CaptionPool, Written
from distgan.methods.critic_evidence import Evidence, rows
from distgan.methods.word_swaps import swap_a_word
from distgan.randomness import STREAMS, Draw, uniforms
from distgan.rollouts import sample


class CriticLessons:
    """Prepares the critic's updates from the generator's captions and the corpora's."""

    def __init__(
        self,
        config: AttendGANConfig,
        corpora: Corpora,
        captioner: CaptionNetwork,
        pool: CaptionPool,
    ) -> None:
        self.config, self.corpora, self.captioner, self.pool = config, corpora, captioner, pool

    def sources(self) -> tuple[str, ...]:
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

    def give(self, moment: Moment, images: Batch, *batches: Batch) -> Prepared:
        """Samples of the generator, real captions, and real captions misplaced, for the critic."""
        names = [corpus_of(stream) for stream in self.sources()[1:]]
        evidence = self._evidence(names)
        regions, style = self.corpora.sight(moment, images)
        fakes = self._replayed(moment, self._samples(moment, images, regions, style))
        groups = [rows(self._for_text(fakes), fake=evidence.samples)]
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
        context = self.captioner.look(regions, self.captioner.told(style))
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
        return self._seen(self.corpora.with_regions(corpus, batch))

    def _seen(self, batch: Batch) -> Batch:
        """Without the regions where the critic does not look at images."""
        if self.config.critic.sees_image:
            return batch
        return {name: value for name, value in batch.items() if name != "regions"}

    def _for_text(self, batch: Batch) -> Batch:
        """Without the regions if only a text head judges it."""
        if self.config.critic.heads == "joint":
            return batch
        return {name: value for name, value in batch.items() if name != "regions"}

    def _beside_another(self, moment: Moment, corpus: str, batch: Batch) -> Batch:
        """The captions beside other images of their corpus."""
        draw = Draw(moment.seed, STREAMS["negatives"], moment.update)
        others = self.corpora.other_images(corpus, batch["id"], batch["position"], draw)
        return self._seen(self.corpora.with_regions(corpus, {**batch, "id": others}))

    def _restyled(self, moment: Moment, batch: Batch) -> Batch:
        """The captions under a style asked for that is not theirs."""
        asked = torch.tensor(self.corpora.asked, device=batch["style"].device)
        own = batch["style"][:, None] == asked
        draw = Draw(moment.seed, STREAMS["negatives"], moment.update)
        u = uniforms(draw, batch["position"], rollout=1)
        other = own.double().argmax(1) + 1 + (u * (len(asked) - 1)).long()
        place = torch.where(own.any(1), other, (u * len(asked)).long())
        return self._for_text({**batch, "style": asked[place % len(asked)]})

    def _swapped(self, moment: Moment, corpus: str, real: Batch) -> Batch:
        """The captions with a word each that the generator says of another image, or of none."""
        draw = Draw(moment.seed, STREAMS["negatives"], moment.update)
        ids, position, words = real["id"], real["position"], real["words"]
        if self.corpora.has_pictures(corpus):
            ids = self.corpora.other_images(corpus, ids, position, draw)
        regions = self.corpora.regions(corpus, ids)
        logits, _ = self.captioner(regions, words, self.captioner.told(real["style"]))
        place, pick = (uniforms(draw, position, rollout=n) for n in (2, 3))
        return {**real, "words": swap_a_word(logits, words, place, pick)}
