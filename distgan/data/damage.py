"""What goes wrong with samples, each error naming the shard and the key."""

from __future__ import annotations


class DamagedSample(ValueError):  # noqa: N818 (what it is, not that it is one)
    """A sample that cannot be used: wrong bytes, a cut shard, an unreadable image, no words."""

    def __init__(self, shard: str, key: str, reason: str) -> None:
        super().__init__(shard, key, reason)
        self.shard = shard
        self.key = key
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.shard}: {self.key}: {self.reason}"


class TooManyBadSamples(RuntimeError):  # noqa: N818 (what it is, not that it is one)
    """More samples were damaged than `max_bad_samples` allows; the message names them."""


class UnreadableImage(ValueError):  # noqa: N818 (what it is, not that it is one)
    """Bytes that are no image, a cut or damaged one, or one too large to decode safely."""
