"""Workers of two releases share the users: each reads what the other wrote, and none destroys what it cannot read."""

from struct import pack
from zlib import crc32

import pytest

from streams.errors import BrokenStateError, NewerStateError
from streams.settings import StateSettings
from streams.state.fold import Fold
from streams.state.user_state import UserState, decode_state, digest_of, entry_bytes, last_day
from tests.builders import NOON, interaction


def versioned(version: int, body: bytes, window: int = 0, count: int = 0) -> bytes:
    return pack("<BBHI", version, window, count, crc32(body)) + body


def test_a_state_of_version_1_is_read_and_goes_on_as_version_2() -> None:
    digest, entry = digest_of("e1"), entry_bytes("i1", 2, NOON)
    state = decode_state(versioned(1, pack("<Qq", NOON, 41) + digest + entry, window=1, count=1))
    assert (state.offset, state.newest, state.count, state.day, state.sections) == (41, NOON, 1, 0, b"")
    assert [entry.item_id for entry in state.history()] == ["i1"]
    Fold(StateSettings()).add(state, interaction(event_id="e2", item_id="i2", timestamp=NOON + 1), 42)
    assert [entry.item_id for entry in decode_state(state.encode()).history()] == ["i1", "i2"]


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
