"""items, rows -> catalogue: what workers and learner know of items.

An item's row is one plus its rank among the first appearances in the log `rows`: whoever reads the log counts the same,
so any worker may append an item that it does not know, and an item appended twice changes nothing.
"""

from streams.records import Item


class Catalogue:
    """Items by id and by row."""

    def __init__(self) -> None:
        self.rows: dict[str, int] = {}
        self.ids: list[str] = [""]
        """Item id of each row; row 0 is no item."""
        self.items: dict[str, Item] = {}
        """Described by an `items` event; an item may have a row and no description."""
        self.unavailable_rows: set[int] = set()
        """Retired by a tombstone, or out of stock: never recommended."""
        self._unavailable_ids: set[str] = set()

    def add_row(self, item_id: str) -> None:
        """Give an item the next row, unless it has one."""
        if item_id in self.rows:
            return
        row = len(self.ids)
        self.ids.append(item_id)
        self.rows[item_id] = row
        if item_id in self._unavailable_ids:
            self.unavailable_rows.add(row)

    def describe(self, item_id: str, item: Item | None) -> None:
        """Take an item's newest description, None to retire it."""
        row = self.rows.get(item_id)
        if item is None:
            self.items.pop(item_id, None)
        else:
            self.items[item_id] = item
        if item is None or not item.in_stock:
            self._unavailable_ids.add(item_id)
            if row:
                self.unavailable_rows.add(row)
        else:
            self._unavailable_ids.discard(item_id)
            self.unavailable_rows.discard(row or 0)

    def title(self, item_id: str) -> str:
        """Return the item's name for people."""
        item = self.items.get(item_id)
        return item.title if item and item.title else item_id
