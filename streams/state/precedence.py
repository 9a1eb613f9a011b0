"""two values of one user -> the one to keep: what a worker writes late, that lost its partitions, must not win.

A value reflects the interactions up to one offset and the impressions up to another; an owner's values only grow in
both. A tombstone says how idle a user had to be for it.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Final, Protocol

from streams.errors import BrokenStateError
from streams.state.impressions import SECTION, impressions_offset
from streams.state.user_state import decode_state, last_day, source_offset

Headers = Sequence[tuple[str, bytes]]

_BEFORE_DAY: Final = "before-day"


class Written(Protocol):
    """A record of the changelog, of whichever client."""

    @property
    def key(self) -> bytes:
        """The user."""

    @property
    def value(self) -> bytes | None:
        """The state, None for a tombstone."""

    @property
    def headers(self) -> Headers | None:
        """What else it says."""


def tombstone_headers(before_day: int) -> Headers:
    """Return the headers of a tombstone for a user in whose state nothing was folded since a day."""
    return [(_BEFORE_DAY, b"%d" % before_day)]


def covers(value: bytes | None, other: bytes | None) -> bool:
    """Tell whether a value reflects everything that another one reflects."""
    if value is None or other is None:
        return other is None
    return source_offset(value) >= source_offset(other) and impressions_offset(value) >= impressions_offset(other)


def settle(held: bytes | None, value: bytes | None, headers: Headers | None = None) -> bytes | None:
    """Return what is to be kept of a user when a value comes after another one.

    Args:
        held: what was kept so far, None for nothing.
        value: of the later record, None for a tombstone.
        headers: of the later record.
    """
    if held is None:
        return value
    if value is None:
        return None if _forgets(headers, held) else held
    return value if covers(value, held) or _broken(held) else _join(held, value)


def settled(
    records: Iterable[Written], read: Callable[[bytes], bytes | None], set_back: set[bytes]
) -> dict[bytes, bytes | None]:
    """Return what is to be kept of each user when records come one after another.

    Args:
        records: in the changelog's order.
        read: what was kept of a user before them.
        set_back: gets the users whose newest record is not what is kept of them, and loses those whose newest is.
    """
    kept: dict[bytes, bytes | None] = {}
    for record in records:
        key, value = record.key, record.value
        held = kept[key] if key in kept else read(key)
        kept[key] = now = value if held is None else settle(held, value, record.headers)
        if now is not value:
            set_back.add(key)
        elif set_back:
            set_back.discard(key)
    return kept


def _forgets(headers: Headers | None, held: bytes) -> bool:
    """Whether a tombstone may take a value; one without a day is of an older release, and may."""
    day = dict(headers or ()).get(_BEFORE_DAY)
    return day is None or last_day(held) < int(day)


def _broken(value: bytes) -> bool:
    try:
        decode_state(value)
    except BrokenStateError:
        return True
    return False


def _join(held: bytes, value: bytes) -> bytes:
    """Return the held value, or both in one when the other reflects impressions or interactions that it does not."""
    if covers(held, value) or _broken(value):
        return held
    newer, older = sorted((held, value), key=source_offset, reverse=True)
    joined = decode_state(newer)
    joined.set_section(SECTION, decode_state(older).section(SECTION))
    return joined.encode()
