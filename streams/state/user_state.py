"""What is remembered of one user, and its bytes in the table and the changelog.

A value is a header, sections, event ids, and entries in two columns (see entries), those that are kept before those of
the history:

    header   version u8 | kept u8 (entries) | interactions u16 | crc32 u32 of all that follows
             newest u64 (ms) | offset i64 | day u16 | bytes of sections u32 | event ids u16 | older ones of these u16
    section  tag u8 | length u32 | what the tag's owner makes of it
    ids      6 bytes of each id's xxh3, oldest first: the first bytes of all, then the other 5 of each

An id is looked up among the first bytes, by C's search for one byte: .1 us among 16, .6 among 1,024, where a search for
6 bytes takes 5. Ids, columns and sections are appended to and cut off as bytes, never decoded to fold an event: only
scoring a user decodes the entries.

What is added to a state becomes a section: a worker that does not know its tag carries it along unchanged, so workers
of two releases can share the users. Only a change of the layout itself raises the version. A reader takes every version
up to its own and writes its own; a newer one is NewerStateError, and the worker stops, because setting it aside would
lose the history. Version 3 had 255 event ids at most, each in one piece, and kept nothing that fell off the history;
version 2 had digests of 8 bytes and entries in one piece; version 1 had neither day nor sections besides.
"""

from collections.abc import Iterator
from struct import Struct, error
from typing import Final
from zlib import crc32

from xxhash import xxh3_64_digest

from streams.errors import BrokenStateError, NewerStateError
from streams.state.entries import HEAD_BYTES, Entry, columns_of_version_2, entries_of, tails_end
from streams.state.kept import still_kept

VERSION: Final = 4
DAY_MS: Final = 86_400_000
MOST_BYTES: Final = 900_000
"""Of a value, whatever its user did: Kafka's default takes no record above 1 MiB."""
LASTING_IDS: Final = 16
"""Event ids that are remembered however long ago they came."""
_HEADER: Final = Struct("<BBHI")
_BODY: Final = Struct("<QqHIHH")
_BODY_2: Final = Struct("<QqHI")
_BODY_1: Final = Struct("<Qq")
_SECTION: Final = Struct("<BI")
DIGEST_BYTES: Final = 6
"""A thousand ids take one of 280 thousand million new ones for a repeated one."""
_REST_BYTES: Final = DIGEST_BYTES - 1


class UserState:
    """A user's history and what is needed to fold each event once."""

    __slots__ = (
        "day", "firsts", "heads", "in_flight", "kept_heads", "kept_tails", "newest", "offset", "older", "rests",
        "sections", "tails",
    )  # fmt: skip

    def __init__(
        self,
        offset: int = -1,
        newest: int = 0,
        digests: bytes = b"",
        heads: bytes = b"",
        tails: bytes = b"",
        day: int = 0,
        sections: bytes = b"",
    ) -> None:
        self.offset = offset
        """Of the last interaction folded in, in the user's partition: what was read before is not folded again."""
        self.newest = newest
        """The history's latest event time."""
        self.firsts = bytearray(digests[::DIGEST_BYTES])
        """Of the event ids' digests, the first byte of each; the oldest come first."""
        self.rests = bytearray(digests)
        """Of the same, the other bytes."""
        del self.rests[::DIGEST_BYTES]
        self.older = 0
        """How many of the event ids came before `day`."""
        self.heads = heads
        self.tails = tails
        self.kept_heads = b""
        """Of entries that the history holds no more (see kept), oldest first."""
        self.kept_tails = b""
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
        firsts, heads, kept_heads, sections = self.firsts, self.heads, self.kept_heads, self.sections
        fixed = _BODY.pack(self.newest, self.offset, self.day, len(sections), len(firsts), self.older)
        body = b"".join((fixed, sections, firsts, self.rests, kept_heads, heads, self.kept_tails, self.tails))
        counts = len(kept_heads) // HEAD_BYTES, len(heads) // HEAD_BYTES
        return _HEADER.pack(VERSION, *counts, crc32(body)) + body

    def history(self) -> list[Entry]:
        """Return the interactions, oldest first."""
        return list(entries_of(self.heads, self.tails))

    def kept(self) -> list[Entry]:
        """Return the purchases and dislikes that the history holds no more, oldest first."""
        return still_kept(entries_of(self.kept_heads, self.kept_tails)) if self.kept_heads else []

    def section(self, tag: int) -> bytes:
        """Return what is kept under a tag, empty when nothing is."""
        return next((value for found, value in _sections(self.sections) if found == tag), b"")

    def set_section(self, tag: int, value: bytes) -> None:
        """Keep a value under a tag, those of the other tags unchanged; an empty one takes the tag out."""
        kept = [(other, old) for other, old in _sections(self.sections) if other != tag]
        kept += [(tag, value)] if value else []
        self.sections = b"".join(_SECTION.pack(name, len(held)) + held for name, held in kept)

    def repeats(self, first: int, rest: bytes) -> bool:
        """Tell whether the event id of that digest is remembered."""
        firsts, rests, at = self.firsts, self.rests, self.firsts.find(first)
        while at >= 0 and not rests.startswith(rest, _REST_BYTES * at):
            at = firsts.find(first, at + 1)
        return at >= 0

    def remember(self, first: int, rest: bytes, limit: int) -> None:
        """Add the digest of an event id; beyond the limit the oldest make room."""
        firsts = self.firsts
        firsts.append(first)
        self.rests += rest
        if len(firsts) > limit:
            self._forget_ids(len(firsts) - limit)

    def begin_day(self, day: int) -> None:
        """Something is folded in on a day: of the event ids, those from before the last such day go, but not the last.

        So an id is remembered for a day at least, and a user who does little has few.
        """
        if day <= self.day:
            return
        self._forget_ids(min(self.older, len(self.firsts) - LASTING_IDS))
        self.day, self.older = day, len(self.firsts)

    def _forget_ids(self, count: int) -> None:
        if count > 0:
            del self.firsts[:count], self.rests[: _REST_BYTES * count]  # a bytearray moves its start, not its bytes
            self.older = max(0, self.older - count)


