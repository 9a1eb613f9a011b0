"""a history's entries as two columns of bytes, which are appended to and cut off without being decoded.

    head     type u8 | id length u8 | time (ms, 6 bytes, big-endian), its first 4
    tail     its last 2 | item id, UTF-8

Heads differ little from one another and compress to next to nothing, which entries in one piece do not: a user takes
510 bytes of the disk for 610.
"""

from collections.abc import Iterable, Iterator
from struct import Struct
from typing import Final, NamedTuple

_HEAD: Final = Struct(">BBI")
_LOW: Final = Struct(">H")
_ENTRY_2: Final = Struct("<BBHI")
HEAD_BYTES: Final = _HEAD.size
LOW_BYTES: Final = _LOW.size
"""Of a tail, before the item id."""


class Entry(NamedTuple):
    """One interaction of a history."""

    item_id: str
    type: int
    """A code of records.TYPE_CODES."""
    timestamp: int
    """Event time, epoch milliseconds."""


def columns_of(item_id: str, type_code: int, timestamp: int) -> tuple[bytes, bytes]:
    """Return head and tail of one entry."""
    identifier = item_id.encode()
    return _HEAD.pack(type_code, len(identifier), timestamp >> 16), _LOW.pack(timestamp & 0xFFFF) + identifier


def columns_of_all(entries: Iterable[Entry]) -> tuple[bytes, bytes]:
    """Return the columns of several entries."""
    pairs = [columns_of(*entry) for entry in entries]
    return b"".join(head for head, _ in pairs), b"".join(tail for _, tail in pairs)


def columns_of_version_2(entries: bytes) -> tuple[bytes, bytes]:
    """Return the columns of entries in one piece: type u8 | id length u8 | time u16 high, u32 low | item id."""
    heads, tails, at = b"", b"", 0
    while at < len(entries):
        type_code, length, high, low = _ENTRY_2.unpack_from(entries, at)
        at += _ENTRY_2.size + length
        heads += _HEAD.pack(type_code, length, (high << 32 | low) >> 16)
        tails += _LOW.pack(low & 0xFFFF) + entries[at - length : at]
    return heads, tails


def entries_of(heads: bytes, tails: bytes) -> Iterator[Entry]:
    """Yield the entries of two columns."""
    at, low_time, low = 0, _LOW.unpack_from, _LOW.size
    for type_code, length, high in _HEAD.iter_unpack(heads):
        end = at + low + length
        yield Entry(tails[at + low : end].decode(), type_code, high << 16 | low_time(tails, at)[0])
        at = end


def entry_time(heads: bytes, tails: bytes, number: int, at: int) -> int:
    """Return the event time of an entry, by its number and where its tail begins."""
    head = number * HEAD_BYTES
    return int.from_bytes(heads[head + 2 : head + HEAD_BYTES] + tails[at : at + _LOW.size])


def surely_since(heads: bytes, timestamp: int) -> bool:
    """Tell from the first head alone whether no entry is older than a time; False within a minute of it."""
    high: int = _HEAD.unpack_from(heads)[2]
    return high > timestamp >> 16


def tails_end(heads: bytes, number: int) -> int:
    """Return where the tails of the first so many entries end."""
    return number * _LOW.size + sum(heads[1 : number * HEAD_BYTES : HEAD_BYTES])
