"""rows -> row numbers: which item has which row.

An item's row is one plus its rank among the first appearances in the log `rows`: whoever reads the log counts the same,
so any worker may append an item that it does not know, and an item appended twice changes nothing.
"""


class Rows:
    """Row of each item, and item of each row."""

    def __init__(self) -> None:
        self.rows: dict[str, int] = {}
        self.ids: list[str] = [""]
        """Item id of each row; row 0 is no item."""

    def add_row(self, item_id: str) -> int:
        """Return the item's row: the next one, unless it has one."""
        row = self.rows.get(item_id)
        if row is None:
            row = len(self.ids)
            self.ids.append(item_id)
            self.rows[item_id] = row
        return row
