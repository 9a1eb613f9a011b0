"""What is remembered of one user, and its bytes in the table and the changelog.

A value is a header, the window of event-id digests and the history, entry after entry:

    header   version u8 | window u8 (digests) | interactions u16 | crc32 u32 of all that follows
             newest u64 (ms) | offset i64 | day u16 | bytes of sections u32
    section  tag u8 | length u32 | what the tag's owner makes of it
    digest   the event id's xxh3, 8 bytes each, oldest first
    entry    type u8 | id length u8 | time (ms) u16 high, u32 low | item id, UTF-8

Entries are appended and cut off as bytes, never decoded to fold an event: only scoring a user decodes them.

What is added to a state becomes a section: a worker that does not know its tag carries it along unchanged, so workers
of two releases can share the users. Only a change of the layout itself raises the version. A reader takes every version
up to its own (version 1 had neither day nor sections); a newer one is NewerStateError, and the worker stops, because
setting it aside would lose the history.
"""

from collections.abc import Iterator
from struct import Struct, error
from typing import Final, NamedTuple
from zlib import crc32

from xxhash import xxh3_64_digest

from streams.errors import BrokenStateError, NewerStateError

VERSION: Final = 2
DAY_MS: Final = 86_400_000
_HEADER: Final = Struct("<BBHI")
_BODY: Final = Struct("<QqHI")
_BODY_1: Final = Struct("<Qq")
_SECTION: Final = Struct("<BI")
_ENTRY: Final = Struct("<BBHI")
_DIGEST_BYTES: Final = 8


class Entry(NamedTuple):
    """One interaction of a history."""

    item_id: str
    type: int
    """A code of records.TYPE_CODES."""
    timestamp: int
    """Event time, epoch milliseconds."""


class UserState:
    """A user's history and what is needed to fold each event once."""

    __slots__ = ("count", "day", "entries", "in_flight", "newest", "offset", "sections", "window")

    def __init__(
        self,
        offset: int = -1,
        newest: int = 0,
        count: int = 0,
        window: bytes = b"",
        entries: bytes = b"",
        day: int = 0,
        sections: bytes = b"",
    ) -> None:
        self.offset = offset
        """Of the last interaction folded in, in the user's partition: what was read before is not folded again."""
        self.newest = newest
        """The history's latest event time."""
        self.count = count
        self.window = window
        self.entries = entries
        self.day = day
        """On which something was last folded in: processing time, days since 1970; 0 is not known."""
        self.sections = sections
        """What others keep with the user, tag by tag; empty for most."""
        self.in_flight = 0
        """Batches that changed this state and are not yet in the local store; not part of the bytes."""

    def encode(self) -> bytes:
        """Return the value for table and changelog."""
        fixed = _BODY.pack(self.newest, self.offset, self.day, len(self.sections))
        body = fixed + self.sections + self.window + self.entries
        return _HEADER.pack(VERSION, len(self.window) // _DIGEST_BYTES, self.count, crc32(body)) + body

    def history(self) -> list[Entry]:
        """Return the interactions, oldest first."""
        return list(_walk(self.entries))

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
        while at >= 0 and at % _DIGEST_BYTES:  # a match across two digests
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
    end = held + window * _DIGEST_BYTES
    return UserState(offset, newest, count, value[held:end], value[end:], day, value[start:held])


def last_day(value: bytes) -> int:
    """Return the `day` of an encoded state without decoding it; 0 when it has none that can be read."""
    if len(value) < _HEADER.size + _BODY.size or value[0] != VERSION:
        return 0
    return int(_BODY.unpack_from(value, _HEADER.size)[2])


def section_of(value: bytes, tag: int) -> bytes:
    """Return a section of an encoded state without decoding the rest; empty when it has none that can be read."""
    start = _HEADER.size + _BODY.size
    if len(value) < start or value[0] != VERSION or not (length := _BODY.unpack_from(value, _HEADER.size)[3]):
        return b""
    try:
        return next((held for found, held in _sections(value[start : start + length]) if found == tag), b"")
    except error:
        return b""


def source_offset(value: bytes | None) -> int:
    """Return the `offset` of an encoded state without decoding it; -1 when it has none that can be read."""
    if value is None or len(value) < _HEADER.size + _BODY_1.size:
        return -1
    return int(_BODY_1.unpack_from(value, _HEADER.size)[1])  # both layouts begin alike


def digest_of(event_id: str) -> bytes:
    """Return 8 bytes by which a repeated event is recognised."""
    digest: bytes = xxh3_64_digest(event_id.encode())
    return digest


def entry_bytes(item_id: str, type_code: int, timestamp: int) -> bytes:
    """Return the bytes of one history entry."""
    identifier = item_id.encode()
    return _ENTRY.pack(type_code, len(identifier), timestamp >> 32, timestamp & 0xFFFFFFFF) + identifier


def entry_time(entries: bytes, at: int) -> int:
    """Return the event time of the entry that begins there."""
    _, _, high, low = _ENTRY.unpack_from(entries, at)
    return int(high << 32 | low)


def entry_end(entries: bytes, at: int) -> int:
    """Return where the entry that begins there ends."""
    return at + _ENTRY.size + entries[at + 1]


def _sections(sections: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(sections):
        tag, length = _SECTION.unpack_from(sections, at)
        at += _SECTION.size + length
        yield tag, sections[at - length : at]


def _walk(entries: bytes) -> Iterator[Entry]:
    at, end, unpack, head = 0, len(entries), _ENTRY.unpack_from, _ENTRY.size
    while at < end:
        type_code, length, high, low = unpack(entries, at)
        at += head + length
        yield Entry(entries[at - length : at].decode(), type_code, high << 32 | low)
