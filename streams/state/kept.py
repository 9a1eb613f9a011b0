"""what falls off a history -> what is kept of it: what was bought, liked and disliked outlives what was looked at.

Of each item the newest purchase is kept, and the newest opinion: a like or a dislike. A like is kept because it takes
an older dislike back, in whatever order they fall off. What is kept depends on what has fallen off, not on when or in
how many pieces: the newest of an item only moves up, and so does the oldest that the limit lets stay.
"""

from bisect import bisect
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from typing import Final

from streams.records import TYPE_CODES
from streams.state.entries import (
    HEAD_BYTES,
    LOW_BYTES,
    Entry,
    columns_of_all,
    entries_of,
    entry_time,
    surely_since,
    tails_end,
)

_PURCHASE: Final = TYPE_CODES["purchase"]
_DISLIKE: Final = TYPE_CODES["dislike"]
_KEPT: Final = (_PURCHASE, _DISLIKE, TYPE_CODES["like"])

Columns = tuple[bytes, bytes]
"""Heads and tails of entries."""


def keep(kept: Columns, fallen: Columns, oldest_ms: int, limit: int) -> Columns:
    """Return what is to be kept, oldest first.

    Args:
        kept: what was kept before.
        fallen: what fell off the history since, in its order.
        oldest_ms: event time below which nothing is kept.
        limit: the newest so many stay.
    """
    types = fallen[0][::HEAD_BYTES]
    for code in _KEPT:
        if code in types:
            return _bounded(_with_newest(kept, list(_worth_keeping(*fallen))), oldest_ms, limit)
    return _bounded(kept, oldest_ms, limit)


def still_kept(entries: Iterable[Entry]) -> list[Entry]:
    """Return the purchases, and the dislikes that neither a like nor a later purchase took back, oldest first."""
    kept = list(entries)
    bought = {entry.item_id: entry.timestamp for entry in kept if entry.type == _PURCHASE}
    return [
        entry
        for entry in kept
        if entry.type == _PURCHASE or (entry.type == _DISLIKE and bought.get(entry.item_id, -1) < entry.timestamp)
    ]


def _worth_keeping(heads: bytes, tails: bytes) -> Iterator[Columns]:
    """Yield head and tail of the entries that are of a type that is kept; the others are not decoded."""
    for number, code in enumerate(heads[::HEAD_BYTES]):
        if code in _KEPT:
            head, tail = number * HEAD_BYTES, tails_end(heads, number)
            yield heads[head : head + HEAD_BYTES], tails[tail : tail + LOW_BYTES + heads[head + 1]]


def _with_newest(kept: Columns, fallen: Sequence[Columns]) -> Columns:
    """Add entries; each takes the place of an older one of its item, which most often is not there."""
    heads, tails = kept
    for head, tail in fallen:
        if heads and entry_time(head, tail, 0, 0) <= _newest_ms(heads, tails):  # it came late, or in the same moment
            return _sorted(*kept, fallen)
        heads, tails = _without(heads, tails, head, tail)
        heads, tails = heads + head, tails + tail
    return heads, tails


def _sorted(heads: bytes, tails: bytes, fallen: Sequence[Columns]) -> Columns:
    """Return the newest of each item, of entries that are not in order: seldom, because it decodes them all."""
    newest: dict[tuple[str, bool], Entry] = {}
    heads += b"".join(head for head, _ in fallen)
    tails += b"".join(tail for _, tail in fallen)
    for entry in entries_of(heads, tails):
        key = entry.item_id, entry.type == _PURCHASE
        if key not in newest or entry.timestamp >= newest[key].timestamp:
            newest[key] = entry
    in_order = sorted(newest.values(), key=lambda entry: (entry.timestamp, entry.item_id, entry.type == _PURCHASE))
    return columns_of_all(in_order)


def _newest_ms(heads: bytes, tails: bytes) -> int:
    return entry_time(heads, tails, len(heads) // HEAD_BYTES - 1, len(tails) - LOW_BYTES - heads[1 - HEAD_BYTES])


def _without(heads: bytes, tails: bytes, newer_head: bytes, newer_tail: bytes) -> Columns:
    """Take out the older purchase of an item, or the older opinion of it."""
    identifier, is_purchase = newer_tail[LOW_BYTES:], newer_head[0] == _PURCHASE
    at = tails.find(identifier)
    if at < 0:
        return heads, tails
    ends = list(accumulate(LOW_BYTES + length for length in heads[1::HEAD_BYTES]))
    while at >= 0:
        number = bisect(ends, at)
        begin, head = ends[number - 1] if number else 0, number * HEAD_BYTES
        is_whole = (begin + LOW_BYTES, ends[number]) == (at, at + len(identifier))
        if is_whole and (heads[head] == _PURCHASE) == is_purchase:
            return heads[:head] + heads[head + HEAD_BYTES :], tails[:begin] + tails[ends[number] :]
        at = tails.find(identifier, at + 1)
    return heads, tails


def _bounded(kept: Columns, oldest_ms: int, limit: int) -> Columns:
    """Cut off what is too old and what is too many, which both lie at the front."""
    heads, tails = kept
    surplus = len(heads) // HEAD_BYTES - limit
    cut = end = 0
    while len(heads) > cut * HEAD_BYTES and (
        cut < surplus
        or (not surely_since(heads[cut * HEAD_BYTES :], oldest_ms) and entry_time(heads, tails, cut, end) < oldest_ms)
    ):
        end += LOW_BYTES + heads[cut * HEAD_BYTES + 1]
        cut += 1
    return heads[cut * HEAD_BYTES :], tails[end:]
