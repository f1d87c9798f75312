"""The regions of a run's images: worked out by its encoder, or read from feature shards."""

from __future__ import annotations

import torch

from distgan.config import Config
from distgan.data.dataset import Dataset, Split
from distgan.data.feature_manifest import Recipe
from distgan.data.feature_shards import FeatureShards, StoredFeatures
from distgan.data.features import BLOCK
from distgan.data.images import PREPROCESSING
from distgan.models.encoders import Encoder, weights_digest


class FeatureStore:
    """The feature shards that `data.features` names, checked against the run's frozen encoder."""

    def __init__(self, config: Config, encoder: Encoder, main: Dataset) -> None:
        """ValueError when the features are not what the encoder would give for `main`'s images."""
        given = config.data.features
        assert given is not None
        if config.method.encoder.learns:
            raise ValueError(
                f"data.features={given}: method.encoder.learns=true trains the encoder, which "
                "needs the images themselves; leave data.features out, or give the encoder "
                "weights of its own and learns=false"
            )
        self.config, self.encoder, self.given = config, encoder, given
        self._weights = weights_digest(encoder)
        self._used = False
        self._opened: dict[str, FeatureShards] = {}
        self.dtype = self._of_dataset(main).manifest.recipe.dtype

    def of_split(self, split: Split, device: torch.device) -> StoredFeatures:
        """The features of a split's images. ValueError when they are not all there."""
        double = self.config.engine.precision == "float64"
        return self._of_dataset(split.dataset).of_split(
            split,
            device=device,
            dtype=torch.float64 if double else torch.float32,
            max_bad_samples=self.config.data.max_bad_samples,
        )

    def check_weights(self) -> None:
        """ValueError when the encoder had other weights at its first use than when it was built."""
        if not self._used and weights_digest(self.encoder) != self._weights:
            raise ValueError(
                f"data.features={self.given}: the encoder has got other weights since it was "
                "built (init_from?), so these features are not its own"
            )
        self._used = True

    def _of_dataset(self, dataset: Dataset) -> FeatureShards:
        if dataset.path not in self._opened:
            try:
                damage = self.config.data.max_bad_samples > 0
                shards = FeatureShards.open(dataset, self.given, allow_damage=damage)
            except ValueError as error:
                raise ValueError(f"data.features={self.given}: {error}") from error
            wrong = shards.differences(self._wanted(dataset))
            if wrong:
                raise ValueError(
                    f"data.features={self.given}: {shards.place} has features of "
                    f"{', '.join(wrong)} as in this run; make them with launch/prepare.py features"
                )
            self._opened[dataset.path] = shards
        return self._opened[dataset.path]

    def _wanted(self, dataset: Dataset) -> Recipe:
        return Recipe(
            dataset=dataset.digest,
            encoder=self.config.method.encoder.name,
            weights=self._weights,
            image_size=self.config.data.image_size,
            preprocessing=PREPROCESSING,
            dtype="float32",
            block=BLOCK,
            shard_rows=BLOCK,
        )
