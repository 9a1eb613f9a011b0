"""A pseudonym leads to its user's state on every way, names nobody, and nothing else passes for one."""

import pytest
from aiokafka.partitioner import murmur2
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from streams.errors import SettingsError
from streams.pseudonyms import pseudonyms

KEY, OTHER = SecretStr("k1"), SecretStr("k2")
user_ids = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60)
partition_counts = st.integers(1, 60)


def partition_of(user_id: str, partitions: int) -> int:
    return int(murmur2(user_id.encode()) & 0x7FFFFFFF) % partitions


def test_a_pseudonym_is_the_same_for_the_same_key_only() -> None:
    one, other = pseudonyms(KEY, 4), pseudonyms(OTHER, 4)
    assert one("u1", 2) == pseudonyms(KEY, 4)("u1", 2)
    assert one("u1", 2) != one("u2", 2)
    assert one("u1", 2) != other("u1", 2)
    assert one("u1", 2)[:-4] == one("u1", 3)[:-4]
    assert "u1" not in one("u1", 2)
    assert pseudonyms(None, 4)("u1", 2) == "u1"


@given(user_ids, partition_counts)
def test_a_pseudonym_leads_where_its_id_does(user_id: str, partitions: int) -> None:
    """Issue 10, C.4: 252 of 1,000 did, so that an id read from `recommendations` asked the wrong worker."""
    hide, partition = pseudonyms(KEY, partitions), partition_of(user_id, partitions)
    hidden = hide(user_id, partition)
    assert partition_of(hidden, partitions) == partition
    assert hide(hidden, partition) == hidden


@pytest.mark.parametrize("looks_like_it", ["p~" + "j" * 30, "p~" + "j" * 32, "p~jane@example.org", "p~" + "é" * 30])
def test_what_only_looks_like_a_pseudonym_is_hidden(looks_like_it: str) -> None:
    """Issue 10, C.4: `p~` and 32 characters of anything were stored in clear."""
    hidden = pseudonyms(KEY, 4)(looks_like_it, 1)
    assert looks_like_it not in hidden[1:]
    assert hidden != looks_like_it
    assert len(hidden) == 32


@given(st.integers(2, 27), st.characters(codec="ascii"))
def test_a_pseudonym_that_was_changed_is_none(at: int, character: str) -> None:
    hide = pseudonyms(KEY, 4)
    hidden = hide("u1", 1)
    changed = hidden[:at] + character + hidden[at + 1 :]
    assert (hide(changed, 1) == changed) == (changed == hidden)


def test_a_pseudonym_of_another_key_is_none() -> None:
    hide = pseudonyms(KEY, 4)
    foreign = pseudonyms(OTHER, 4)("u1", 1)
    assert hide(foreign, 1) != foreign


@pytest.mark.parametrize("key", ["", "k" * 65])
def test_a_pseudonym_key_has_1_to_64_bytes(key: str) -> None:
    with pytest.raises(SettingsError, match="HEADRACE_PSEUDONYM_KEY"):
        pseudonyms(SecretStr(key), 4)
