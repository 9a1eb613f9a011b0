"""What is remembered of one user, and its bytes in the table and the changelog.

A value is a header, sections, the window of event-id digests, and the history in two columns:

    header   version u8 | window u8 (digests) | interactions u16 | crc32 u32 of all that follows
             newest u64 (ms) | offset i64 | day u16 | bytes of sections u32
    section  tag u8 | length u32 | what the tag's owner makes of it
    digest   the first 6 bytes of the event id's xxh3, oldest first
    head     type u8 | id length u8 | time (ms, 6 bytes, big-endian), its first 4
    tail     its last 2 | item id, UTF-8

Heads differ little from one another and compress to next to nothing, which entries in one piece do not: a user takes
510 bytes of the disk for 610. Both columns are appended to and cut off as bytes, never decoded to fold an event: only
scoring a user decodes them.

What is added to a state becomes a section: a worker that does not know its tag carries it along unchanged, so workers
of two releases can share the users. Only a change of the layout itself raises the version. A reader takes every version
up to its own and writes its own; a newer one is NewerStateError, and the worker stops, because setting it aside would
lose the history. Version 2 had digests of 8 bytes and entries in one piece (type u8 | id length u8 | time u16 high, u32
low | item id), little-endian; version 1 had neither day nor sections besides.
"""

from collections.abc import Iterator
from struct import Struct, error
from typing import Final, NamedTuple
from zlib import crc32

from xxhash import xxh3_64_digest

from streams.errors import BrokenStateError, NewerStateError

VERSION: Final = 3
DAY_MS: Final = 86_400_000
_HEADER: Final = Struct("<BBHI")
_BODY: Final = Struct("<QqHI")
_BODY_1: Final = Struct("<Qq")
_SECTION: Final = Struct("<BI")
_HEAD: Final = Struct(">BBI")
_LOW: Final = Struct(">H")
_ENTRY_2: Final = Struct("<BBHI")
HEAD_BYTES: Final = _HEAD.size
DIGEST_BYTES: Final = 6
"""A window of 16 takes one of 18 million million new events for a repeated one."""
_DIGEST_BYTES_2: Final = 8


class Entry(NamedTuple):
    """One interaction of a history."""

    item_id: str
    type: int
    """A code of records.TYPE_CODES."""
    timestamp: int
    """Event time, epoch milliseconds."""


