"""Puts another sample in the place of a damaged one: the same on every rank, and accounted for."""

from __future__ import annotations

from typing import NamedTuple

from distgan.data.damage import DamagedSample, TooManyBadSamples
from distgan.data.folder import Read, read_now
from distgan.data.order import Order
from distgan.data.sources import Item, Source

_SUBSTITUTES = 64  # items tried for the place of a damaged one


class Fault(NamedTuple):
    """A damaged sample whose place another one took."""

    position: int
    item: int
    what: str


def usable(
    source: Source, order: Order, position: int, item: int, read: Read = read_now
) -> tuple[int, Item, list[Fault]]:
    """The item that stands at a position, or the first sound one that the order has for it."""
    try:
        return item, source.sample(item, read), []
    except DamagedSample as error:
        faults = [Fault(position, item, str(error))]
    for other in order.substitutes(position, _SUBSTITUTES).tolist():
        try:
            return other, source[other], faults
        except DamagedSample as error:
            last = error
    raise TooManyBadSamples(
        f"stream {order.name}: {faults[0].what}; and so are {_SUBSTITUTES} others "
        f"tried in its place, the last {last}"
    )
