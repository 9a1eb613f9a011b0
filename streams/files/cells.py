"""a cell of a file -> an id, a time, a number or a text: the one set of rules for all files and all commands.

Each function returns the value and a sentence. With a value, the sentence says what was odd about the cell ("" when
nothing was); without one, it says why there is none ("" when the cell is simply empty).
"""

import math
import re
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final

NEVER_IDS: Final = frozenset({"(not set)", "n/a", "#n/a", "<na>", r"\n"})
PLACEHOLDERS: Final = NEVER_IDS | {"nan", "null", "none", "undefined"}
"""What programs write where they have no value; compared in lower case. The latter may be somebody's name."""

MILLISECONDS: Final = "milliseconds"
CALENDAR: Final = "dates"

_DIGITS: Final = re.compile(r"[+-]?\d+(\.\d*)?([eE][+-]?\d+)?")
_INTEGRAL: Final = re.compile(r"-?\d+\.0+")
_SECONDS_FROM: Final = 10**8
"""Smaller numbers are no time: as seconds they would lie before March 1973."""
_UNITS: Final = ((10**11, "seconds", 1000), (10**14, MILLISECONDS, 1), (10**17, "microseconds", 0.001),
                 (10**20, "nanoseconds", 0.000001))  # fmt: skip
"""Limit, name, and milliseconds in one. As seconds 10^11 is the year 5138, as milliseconds March 1973: no two meet."""
_EXACT: Final = 2**53
"""Beyond, a float leaves integers out."""
_SHOWN: Final = 60

Cell = Any
"""As the file has it: what JSON, a text file or a parquet column can hold."""


def identifier(cell: Cell, *, quoted: bool = False) -> tuple[str | None, str]:
    """Return a user, item or event id as text: a number is its digits, bytes are UTF-8.

    Args:
        cell: as the file has it.
        quoted: a text is a text for certain, as in JSON: it stays as it is, even where it looks like something else.

    >>> identifier(13085.0), identifier("13085.0"), identifier("nan")[0]
    (('13085', ''), ('13085', "'13085.0' is read as 13085"), None)
    >>> identifier("nan", quoted=True)
    ('nan', "'nan' is taken for an id; it looks like no value")
    """
    if isinstance(cell, bytes):
        cell = cell.decode("utf-8", "surrogateescape")
    if isinstance(cell, str):
        return _text_id(cell, quoted=quoted)
    if isinstance(cell, int | float | Decimal) and not isinstance(cell, bool):
        return _number_id(cell)
    if isinstance(cell, date):
        return cell.isoformat(), ""
    return None, "" if cell is None else f"{_shown(cell)} is no id: an id is a text or a whole number"


def moment(cell: Cell) -> tuple[int | None, str]:
    """Return an event time in epoch milliseconds, and what the cell counted in instead of an oddity.

    >>> moment(1760000000), moment("1760000000000.0"), moment("2025-10-09")
    ((1760000000000, 'seconds'), (1760000000000, 'milliseconds'), (1759968000000, 'dates'))
    >>> moment(5)
    (None, '5 is no time: as seconds it would lie before March 1973')
    """
    if isinstance(cell, bytes):
        cell = cell.decode("utf-8", "replace")
    if isinstance(cell, str):
        return _text_moment(cell)
    if cell is None or _is_nan(cell):
        return None, ""
    if isinstance(cell, date):
        return _calendar(cell)
    if isinstance(cell, bool) or not isinstance(cell, int | float | Decimal):
        return None, f"{_shown(cell)} is no time"
    return _counted(cell)


def number(cell: Cell) -> tuple[float | None, str]:
    """Return a price, a rating or a quantity.

    >>> number("12.50"), number("1,299.00")
    ((12.5, ''), (None, "'1,299.00' is no plain number: write it as 1299.00"))
    """
    if isinstance(cell, bytes):
        cell = cell.decode("utf-8", "replace")
    if isinstance(cell, str):
        cell = cell.strip()
        if not cell or cell.lower() in PLACEHOLDERS:
            return None, ""
        if not _DIGITS.fullmatch(cell):
            return None, f"{_shown(cell)} is no plain number: write it as 1299.00"
        cell = float(cell)
    if cell is None or _is_nan(cell):
        return None, ""
    if isinstance(cell, bool) or not isinstance(cell, int | float | Decimal) or not math.isfinite(cell):
        return None, f"{_shown(cell)} is no number"
    return float(cell), ""


