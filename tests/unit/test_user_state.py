"""Workers of two releases share the users: each reads what the other wrote, and none destroys what it cannot read."""

from collections.abc import Sequence
from struct import pack
from zlib import crc32

import pytest
from xxhash import xxh3_64_digest

from streams.errors import BrokenStateError, NewerStateError
from streams.settings import StateSettings
from streams.state.entries import Entry, columns_of, entry_time, tails_end
from streams.state.fold import Fold, Folded
from streams.state.precedence import covers
from streams.state.user_state import DAY_MS, UserState, decode_state, last_day, section_of, source_offset
from tests.builders import NOON, interaction


def versioned(version: int, body: bytes, window: int = 0, count: int = 0) -> bytes:
    return pack("<BBHI", version, window, count, crc32(body)) + body


def of_version_2(state: UserState, event_ids: Sequence[str]) -> bytes:
    """The state as a worker of version 2 wrote it: whole digests, entries in one piece, little-endian."""
    window = b"".join(xxh3_64_digest(event_id.encode()) for event_id in event_ids)
    entries = b"".join(
        pack(
            "<BBHI",
            entry.type,
            len(item_id := entry.item_id.encode()),
            entry.timestamp >> 32,
            entry.timestamp & 0xFFFFFFFF,
        )
        + item_id
        for entry in state.history()
    )
    body = pack("<QqHI", state.newest, state.offset, state.day, len(state.sections)) + state.sections
    return versioned(2, body + window + entries, len(event_ids), state.count)


def test_a_state_of_version_1_is_read_and_goes_on_as_version_4() -> None:
    digest, entry = xxh3_64_digest(b"e1"), pack("<BBHI", 2, 2, NOON >> 32, NOON & 0xFFFFFFFF) + b"i1"
    state = decode_state(versioned(1, pack("<Qq", NOON, 41) + digest + entry, window=1, count=1))
    assert (state.offset, state.newest, state.count, state.day, state.sections) == (41, NOON, 1, 0, b"")
    assert state.history() == [Entry("i1", 2, NOON)]
    fold = Fold(StateSettings())
    assert fold.add(state, interaction(event_id="e1", timestamp=NOON + 1), 42) is Folded.DUPLICATE
    fold.add(state, interaction(event_id="e2", item_id="i2", timestamp=NOON + 1), 43)
    again = state.encode()
    assert again[0] == 4
    assert [entry.item_id for entry in decode_state(again).history()] == ["i1", "i2"]


def test_a_state_of_version_2_becomes_what_version_4_would_have_folded() -> None:
    fold, state, event_ids = Fold(StateSettings(duplicate_window=4)), UserState(day=20_000), list("abcdef")
    state.set_section(1, b"impressions")
    for offset, (event_id, item_id) in enumerate(zip(event_ids, ["i1", "é", "a" * 200, "i1", "i2", "x"], strict=True)):
        at = NOON + (offset << 15) - (offset == 3) * DAY_MS
        fold.add(state, interaction(event_id=event_id, item_id=item_id, type="purchase", timestamp=at), offset)
    value = of_version_2(state, event_ids[-4:])
    assert (last_day(value), section_of(value, 1), source_offset(value)) == (20_000, b"impressions", 5)
    assert covers(value, state.encode())
    assert covers(state.encode(), value)
    assert decode_state(value).encode() == state.encode()


def test_a_state_of_version_3_goes_on_with_its_event_ids_and_history() -> None:
    fold, state = Fold(StateSettings()), UserState(day=20_000)
    state.set_section(1, b"impressions")
    for offset, event_id in enumerate("abc"):
        fold.add(state, interaction(event_id=event_id, item_id="é", timestamp=NOON + offset), offset)
    window = b"".join(xxh3_64_digest(event_id.encode())[:6] for event_id in "abc")
    body = pack("<QqHI", state.newest, state.offset, state.day, len(state.sections)) + state.sections
    value = versioned(3, body + window + state.heads + state.tails, 3, state.count)
    assert (last_day(value), section_of(value, 1), source_offset(value)) == (20_000, b"impressions", 2)
    assert decode_state(value).encode() == state.encode()


@pytest.mark.parametrize("at", [0, 1, 65_535, 65_536, 2**32 - 1, 2**32, NOON, 2**48 - 1])
def test_every_time_of_six_bytes_comes_back(at: int) -> None:
    heads, tails = columns_of("i1", 7, at)
    assert UserState(heads=heads, tails=tails).history() == [Entry("i1", 7, at)]
    assert (entry_time(b"\0" * 6 + heads, tails, 1, 0), tails_end(heads, 1)) == (at, 4)


def test_an_event_id_is_not_found_across_two_digests() -> None:
    state = UserState(digests=b"abcdefghijkl")
    assert [state.repeats(digest[0], digest[1:]) for digest in (b"abcdef", b"bcdefg", b"ghijkl", b"ahijkl")] == [
        True, False, True, False,
    ]  # fmt: skip


def test_a_state_of_a_newer_version_is_not_taken_for_a_broken_one() -> None:
    with pytest.raises(NewerStateError, match="version 9"):
        decode_state(versioned(9, b"whatever the future holds"))
    with pytest.raises(BrokenStateError):
        decode_state(versioned(2, b"too short"))


def test_a_section_of_an_unknown_tag_is_carried_along() -> None:
    state = UserState()
    state.set_section(200, b"of a newer release")
    state.set_section(1, b"ours")
    again = decode_state(state.encode())
    Fold(StateSettings()).add(again, interaction(), 0)
    again.set_section(1, b"ours, longer")
    last = decode_state(again.encode())
    assert (last.section(200), last.section(1), last.section(7)) == (b"of a newer release", b"ours, longer", b"")
    assert last.count == 1
    last.set_section(200, b"")
    last.set_section(1, b"")
    assert last.sections == b""


def test_the_last_day_is_read_without_decoding() -> None:
    assert last_day(UserState(day=20_000).encode()) == 20_000
    assert last_day(versioned(1, pack("<Qq", NOON, 41))) == 0
    assert last_day(b"") == 0
