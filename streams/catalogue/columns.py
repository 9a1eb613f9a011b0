"""items -> columns: what is known of the items, one array a property, by row.

A property of a thousand candidates is one look into an array, whatever the size of the catalogue. One thread writes;
readers in other threads see a row as it was or as it is. Knows nothing of Kafka. Legend: I rows, of which the last
have no item yet.
"""

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from streams.decoding import epoch_ms
from streams.errors import RejectedEventError
from streams.records import Item

UNKNOWN_STOCK: Final = -1
_FIRST_ROWS: Final = 1024
_MOST_STOCK: Final = 2**31 - 1
_MOST_MS: Final = 2**63 - 1


class Names:
    """Codes of words, in the order in which they came; code 0 is no word.

    >>> names = Names()
    >>> names.code("shoes"), names.code(""), names.code("shoes"), names.words
    (1, 0, 1, ['', 'shoes'])
    """

    def __init__(self) -> None:
        self.words: list[str] = [""]
        self._codes: dict[str, int] = {"": 0}

    def code(self, word: str) -> int:
        """Return the code of a word, a new one when it has none."""
        code = self._codes.get(word)
        if code is None:
            code = len(self.words)
            self.words.append(word)
            self._codes[word] = code
        return code


class Columns:
    """The properties; each array is replaced by a larger one when rows are added."""

    def __init__(self) -> None:
        self.available = np.zeros(_FIRST_ROWS, np.bool_)
        """Can be recommended: it has a row, is not retired and not out of stock."""
        self.category = np.zeros(_FIRST_ROWS, np.int32)
        """Code in `categories`."""
        self.brand = np.zeros(_FIRST_ROWS, np.int32)
        """Code in `brands`."""
        self.price = np.full(_FIRST_ROWS, np.nan)
        """NaN where none is known."""
        self.stock = np.full(_FIRST_ROWS, UNKNOWN_STOCK, np.int32)
        """Pieces; UNKNOWN_STOCK where nobody counts."""
        self.added = np.zeros(_FIRST_ROWS, np.int64)
        """Epoch milliseconds at which the item came into the shop; 0 where it is not known."""
        self.titles: list[str] = []
        self.tags: list[tuple[int, ...]] = []
        """Codes in `tag_names`."""
        self.categories, self.brands, self.tag_names = Names(), Names(), Names()

    def grow(self, rows: int) -> None:
        """Make room for rows up to `rows - 1`; twice as much as before, so that a million rows are copied ten times."""
        self.titles += [""] * (rows - len(self.titles))
        self.tags += [()] * (rows - len(self.tags))
        if rows <= len(self.available):
            return
        room = max(rows, 2 * len(self.available))
        for name, blank in (
            ("category", 0), ("brand", 0), ("price", np.nan), ("stock", UNKNOWN_STOCK), ("added", 0),
            ("available", False),
        ):  # fmt: skip
            setattr(self, name, _with_room(getattr(self, name), room, blank))

    def set(self, row: int, item: Item) -> None:
        """Take an item's newest description."""
        self.category[row] = self.categories.code(item.category)
        self.brand[row] = self.brands.code(item.brand)
        self.price[row] = math.nan if item.price is None else item.price
        stock = UNKNOWN_STOCK if item.stock is None else min(max(item.stock, 0), _MOST_STOCK)
        self.stock[row] = stock
        self.added[row] = _added_ms(item)
        self.titles[row] = item.title
        self.tags[row] = tuple(self.tag_names.code(tag) for tag in item.tags)
        self.available[row] = item.in_stock and stock != 0

    def clear(self, row: int) -> None:
        """Retire an item: what it was is forgotten."""
        self.available[row] = False
        self.category[row] = self.brand[row] = self.added[row] = 0
        self.price[row], self.stock[row] = math.nan, UNKNOWN_STOCK
        self.titles[row], self.tags[row] = "", ()


def _with_room(values: NDArray[np.generic], room: int, blank: float) -> NDArray[np.generic]:
    larger = np.full(room, blank, values.dtype)
    larger[: len(values)] = values
    return larger


def _added_ms(item: Item) -> int:
    try:
        return min(max(epoch_ms(item.added or 0), 0), _MOST_MS)
    except RejectedEventError:  # it is optional: the item can be recommended without it
        return 0