def text(cell: Cell) -> tuple[str, str]:
    """Return what an item says of itself; bytes that are not UTF-8 are no text."""
    if type(cell) is str and cell.isascii():
        return cell, ""
    if isinstance(cell, bytes):
        cell = cell.decode("utf-8", "surrogateescape")
    if cell is None or _is_nan(cell):
        return "", ""
    found = cell if isinstance(cell, str) else str(cell)
    return (found, "") if is_unicode(found) else ("", f"{_shown(found)} is not UTF-8")


def is_unicode(found: str) -> bool:
    """Return whether a text can be sent: a byte that was not UTF-8 is half a surrogate pair."""
    if found.isascii():
        return True
    try:
        found.encode()
    except UnicodeEncodeError:
        return False
    return True


@lru_cache(1 << 16)
def _text_id(cell: str, *, quoted: bool) -> tuple[str | None, str]:
    plain = cell.strip().lower()
    if not cell or not (plain or quoted) or plain in NEVER_IDS or (plain in PLACEHOLDERS and not quoted):
        return None, f"{_shown(cell)} stands for no value" if plain else ""
    if not is_unicode(cell):
        return None, f"{_shown(cell)} is not UTF-8"
    if plain in PLACEHOLDERS:
        return cell, f"{_shown(cell)} is taken for an id; it looks like no value"
    if not _INTEGRAL.fullmatch(cell):
        return cell, ""
    if quoted:
        return cell, f"{_shown(cell)} is taken for an id; it looks like a number"
    whole = cell.partition(".")[0]
    return whole, f"{_shown(cell)} is read as {whole}"


@lru_cache(1 << 16)
def _text_moment(cell: str) -> tuple[int | None, str]:
    cell = cell.strip()
    if not cell or cell.lower() in PLACEHOLDERS:
        return None, f"{_shown(cell)} stands for no value" if cell else ""
    if not _DIGITS.fullmatch(cell):
        return _written(cell)
    return _counted(int(cell) if cell.isdecimal() else float(cell))


def _number_id(cell: float | Decimal) -> tuple[str | None, str]:
    if isinstance(cell, int):
        return str(cell), ""
    if _is_nan(cell):
        return None, ""
    if not math.isfinite(cell) or cell != int(cell):
        return None, f"{cell} is no id: an id is a text or a whole number"
    whole = str(int(cell))
    exact = isinstance(cell, Decimal) or abs(cell) <= _EXACT
    return whole, "" if exact else f"{whole} may have been rounded: write ids as integers or texts"


def _counted(value: float | Decimal) -> tuple[int | None, str]:
    """A number says its unit by its size."""
    if not math.isfinite(value):
        return None, f"{value} is no time"
    if value == int(value) and (day := _digits_of_a_date(int(value))):
        return _calendar(day)
    if value < _SECONDS_FROM:
        return None, f"{_shown(value)} is no time: as seconds it would lie before March 1973"
    for limit, unit, milliseconds in _UNITS:
        if value < limit:
            if isinstance(value, int) and milliseconds < 1:
                return value // round(1 / milliseconds), unit
            return round(float(value) * milliseconds), unit
    return None, f"{_shown(value)} is no time: it is too large for nanoseconds"


def _digits_of_a_date(value: int) -> date | None:
    """20251009 is a day: as seconds it would lie in August 1970."""
    if not 19_700_101 <= value <= 21_001_231:  # noqa: PLR2004 - the first and the last day taken for one
        return None
    try:
        return date(value // 10_000, value // 100 % 100, value % 100)
    except ValueError:
        return None


def _written(cell: str) -> tuple[int | None, str]:
    try:
        return _calendar(datetime.fromisoformat(cell.replace(" UTC", "Z").replace(" Z", "Z")))
    except ValueError:
        return None, f"{_shown(cell)} is no time: write 2025-10-09T12:00:00Z or epoch milliseconds"


def _calendar(value: date) -> tuple[int | None, str]:
    """A time without a zone is UTC, a day its midnight."""
    if not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day, tzinfo=UTC)
    elif not value.tzinfo:
        value = value.replace(tzinfo=UTC)
    try:
        found = round(value.timestamp() * 1000)
    except OverflowError:
        return None, f"{value} is no time"
    return (found, CALENDAR) if found > 0 else (None, f"{value} lies before 1970")


def _is_nan(cell: Cell) -> bool:
    return cell.is_nan() if isinstance(cell, Decimal) else isinstance(cell, float) and math.isnan(cell)


def _shown(cell: Cell) -> str:
    shown = repr(cell)
    return shown if len(shown) <= _SHOWN else f"{shown[: _SHOWN - 1]}…"
