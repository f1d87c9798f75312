"""How much a word says of its caption: TF-IDF, with training captions as the documents.

    idf(w)    = ln((1 + n) / (1 + df(w))) + 1
    tf(w, c)  = how often w occurs in c
    x(w, c)   = tf(w, c) idf(w) / sqrt(sum over words v of c of (tf(v, c) idf(v))^2)

n captions, df(w) of them with the word w. It is the smooth variant: as if one more caption had
every word, so that no word divides by zero; scikit-learn's TfidfVectorizer computes the same.
PAD, START, END and UNK weigh nothing.

Letters: B captions, T words, V vocabulary.
"""

from __future__ import annotations

import math
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from distgan.data.dataset import Dataset
from distgan.data.shard_index import is_unseen
from distgan.data.vocabulary import END, PAD, SPECIAL, START, UNK, Tokens

_WEIGHTLESS = (PAD, START, END, UNK)


@dataclass(frozen=True)
class WordWeights:
    """The inverse document frequencies of a vocabulary's words."""

    documents: int  # n
    frequencies: Tensor  # df, (V,) int64; 0 for the special words

    @classmethod
    def of(cls, captions: Iterable[str], tokens: Tokens) -> WordWeights:
        """From captions, each a document. ValueError when there are none."""
        counts: Counter[int] = Counter()
        documents = 0
        for caption in captions:
            counts.update(set(tokens.encode(caption, sys.maxsize)))
            documents += 1
        if documents == 0:
            raise ValueError("TF-IDF: no captions to count words in")
        numbers = range(len(tokens))
        found = [0 if number in _WEIGHTLESS else counts[number] for number in numbers]
        return cls(documents, torch.tensor(found))

    @classmethod
    def of_dataset(cls, dataset: Dataset, tokens: Tokens) -> WordWeights:
        """From the captions of the dataset's training splits."""
        return cls.of(training_captions(dataset), tokens)

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> WordWeights:
        return cls(state["documents"], torch.tensor(state["frequencies"]))

    def state(self) -> dict[str, Any]:
        """For a checkpoint; whole numbers, so that it comes back the same everywhere."""
        return {"documents": self.documents, "frequencies": self.frequencies.tolist()}

    @property
    def idf(self) -> Tensor:
        """(V,) float64."""
        n, df = self.documents, self.frequencies.to(torch.float64)
        weights = math.log(1 + n) - torch.log1p(df) + 1
        weights[: len(SPECIAL)] = 0
        return weights

    def bag(self, words: Tensor) -> Tensor:
        """x, (B, V) float64, of words (B, T) int64: each row has length 1, or is all zero."""
        counts = torch.zeros(len(words), len(self.frequencies), dtype=torch.float64)
        ones = torch.ones(words.shape, dtype=torch.float64)
        counts = counts.to(words.device).scatter_add(1, words, ones.to(words.device))
        weighted = counts * self.idf.to(words.device)
        return torch.nn.functional.normalize(weighted, dim=1)

    def of_words(self, words: Tensor) -> Tensor:
        """(B, T) float64: the x of the word at each place of its caption, words (B, T) int64."""
        same = (words[:, :, None] == words[:, None, :]).to(torch.float64)
        times = same.sum(2)  # tf of the word at each place
        weighted = times * self.idf.to(words.device)[words]
        squares = (weighted.square() / times).sum(1, keepdim=True)  # each word once
        return weighted / squares.sqrt().clamp(min=torch.finfo(torch.float64).tiny)


def training_captions(dataset: Dataset) -> Iterator[str]:
    """The captions of all splits but val and test, in the index's order."""
    for name in dataset.splits:
        if not is_unseen(name):
            split = dataset.split(name)
            for number in range(len(split.caption_rows())):
                yield split.caption(number).text
