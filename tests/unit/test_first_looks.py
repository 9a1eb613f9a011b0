"""Into a store that was empty nobody looks for what was not put there, and whatever was put there is found."""

from typing import Final

from hypothesis import given
from hypothesis import strategies as st

from streams.state.first_looks import FirstLooks

KEYS: Final = [b"u%d" % number for number in range(20_000)]


class Store(dict[bytes, bytes]):
    """Counts how often somebody looks."""

    looks = 0

    def look(self, key: bytes) -> bytes | None:
        self.looks += 1
        return self.get(key)


def test_a_new_key_is_not_looked_for_and_one_that_comes_again_is_found() -> None:
    looks, store = FirstLooks(), Store()
    looks.begin(3)
    for key in KEYS:
        assert looks.reader(3, store.look)(key) is None
        store[key] = b"state"
    assert store.looks < 100  # 12 expected: keys whose places others have taken
    store.looks = 0
    assert [looks.reader(3, store.look)(key) for key in KEYS] == [b"state"] * len(KEYS)


def test_a_store_that_was_not_empty_is_looked_into() -> None:
    looks, store = FirstLooks(), {b"u1": b"state"}
    looks.begin(3)
    assert looks.reader(4, store.get)(b"u1") == b"state"
    looks.end(3)  # somebody else put something into it
    assert looks.reader(3, store.get)(b"u1") == b"state"
    looks.begin(3)
    looks.end()
    assert looks.reader(3, store.get)(b"u1") == b"state"


@given(st.lists(st.tuples(st.integers(0, 2), st.binary(max_size=2)), max_size=60))
def test_partitions_do_not_hide_what_another_one_holds(puts: list[tuple[int, bytes]]) -> None:
    looks, stores = FirstLooks(), [Store(), Store(), Store()]
    for partition in range(3):
        looks.begin(partition)
    for number, (partition, key) in enumerate(puts):
        store = stores[partition]
        assert looks.reader(partition, store.look)(key) == store.get(key)
        store[key] = b"%d" % number