def decode_state(value: bytes) -> UserState:
    """Return the state that the bytes hold.

    Raises:
        BrokenStateError: they are damaged.
        NewerStateError: they are of a newer version.
    """
    try:
        version, kept, count, checksum = _HEADER.unpack_from(value)
        if crc32(value[_HEADER.size :]) != checksum:
            raise BrokenStateError(f"a state of {len(value)} bytes does not match its checksum")
        if version > VERSION:
            raise NewerStateError(
                f"A user state is of version {version}, this worker reads up to {VERSION}; upgrade it."
            )
        if version < VERSION:
            return _of_older(value, version, kept, count)
        newest, offset, day, sections, ids, older = _BODY.unpack_from(value, _HEADER.size)
    except error as exc:
        raise BrokenStateError(f"a state of {len(value)} bytes has no header") from exc
    start = _HEADER.size + _BODY.size
    firsts = start + sections
    rests = firsts + ids
    kept_heads = rests + _REST_BYTES * ids
    heads = kept_heads + HEAD_BYTES * kept
    kept_tails = heads + HEAD_BYTES * count
    state = UserState(offset, newest, b"", value[heads:kept_tails], b"", day, value[start:firsts])
    state.firsts, state.rests, state.older = bytearray(value[firsts:rests]), bytearray(value[rests:kept_heads]), older
    state.kept_heads = value[kept_heads:heads]
    tails = kept_tails + (tails_end(state.kept_heads, kept) if kept else 0)
    state.kept_tails, state.tails = value[kept_tails:tails], value[tails:]
    return state


def last_day(value: bytes) -> int:
    """Return the `day` of an encoded state without decoding it; 0 when it has none that can be read."""
    if len(value) < _HEADER.size + _BODY_2.size or not 1 < value[0] <= VERSION:
        return 0
    return int(_BODY_2.unpack_from(value, _HEADER.size)[2])


def section_of(value: bytes, tag: int) -> bytes:
    """Return a section of an encoded state without decoding the rest; empty when it has none that can be read."""
    if len(value) < _HEADER.size + _BODY_2.size or not 1 < value[0] <= VERSION:
        return b""
    start = _HEADER.size + (_BODY.size if value[0] == VERSION else _BODY_2.size)
    length = _BODY_2.unpack_from(value, _HEADER.size)[3]
    try:
        return next((held for found, held in _sections(value[start : start + length]) if found == tag), b"")
    except error:
        return b""


def source_offset(value: bytes | None) -> int:
    """Return the `offset` of an encoded state without decoding it; -1 when it has none that can be read."""
    if value is None or len(value) < _HEADER.size + _BODY_1.size:
        return -1
    return int(_BODY_1.unpack_from(value, _HEADER.size)[1])  # all layouts begin alike


def digest_of(event_id: str) -> tuple[int, bytes]:
    """Return the first and the other bytes by which a repeated event is recognised."""
    digest: bytes = xxh3_64_digest(event_id.encode())
    return digest[0], digest[1:DIGEST_BYTES]


def _sections(sections: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(sections):
        tag, length = _SECTION.unpack_from(sections, at)
        at += _SECTION.size + length
        yield tag, sections[at - length : at]


def _of_older(value: bytes, version: int, ids: int, count: int) -> UserState:
    """Return the state of an older version."""
    if version == 1:
        (newest, offset), day, sections, start = _BODY_1.unpack_from(value, _HEADER.size), 0, 0, _BODY_1.size
    else:
        (newest, offset, day, sections), start = _BODY_2.unpack_from(value, _HEADER.size), _BODY_2.size
    start += _HEADER.size
    held = start + sections
    digest_bytes = DIGEST_BYTES if version == _VERSION_OF_COLUMNS else _DIGEST_BYTES_2
    end = held + ids * digest_bytes
    digests = b"".join(value[at : at + DIGEST_BYTES] for at in range(held, end, digest_bytes))
    if version == _VERSION_OF_COLUMNS:
        columns = value[end : end + count * HEAD_BYTES], value[end + count * HEAD_BYTES :]
    else:
        columns = columns_of_version_2(value[end:])
    return UserState(offset, newest, digests, *columns, day, value[start:held])


_VERSION_OF_COLUMNS: Final = 3
_DIGEST_BYTES_2: Final = 8
