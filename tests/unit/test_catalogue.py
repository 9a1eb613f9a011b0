"""A row is an item's rank among the first appearances; it stays, and what the item says of itself is in its columns."""

import math

import pytest

from streams.catalogue.catalogue import Catalogue
from streams.catalogue.columns import UNKNOWN_STOCK
from streams.catalogue.item_records import read_item, read_row
from streams.errors import RejectedEventError
from streams.records import Item


def available(catalogue: Catalogue) -> list[bool]:
    return [bool(held) for held in catalogue.columns.available[: len(catalogue.ids)]]


def test_an_item_appended_twice_keeps_its_first_row() -> None:
    catalogue = Catalogue()
    for item_id in ("a", "b", "a", "c"):
        catalogue.add_row(item_id)
    assert catalogue.rows == {"a": 1, "b": 2, "c": 3}
    assert [catalogue.ids[row] for row in (1, 2, 3)] == ["a", "b", "c"]


def test_a_tombstone_retires_an_item_until_it_is_described_again() -> None:
    catalogue = Catalogue()
    catalogue.add_row("a")
    assert available(catalogue) == [False, True]
    catalogue.describe("a", None)
    assert (available(catalogue), catalogue.unavailable) == ([False, False], 1)
    catalogue.describe("a", Item("a", title="A"))
    assert (available(catalogue), catalogue.unavailable) == ([False, True], 0)
    assert catalogue.title("a") == "A"


@pytest.mark.parametrize("sold_out", [None, Item("a", in_stock=False), Item("a", stock=0), Item("a", stock=-3)])
def test_an_item_retired_before_it_has_a_row_is_unavailable_from_its_first_moment(sold_out: Item | None) -> None:
    catalogue = Catalogue()
    catalogue.describe("a", sold_out)
    catalogue.add_row("a")
    assert (available(catalogue), catalogue.unavailable) == ([False, False], 1)


def test_what_an_item_says_of_itself_stands_in_its_row() -> None:
    catalogue = Catalogue()
    catalogue.describe(
        "b", Item("b", category="shoes", brand="Acme", price=12.5, stock=3, tags=["new", "red"], added=7)
    )
    for item_id in ("a", "b"):
        catalogue.add_row(item_id)
    known = catalogue.columns
    assert [known.categories.words[code] for code in known.category[1:3]] == ["", "shoes"]
    assert [known.brands.words[code] for code in known.brand[1:3]] == ["", "Acme"]
    assert (math.isnan(known.price[1]), known.price[2]) == (True, 12.5)
    assert known.stock[1:3].tolist() == [UNKNOWN_STOCK, 3]
    assert known.added[1:3].tolist() == [0, 7]
    assert [[known.tag_names.words[code] for code in known.tags[row]] for row in (1, 2)] == [[], ["new", "red"]]


def test_more_items_than_there_is_room_for_keep_what_is_known_of_the_first() -> None:
    catalogue = Catalogue()
    for number in range(3000):
        catalogue.add_row(f"i{number}")
        catalogue.describe(f"i{number}", Item(f"i{number}", title=f"t{number}", price=float(number)))
    assert [catalogue.title(f"i{number}") for number in (0, 1023, 2999)] == ["t0", "t1023", "t2999"]
    assert catalogue.columns.price[[1, 1024, 3000]].tolist() == [0.0, 1023.0, 2999.0]
    assert not catalogue.columns.available[3001:].any()


@pytest.mark.parametrize(
    ("added", "expected"),
    [("2026-01-02T00:00:00Z", 1767312000000), ("last week", 0), (-5, 0), (2**70, 2**63 - 1), (None, 0)],
)
def test_a_date_that_cannot_be_read_does_not_cost_the_item(added: int | str | None, expected: int) -> None:
    catalogue = Catalogue()
    catalogue.add_row("a")
    catalogue.describe("a", Item("a", added=added, stock=2**40))
    assert (catalogue.columns.added[1], catalogue.columns.stock[1]) == (expected, 2**31 - 1)


# C.6: the follower and the learner applied what the agent rejected.
@pytest.mark.parametrize(
    ("key", "value"),
    [
        (b"a", b'{"item_id":"b"}'),
        (b"a", b'{"title":"no id"}'),
        (b"a", b"no JSON"),
        (b"", b'{"item_id":"a"}'),
        (None, b'{"item_id":"a"}'),
        (b"\xff", None),
        (b"a" * 256, None),
    ],
)
def test_an_item_record_is_rejected_by_one_rule_for_all_readers(key: bytes | None, value: bytes | None) -> None:
    with pytest.raises(RejectedEventError):
        read_item(key, value)


def test_an_item_record_says_what_is_known_or_that_the_item_is_retired() -> None:
    assert read_item(b"a", b'{"item_id":"a","title":"A"}') == ("a", Item("a", title="A"))
    assert read_item(b"a", None) == ("a", None)
    assert (read_row(b"a"), read_row(b""), read_row(None)) == ("a", None, None)
