"""Critics of captions: a bidirectional GRU and SeqGAN's TextCNN, told the image or style if asked.

A critic gives each row (a caption) one score, high for real, or two:

* `joint`: one score that sees all the critic was built to see (text, style, image);
* `separate`: score 0 judges the text given its style and never sees the image, so it can be
  trained on text without pictures; score 1 judges how caption and image match, style unseen.

Each word's state attends over all regions of the image: a mean over regions would hide where
things are. What depends on the image alone is computed once an image, by `look`; rows refer to
images by number. Words after `END` are padding and never change a score. There is no BatchNorm,
so every score is a function of its own row and a gradient penalty is per caption.

Letters: I images, R rows, T words, K regions, C channels of a region, E of an embedded word,
S of a word's state, A of attention, F features.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from distgan.models.decoder import PAD

Heads = Literal["joint", "separate"]


class CriticContext(NamedTuple):
    """What a critic knows of I images. None: it was not built to see it, or has not been shown."""

    keys: Tensor | None  # (I, K, A)
    values: Tensor | None  # (I, K, A)
    style: Tensor | None  # (I, E)


class RegionAttention(nn.Module):
    """Each word asks every region for what it names: dot products, several heads.

    Several heads let the word of a relation look at both of the things that it relates.
    """

    def __init__(self, state_size: int, channels: int, size: int, heads: int) -> None:
        super().__init__()
        if size % heads:
            raise ValueError(f"attention_size must be a multiple of {heads} heads, got {size}")
        self.heads = heads
        self.query = nn.Linear(state_size, size)
        self.key = nn.Linear(channels, size, bias=False)  # a bias would cancel in the softmax
        self.value = nn.Linear(channels, size)
        self.expected = nn.Linear(state_size, size)

    def look(self, regions: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values (I, K, A) of regions (I, K, C)."""
        return self.key(regions), self.value(regions)

    def forward(self, states: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """(R, T, 2A): what each word found, and its product with what the word expected.

        states (R, T, S); keys, values (R, K, A) of each row's image.
        """
        query, keys, found = (self._split(x) for x in (self.query(states), keys, values))
        energies = query @ keys.transpose(-1, -2) / query.shape[-1] ** 0.5
        found = (energies.softmax(-1) @ found).transpose(1, 2).flatten(2)
        return torch.cat([found, found * self.expected(states)], -1)

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class WordPool(nn.Module):
    """Judges each word, then pools over the caption: (R, T, F) -> (R, 2 * size), mean and max."""

    def __init__(self, features: int, size: int, style_size: int | None = None) -> None:
        super().__init__()
        self.words = nn.Linear(features, size)
        self.style = None if style_size is None else nn.Linear(style_size, size, bias=False)

    def forward(self, features: Tensor, real: Tensor, style: Tensor | None = None) -> Tensor:
        """real (R, T) bool; style (R, E) where the pool was built with one."""
        judged = self.words(features)
        if self.style is not None:
            judged = judged + self.style(style)[:, None]
        judged = judged.relu() * real[..., None]
        count = real.sum(1, keepdim=True).clamp(min=1)
        return torch.cat([judged.sum(1) / count, judged.amax(1)], -1)


class Critic(nn.Module):
    """What both critics share: words, styles, regions, and rows that name their image."""

    def __init__(
        self,
        num_words: int,
        max_length: int,
        *,
        channels: int | None,
        num_styles: int | None,
        heads: Heads,
        embedding_size: int,
        state_size: int,
        attention_size: int,
        attention_heads: int,
    ) -> None:
        """`channels` of a region, None: never sees an image; `num_styles`, None: no style."""
        super().__init__()
        if heads not in ("joint", "separate"):
            raise ValueError(f"critic heads must be joint or separate, got {heads!r}")
        if heads == "separate" and channels is None:
            raise ValueError("critic heads=separate needs an image to match, got channels=None")
        self.max_length = max_length
        self.sees_image = channels is not None
        self.sees_style = num_styles is not None
        self.num_scores = 2 if heads == "separate" else 1
        self.embedding = nn.Embedding(num_words, embedding_size, padding_idx=PAD)
        self.styles = None if num_styles is None else nn.Embedding(num_styles, embedding_size)
        self.attention = (
            None
            if channels is None
            else RegionAttention(state_size, channels, attention_size, attention_heads)
        )

    def look(self, regions: Tensor | None, style: Tensor | None) -> CriticContext:
        """What the critic uses of I images: regions (I, K, C) and style (I,) int64.

        One that was built without an image or a style leaves it out. `separate` heads take
        None for regions where there are no pictures: then score 1 is 0, no verdict.
        """
        keys = values = told = None
        if self.attention is not None and regions is not None:
            keys, values = self.attention.look(regions)
        elif self.attention is not None and self.num_scores == 1:
            raise ValueError("a joint critic that sees the image needs regions, got None")
        if self.styles is not None:
            if style is None:
                raise ValueError("a critic that sees the style needs it, got style=None")
            told = self.styles(style)
        return CriticContext(keys, values, told)

    def forward(self, words: Tensor, context: CriticContext, image: Tensor) -> Tensor:
        """Scores (R, H), H = `num_scores`, of words (R, T); image (R,) int64: each row's image."""
        return self.judge(self.embed(words), words != PAD, context, image)

    def embed(self, words: Tensor) -> Tensor:
        """(R, T, E) of words (R, T); padding is zero."""
        return self.embedding(words)

    def forward_embedded(
        self, embedded: Tensor, real: Tensor, context: CriticContext, image: Tensor
    ) -> Tensor:
        """`forward` of embedded words (R, T, E), differentiable twice; real (R, T) bool."""
        return self.judge(embedded, real, context, image)

    def judge(
        self, embedded: Tensor, real: Tensor, context: CriticContext, image: Tensor
    ) -> Tensor:
        """Scores (R, H) of embedded words (R, T, E), of which `real` (R, T) are not padding."""
        raise NotImplementedError

    def _style(self, context: CriticContext, image: Tensor) -> Tensor | None:
        return None if context.style is None else context.style.index_select(0, image)

    def _match(self, states: Tensor, context: CriticContext, image: Tensor) -> Tensor | None:
        """Word states beside what they found in their image, (R, T, S + 2A); None unseen."""
        if self.attention is None or context.keys is None or context.values is None:
            return None
        keys, values = (x.index_select(0, image) for x in (context.keys, context.values))
        return torch.cat([states, self.attention(states, keys, values)], -1)


class GRUCritic(Critic):
    """A bidirectional GRU reads the caption; an MLP judges each word; mean and max over words."""

    def __init__(
        self,
        num_words: int,
        max_length: int,
        *,
        channels: int | None = None,
        num_styles: int | None = None,
        heads: Heads = "joint",
        embedding_size: int = 256,
        hidden_size: int = 256,
        layers: int = 1,
        attention_size: int = 128,
        attention_heads: int = 4,
        word_dropout: float = 0.0,
        dropout: float = 0.0,
    ) -> None:
        """`hidden_size` of each direction, and of the judges.

        `word_dropout` acts on embedded words, `dropout` before the score.
        """
        super().__init__(
            num_words,
            max_length,
            channels=channels,
            num_styles=num_styles,
            heads=heads,
            embedding_size=embedding_size,
            state_size=2 * hidden_size,
            attention_size=attention_size,
            attention_heads=attention_heads,
        )
        style_size = None if num_styles is None else embedding_size
        state_size, match_size = 2 * hidden_size, 2 * hidden_size + 2 * attention_size
        joint_size = state_size if channels is None else match_size
        self.reader = BothWays(embedding_size, hidden_size, layers)
        self.word_dropout, self.dropout = nn.Dropout(word_dropout), nn.Dropout(dropout)
        if heads == "joint":
            self.judges = nn.ModuleList([WordPool(joint_size, hidden_size, style_size)])
        else:
            self.judges = nn.ModuleList(
                [WordPool(state_size, hidden_size, style_size), WordPool(match_size, hidden_size)]
            )
        self.scores = nn.ModuleList(_scorer(2 * hidden_size) for _ in self.judges)

    def forward_embedded(
        self, embedded: Tensor, real: Tensor, context: CriticContext, image: Tensor
    ) -> Tensor:
        with torch.backends.cudnn.flags(enabled=False):  # its GRU has no second derivative
            return self.judge(embedded, real, context, image)

    def judge(
        self, embedded: Tensor, real: Tensor, context: CriticContext, image: Tensor
    ) -> Tensor:
        states = self.reader(self.word_dropout(embedded), real)
        style = self._style(context, image)
        match = self._match(states, context, image)
        if self.num_scores == 1:
            return self._score(0, states if match is None else match, real, style)
        text = self._score(0, states, real, style)
        return _beside(text, None if match is None else self._score(1, match, real, None))

    def _score(self, head: int, features: Tensor, real: Tensor, style: Tensor | None) -> Tensor:
        return self.scores[head](self.dropout(self.judges[head](features, real, style)))


class TextCNNCritic(Critic):
    """SeqGAN's critic (Eq. 9): windows of words, max over time, highway, dropout, linear score.

    The defaults are those of ATTEND-GAN's authors, without their BatchNorm: 1,720 maps for 16
    words. The style is added to every embedded word that the windows read. Match features come
    from two convolutions over the words, whose states attend over the regions.
    """

    def __init__(
        self,
        num_words: int,
        max_length: int,
        *,
        channels: int | None = None,
        num_styles: int | None = None,
        heads: Heads = "joint",
        embedding_size: int = 256,
        windows: tuple[tuple[int, int], ...] | None = None,
        hidden_size: int = 256,
        attention_size: int = 128,
        attention_heads: int = 4,
        word_dropout: float = 0.2,
        dropout: float = 0.5,
    ) -> None:
        """`windows`: (words, maps) pairs, None: `seqgan_windows`; `hidden_size`: match features.

        `word_dropout` acts on embedded words, `dropout` before the score.
        """
        super().__init__(
            num_words,
            max_length,
            channels=channels,
            num_styles=num_styles,
            heads=heads,
            embedding_size=embedding_size,
            state_size=hidden_size,
            attention_size=attention_size,
            attention_heads=attention_heads,
        )
        nn.init.uniform_(self.embedding.weight, -1, 1)
        with torch.no_grad():
            self.embedding.weight[PAD].zero_()
        windows = seqgan_windows(max_length) if windows is None else windows
        text_size, match_size = sum(maps for _, maps in windows), 2 * hidden_size
        self.windows = nn.ModuleList(
            nn.Conv1d(embedding_size, maps, width) for width, maps in windows
        )
        self.word_dropout, self.dropout = nn.Dropout(word_dropout), nn.Dropout(dropout)
        if channels is not None:
            self.reader = WordWindows(embedding_size, hidden_size)
            self.matcher = WordPool(hidden_size + 2 * attention_size, hidden_size)
        sizes = [text_size, match_size] if heads == "separate" else [text_size]
        if heads == "joint" and channels is not None:
            sizes = [text_size + match_size]
        self.highways = nn.ModuleList(Highway(size) for size in sizes)
        self.scores = nn.ModuleList(_scorer(size) for size in sizes)

    def judge(
        self, embedded: Tensor, real: Tensor, context: CriticContext, image: Tensor
    ) -> Tensor:
        embedded = self.word_dropout(embedded) * real[..., None]
        text = self._read(embedded, real, self._style(context, image))
        match = None
        if context.keys is not None:
            match = self.matcher(self._match(self.reader(embedded, real), context, image), real)
        if self.num_scores == 1:
            return self._score(0, text if match is None else torch.cat([text, match], -1))
        return _beside(self._score(0, text), None if match is None else self._score(1, match))

    def _score(self, head: int, features: Tensor) -> Tensor:
        return self.scores[head](self.dropout(self.highways[head](features)))

    def _read(self, embedded: Tensor, real: Tensor, style: Tensor | None) -> Tensor:
        """(R, maps): each window's strongest answer among those that begin at a real word."""
        if style is not None:
            embedded = (embedded + style[:, None]) * real[..., None]
        missing = self.max_length - embedded.shape[1]
        if missing < 0:
            raise ValueError(
                f"captions have {embedded.shape[1]} words, max_length={self.max_length}"
            )
        embedded = functional.pad(embedded, (0, 0, 0, missing)).transpose(1, 2)
        begins = functional.pad(real, (0, missing))[:, None]
        maps = [window(embedded).relu() for window in self.windows]
        return torch.cat([(x * begins[..., : x.shape[-1]]).amax(-1) for x in maps], -1)


class BothWays(nn.Module):
    """A bidirectional GRU whose backward half begins at each row's last word, without packing."""

    def __init__(self, input_size: int, hidden_size: int, layers: int) -> None:
        super().__init__()
        sizes = [input_size] + [2 * hidden_size] * (layers - 1)
        self.onward = nn.ModuleList(nn.GRU(size, hidden_size, batch_first=True) for size in sizes)
        self.back = nn.ModuleList(nn.GRU(size, hidden_size, batch_first=True) for size in sizes)

    def forward(self, embedded: Tensor, real: Tensor) -> Tensor:
        """States (R, T, 2 * hidden) of embedded words (R, T, E); those at padding mean nothing."""
        states = embedded
        for onward, back in zip(self.onward, self.back, strict=True):
            ahead = onward(states)[0]
            behind = _reverse(back(_reverse(states, real))[0], real)
            states = torch.cat([ahead, behind], -1)
        return states


class WordWindows(nn.Module):
    """States (R, T, S) of embedded words: two convolutions, each over five words."""

    def __init__(self, input_size: int, size: int) -> None:
        super().__init__()
        self.first = nn.Conv1d(input_size, size, 5, padding=2)
        self.second = nn.Conv1d(size, size, 5, padding=2)

    def forward(self, embedded: Tensor, real: Tensor) -> Tensor:
        states = self.first(embedded.transpose(1, 2)).relu() * real[:, None]
        return self.second(states).relu().transpose(1, 2)


class Highway(nn.Module):
    """g * relu(W x) + (1 - g) * x with g = sigmoid(W_g x) (arXiv 1505.00387)."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.gate = nn.Linear(size, size)
        self.change = nn.Linear(size, size)
        nn.init.zeros_(self.gate.bias)
        nn.init.zeros_(self.change.bias)

    def forward(self, x: Tensor) -> Tensor:
        gate = self.gate(x).sigmoid()
        return gate * self.change(x).relu() + (1 - gate) * x


CRITICS: dict[str, type[GRUCritic] | type[TextCNNCritic]] = {
    "gru": GRUCritic,
    "textcnn": TextCNNCritic,
}


def build_critic(
    name: str,
    num_words: int,
    max_length: int,
    *,
    channels: int | None = None,
    num_styles: int | None = None,
    heads: Heads = "joint",
    embedding_size: int = 256,
    hidden_size: int = 256,
    word_dropout: float = 0.0,
    dropout: float = 0.0,
) -> Critic:
    """The critic `name` of `CRITICS`; the rest as in its constructor."""
    if name not in CRITICS:
        raise ValueError(f"critic must be one of {list(CRITICS)}, got {name!r}")
    return CRITICS[name](
        num_words,
        max_length,
        channels=channels,
        num_styles=num_styles,
        heads=heads,
        embedding_size=embedding_size,
        hidden_size=hidden_size,
        word_dropout=word_dropout,
        dropout=dropout,
    )


def seqgan_windows(max_length: int) -> tuple[tuple[int, int], ...]:
    """SeqGAN's (words, maps) pairs for captions of up to `max_length` words.

    Windows of 1 to 10 and 15 words as far as they are shorter than the caption, and one over
    all of it: for 20 words SeqGAN's own, for 16 those of ATTEND-GAN's authors.
    """
    maps = {1: 100, 2: 200, 3: 200, 4: 200, 5: 200, **dict.fromkeys(range(6, 11), 100), 15: 160}
    shorter = ((width, count) for width, count in maps.items() if width < max_length)
    return (*shorter, (max_length, 160))


def _scorer(size: int) -> nn.Linear:
    # A Wasserstein loss gives a score's bias no gradient but rounding noise.
    return nn.Linear(size, 1, bias=False)


def _beside(text: Tensor, match: Tensor | None) -> Tensor:
    """(R, 2) of text and match scores (R, 1); an unseen image gets the match score 0."""
    return torch.cat([text, torch.zeros_like(text) if match is None else match], -1)


def _reverse(x: Tensor, real: Tensor) -> Tensor:
    """x (R, T, F) with each row's real words in reverse order and its padding left in place."""
    length = real.sum(1, keepdim=True)
    place = torch.arange(x.shape[1], device=x.device).expand_as(real)
    order = torch.where(real, length - 1 - place, place)
    return x.gather(1, order[..., None].expand_as(x))
