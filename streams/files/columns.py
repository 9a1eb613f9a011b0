"""a header -> which column holds which field: as the user named it, else by its usual names."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Self

from streams.errors import SettingsError, StartError
from streams.records import INTERACTION_TYPES

FIELDS: Final = ("event_id", "user_id", "item_id", "type", "timestamp", "value")
"""Of an interaction on the wire."""
ITEM_FIELDS: Final = ("title", "text", "category", "price")
QUANTITY: Final = "quantity"
"""Not on the wire: a negative quantity makes the interaction a `remove`, as in a list of invoices and cancellations."""
KNOWN: Final = (*FIELDS, *ITEM_FIELDS, QUANTITY)

EVENT: Final = ("user_id", "item_id", "type", "timestamp")
"""What no event can do without."""
PAIR: Final = ("user_id", "item_id")
"""What an evaluation cannot do without."""

GA4_TYPES: Final = {
    "view_item": "view", "page_view": "view", "select_item": "click", "add_to_cart": "cart",
    "remove_from_cart": "remove", "add_to_wishlist": "like", "view_search_results": "search",
}  # fmt: skip
"""Google Analytics' names, offered in a sentence; `purchase`, `search` and `share` are the same there."""

_USUAL: Final = {
    "user_id": ("userid", "user", "customerid", "customer", "visitorid", "clientid", "userpseudoid", "sessionid",
                "session"),
    "item_id": ("itemid", "item", "stockcode", "productid", "product", "sku", "articleid", "parentasin", "movieid"),
    "type": ("type", "eventtype", "eventname", "event"),
    "timestamp": ("timestamp", "eventtimestamp", "eventtime", "time", "datetime", "invoicedate", "date", "eventdate"),
    "title": ("title", "itemname", "productname", "description"),
}  # fmt: skip
"""Most telling first: a session stands for a user only where nothing else does. Compared without case, blanks, _."""
_TYPED: Final = re.compile(r":(token|float)(_seq)?$")
"""What RecBole's headers append to a name."""


@dataclass(frozen=True)
class Columns:
    """What the user said of a file: which column holds which field, and which event name is which type."""

    of: Mapping[str, str] = field(default_factory=dict)
    """Field to column. A column written `=word` stands for the word itself."""
    types: Mapping[str, str] = field(default_factory=dict)
    """Event name to interaction type; to nothing leaves its rows out."""

    @classmethod
    def parse(cls, columns: str | None, types: str | None = None) -> Self:
        """Return what `user_id=CustomerID,item_id=sku,type==purchase` and `add_to_cart=cart,scroll=` describe.

        Raises:
            SettingsError: a part is no field=column or name=type, or the field or the type is unknown.
        """
        named = _pairs(columns or "")
        for name, (equals, column) in named.items():
            if name not in KNOWN or not equals or not column:
                raise SettingsError(
                    f"--columns {name}{equals}{column} is no field=column; fields are {', '.join(KNOWN)}, and "
                    "type==purchase gives every row the type purchase."
                )
        mapped = _pairs(types or "")
        for name, (equals, kind) in mapped.items():
            if not name or not equals or kind not in (*INTERACTION_TYPES, ""):
                raise SettingsError(
                    f"--types {name}{equals}{kind} is no name=type; types are {', '.join(INTERACTION_TYPES)}, and "
                    "scroll= leaves the rows named scroll out."
                )
        return cls({name: column for name, (_, column) in named.items()}, {n: kind for n, (_, kind) in mapped.items()})

    @property
    def fingerprint(self) -> str:
        """The same text for the same mapping: another mapping makes other events of a file."""
        return json.dumps([dict(self.of), dict(self.types)], sort_keys=True)


@dataclass(frozen=True)
class Layout:
    """Columns found in a header."""

    column: Mapping[str, str]
    """Field to the column that holds it."""
    constant: dict[str, str]
    """Field to the word that stands for it in every row."""
    guessed: Mapping[str, str]
    """The part of `column` that nobody named and that has another name than its field."""
    types: Mapping[str, str]

    def pick(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Return the fields of a row by their names, as the file has them."""
        return {name: row.get(column) for name, column in self.column.items()} | self.constant

    @property
    def sentence(self) -> str:
        """What was guessed, to be read by the user; empty when nothing was."""
        pairs = ",".join(f"{name}={column}" for name, column in self.guessed.items())
        return f"Columns found by their usual names: {pairs}; --columns names others." if pairs else ""


def layout(columns: Columns, header: Sequence[str], needed: Iterable[str], where: str, *, whole: bool) -> Layout:
    """Return which column holds which field.

    Args:
        columns: what the user said.
        header: the names in the file.
        needed: fields that the caller cannot do without.
        where: the file, for the sentence.
        whole: the header is all there is; else only some rows were looked at, and each may lack a field.

    Raises:
        StartError: a column that was named, or that is needed, is not there or is there twice.
    """
    constant = {name: column[1:] for name, column in columns.of.items() if column.startswith("=")}
    named = {name: column for name, column in columns.of.items() if name not in constant}
    found = {name: usual for name in KNOWN if name not in columns.of and (usual := usual_column(name, header))}
    missing = [column for column in named.values() if column not in header]
    missing += [name for name in needed if whole and name not in (*found, *named, *constant)]
    if header and missing:
        raise StartError(
            f"{where} has no column {', '.join(missing)}; it has {', '.join(header)}. Say which holds what, as in "
            f"--columns user_id={header[0]},type==purchase."
        )
    chosen = found | named
    if twice := [column for column in chosen.values() if header.count(column) > 1]:
        raise StartError(f"{where} has two columns named {twice[0]}; rename one of them.")
    guessed = {name: column for name, column in found.items() if name != column}
    return Layout(chosen, constant, guessed, columns.types)


def ga4_hint(names: Iterable[str]) -> str:
    """Return what to say of event names that are Google Analytics'; empty when none is.

    >>> ga4_hint(["view_item", "glance"])
    'Names of Google Analytics are mapped by --types view_item=view.'
    """
    pairs = ",".join(f"{name}={GA4_TYPES[name]}" for name in names if name in GA4_TYPES)
    return f"Names of Google Analytics are mapped by --types {pairs}." if pairs else ""


def usual_column(name: str, header: Sequence[str]) -> str | None:
    """Return the column that holds a field by its usual names; None when none does."""
    if name in header:
        return name
    plain: dict[str, str] = {}
    for column in header:
        plain.setdefault(_plain(column), column)
    return next((plain[usual] for usual in _USUAL.get(name, (_plain(name),)) if usual in plain), None)


def _plain(column: str) -> str:
    return "".join(filter(str.isalnum, _TYPED.sub("", column.strip()).lower()))


def _pairs(text: str) -> dict[str, tuple[str, str]]:
    parts = (part.strip().partition("=") for part in text.split(",") if part.strip())
    return {name: (equals, value) for name, equals, value in parts}
