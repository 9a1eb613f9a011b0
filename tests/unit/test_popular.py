"""The most popular items that can be had come first, whatever is retired, and a list looks at few of them (A.3)."""

from itertools import islice

import numpy as np
import pytest

from streams.catalogue.catalogue import Catalogue
from streams.followers.neighbours import NeighbourTables
from streams.lists.listing import Listing
from streams.lists.popular import Popular
from streams.records import Item

NONE_NEAR = np.zeros((1, 1), np.int32), np.zeros((1, 1), np.float32)


def catalogue_of(items: int) -> Catalogue:
    catalogue = Catalogue()
    for number in range(1, items + 1):
        catalogue.add_row(f"i{number}")
    return catalogue


def tables(*popularity: float) -> NeighbourTables:
    return NeighbourTables(*NONE_NEAR, np.array([0, *popularity], np.float32), 1)


def first(popular: Popular, held: NeighbourTables | None, k: int, catalogue: Catalogue) -> list[str]:
    listing = Listing(k, set(), catalogue)
    for candidates in popular.candidates(held):
        listing.add("popular", *candidates)
    return [item.item_id for item in listing.items]


def test_the_order_is_by_popularity_and_among_equals_by_row() -> None:
    assert tables(1, 3, 0, 3, 0.5).order_I.tolist() == [2, 4, 1, 5, 0, 3]


def test_rows_that_the_generation_does_not_have_yet_come_last() -> None:
    catalogue = catalogue_of(4)
    assert first(Popular(catalogue), tables(1, 3), 9, catalogue) == ["i2", "i1", "i3", "i4"]
    assert first(Popular(catalogue), None, 2, catalogue) == ["i1", "i2"]


def test_what_is_retired_or_comes_back_changes_the_next_list() -> None:
    catalogue = catalogue_of(4)
    popular, held = Popular(catalogue), tables(4, 3, 2, 1)
    assert first(popular, held, 2, catalogue) == ["i1", "i2"]
    catalogue.describe("i1", None)
    assert first(popular, held, 2, catalogue) == ["i2", "i3"]
    catalogue.describe("i1", Item("i1"))
    assert first(popular, held, 2, catalogue) == ["i1", "i2"]
    assert first(popular, tables(1, 2, 3, 4), 2, catalogue) == ["i4", "i3"]


def test_a_list_looks_at_few_items_though_most_are_retired() -> None:
    catalogue = catalogue_of(20_000)
    for number in range(1, 15_001):
        catalogue.describe(f"i{number}", None)
    popular, held = Popular(catalogue), tables(*range(20_000, 0, -1))
    [(rows, scores)] = islice(popular.candidates(held), 1)
    assert rows[:2].tolist() == [15_001, 15_002]
    assert scores[0] == 5_000.0
    assert len(rows) < 20_000 - 15_000 + 1


def test_in_a_large_catalogue_that_changes_all_the_time_the_order_is_not_looked_through_for_each_list(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [100.0]
    monkeypatch.setattr("streams.lists.popular.time.monotonic", lambda: now[0])
    catalogue = catalogue_of(20_000)
    popular, held = Popular(catalogue), tables(*range(20_000, 0, -1))
    assert first(popular, held, 2, catalogue) == ["i1", "i2"]
    catalogue.describe("i1", None)
    assert first(popular, held, 2, catalogue) == ["i2", "i3"]  # what is gone is out at once
    before = popular._head[0]
    catalogue.describe("i1", Item("i1"))
    first(popular, held, 2, catalogue)
    assert popular._head[0] is before
    now[0] += 1.1
    first(popular, held, 2, catalogue)
    assert popular._head[0] is not before
