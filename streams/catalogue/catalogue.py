"""items, rows -> catalogue: what is known of items, by id and by row."""

from streams.catalogue.columns import Columns
from streams.catalogue.rows import Rows
from streams.records import Item


class Catalogue(Rows):
    """Items with a row, and their properties; one thread writes, any may read."""

    def __init__(self) -> None:
        super().__init__()
        self.columns = Columns()
        self.columns.grow(len(self.ids))
        self.unavailable = 0
        """Items with a row that cannot be recommended."""
        self.changes = 0
        """Rises when an item becomes available or unavailable."""
        self._waiting: dict[str, Item | None] = {}
        """Newest description, None of a retired item, of those that have no row yet."""

    def add_row(self, item_id: str) -> int:
        """Return the item's row: the next one, unless it has one."""
        if item_id in self.rows:
            return self.rows[item_id]
        row = len(self.ids)
        self.columns.grow(row + 1)
        self.columns.available[row] = True
        self.changes += 1
        if item_id in self._waiting:
            self._describe(row, self._waiting.pop(item_id))
        return super().add_row(item_id)  # the last step: a reader that finds the row finds what is known of it

    def describe(self, item_id: str, item: Item | None) -> None:
        """Take an item's newest description, None to retire it."""
        row = self.rows.get(item_id)
        if row is None:
            self._waiting[item_id] = item
        else:
            self._describe(row, item)

    def title(self, item_id: str) -> str | None:
        """Return the item's name for people, None when it has none."""
        row = self.rows.get(item_id)
        return self.columns.titles[row] or None if row else None

    def _describe(self, row: int, item: Item | None) -> None:
        before = bool(self.columns.available[row])
        if item is None:
            self.columns.clear(row)
        else:
            self.columns.set(row, item)
        turned = before - bool(self.columns.available[row])
        self.unavailable += turned
        self.changes += turned != 0