class UserState:
    """A user's history and what is needed to fold each event once."""

    __slots__ = ("day", "heads", "in_flight", "newest", "offset", "sections", "tails", "window")

    def __init__(
        self,
        offset: int = -1,
        newest: int = 0,
        window: bytes = b"",
        heads: bytes = b"",
        tails: bytes = b"",
        day: int = 0,
        sections: bytes = b"",
    ) -> None:
        self.offset = offset
        """Of the last interaction folded in, in the user's partition: what was read before is not folded again."""
        self.newest = newest
        """The history's latest event time."""
        self.window = window
        self.heads = heads
        self.tails = tails
        self.day = day
        """On which something was last folded in: processing time, days since 1970; 0 is not known."""
        self.sections = sections
        """What others keep with the user, tag by tag; empty for most."""
        self.in_flight = 0
        """Batches that changed this state and are not yet in the local store; not part of the bytes."""

    @property
    def count(self) -> int:
        """How many interactions the history has."""
        return len(self.heads) // HEAD_BYTES

    def encode(self) -> bytes:
        """Return the value for table and changelog."""
        window, heads = self.window, self.heads
        fixed = _BODY.pack(self.newest, self.offset, self.day, len(self.sections))
        body = b"".join((fixed, self.sections, window, heads, self.tails))
        return _HEADER.pack(VERSION, len(window) // DIGEST_BYTES, len(heads) // HEAD_BYTES, crc32(body)) + body

    def history(self) -> list[Entry]:
        """Return the interactions, oldest first."""
        return list(_walk(self.heads, self.tails))

    def kept(self) -> list[Entry]:
        """Return the purchases and dislikes that the history holds no more, oldest first."""
        return []

    def section(self, tag: int) -> bytes:
        """Return what is kept under a tag, empty when nothing is."""
        return next((value for found, value in _sections(self.sections) if found == tag), b"")

    def set_section(self, tag: int, value: bytes) -> None:
        """Keep a value under a tag, those of the other tags unchanged; an empty one takes the tag out."""
        kept = [(other, old) for other, old in _sections(self.sections) if other != tag]
        kept += [(tag, value)] if value else []
        self.sections = b"".join(_SECTION.pack(name, len(held)) + held for name, held in kept)

    def repeats(self, digest: bytes) -> bool:
        """Tell whether the event id of that digest is in the window."""
        at = self.window.find(digest)
        while at >= 0 and at % DIGEST_BYTES:  # a match across two digests
            at = self.window.find(digest, at + 1)
        return at >= 0


def decode_state(value: bytes) -> UserState:
    """Return the state that the bytes hold.

    Raises:
        BrokenStateError: they are damaged.
        NewerStateError: they are of a newer version.
    """
    try:
        version, window, count, checksum = _HEADER.unpack_from(value)
        if crc32(value[_HEADER.size :]) != checksum:
            raise BrokenStateError(f"a state of {len(value)} bytes does not match its checksum")
        if version > VERSION:
            raise NewerStateError(
                f"A user state is of version {version}, this worker reads up to {VERSION}; upgrade it."
            )
        if version == 1:
            (newest, offset), day, sections, start = _BODY_1.unpack_from(value, _HEADER.size), 0, 0, _BODY_1.size
        else:
            (newest, offset, day, sections), start = _BODY.unpack_from(value, _HEADER.size), _BODY.size
    except error as exc:
        raise BrokenStateError(f"a state of {len(value)} bytes has no header") from exc
    start += _HEADER.size
    held = start + sections
    end = held + window * (DIGEST_BYTES if version == VERSION else _DIGEST_BYTES_2)
    digests, kept = value[held:end], value[start:held]
    if version == VERSION:
        tails = end + count * HEAD_BYTES
        return UserState(offset, newest, digests, value[end:tails], value[tails:], day, kept)
    shorter = b"".join(digests[at : at + DIGEST_BYTES] for at in range(0, len(digests), _DIGEST_BYTES_2))
    return UserState(offset, newest, shorter, *_columns(value[end:]), day, kept)


def last_day(value: bytes) -> int:
    """Return the `day` of an encoded state without decoding it; 0 when it has none that can be read."""
    if len(value) < _HEADER.size + _BODY.size or not 1 < value[0] <= VERSION:
        return 0
    return int(_BODY.unpack_from(value, _HEADER.size)[2])


def section_of(value: bytes, tag: int) -> bytes:
    """Return a section of an encoded state without decoding the rest; empty when it has none that can be read."""
    start = _HEADER.size + _BODY.size
    if len(value) < start or not 1 < value[0] <= VERSION:
        return b""
    length = _BODY.unpack_from(value, _HEADER.size)[3]
    try:
        return next((held for found, held in _sections(value[start : start + length]) if found == tag), b"")
    except error:
        return b""


def source_offset(value: bytes | None) -> int:
    """Return the `offset` of an encoded state without decoding it; -1 when it has none that can be read."""
    if value is None or len(value) < _HEADER.size + _BODY_1.size:
        return -1
    return int(_BODY_1.unpack_from(value, _HEADER.size)[1])  # all layouts begin alike


def digest_of(event_id: str) -> bytes:
    """Return the 6 bytes by which a repeated event is recognised."""
    digest: bytes = xxh3_64_digest(event_id.encode())
    return digest[:DIGEST_BYTES]


def columns_of(item_id: str, type_code: int, timestamp: int) -> tuple[bytes, bytes]:
    """Return head and tail of one history entry."""
    identifier = item_id.encode()
    return _HEAD.pack(type_code, len(identifier), timestamp >> 16), _LOW.pack(timestamp & 0xFFFF) + identifier


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


def _sections(sections: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(sections):
        tag, length = _SECTION.unpack_from(sections, at)
        at += _SECTION.size + length
        yield tag, sections[at - length : at]


def _walk(heads: bytes, tails: bytes) -> Iterator[Entry]:
    at, low_time, low = 0, _LOW.unpack_from, _LOW.size
    for type_code, length, high in _HEAD.iter_unpack(heads):
        end = at + low + length
        yield Entry(tails[at + low : end].decode(), type_code, high << 16 | low_time(tails, at)[0])
        at = end


def _columns(entries: bytes) -> tuple[bytes, bytes]:
    """Return heads and tails of entries in one piece."""
    heads, tails, at = b"", b"", 0
    while at < len(entries):
        type_code, length, high, low = _ENTRY_2.unpack_from(entries, at)
        at += _ENTRY_2.size + length
        heads += _HEAD.pack(type_code, length, (high << 32 | low) >> 16)
        tails += _LOW.pack(low & 0xFFFF) + entries[at - length : at]
    return heads, tails
