"""A row is an item's rank among the first appearances; it stays whatever happens to the item."""

from streams.catalogue.catalogue import Catalogue
from streams.records import Item


def test_an_item_appended_twice_keeps_its_first_row() -> None:
    catalogue = Catalogue()
    for item_id in ("a", "b", "a", "c"):
        catalogue.add_row(item_id)
    assert catalogue.rows == {"a": 1, "b": 2, "c": 3}
    assert [catalogue.ids[row] for row in (1, 2, 3)] == ["a", "b", "c"]


def test_a_tombstone_retires_an_item_until_it_is_described_again() -> None:
    catalogue = Catalogue()
    catalogue.add_row("a")
    catalogue.describe("a", None)
    assert catalogue.unavailable_rows == {1}
    catalogue.describe("a", Item("a", title="A"))
    assert catalogue.unavailable_rows == set()
    assert catalogue.title("a") == "A"


def test_an_item_retired_before_it_has_a_row_is_unavailable_from_its_first_moment() -> None:
    catalogue = Catalogue()
    catalogue.describe("a", Item("a", in_stock=False))
    catalogue.add_row("a")
    assert catalogue.unavailable_rows == {1}
