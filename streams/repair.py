"""a JSON object that does not fit its record -> one that does: what is optional never costs the event.

A number in quotes is a number, an integer is an id, `"false"` is false; an optional field that cannot be read with
certainty, or is out of bounds, is left out and counted. What a record requires and cannot be read stays as it came, so
that the record's own decoder rejects it by name. Only objects that a decoder refused come here: good ones cost nothing.
"""

import re
from collections import Counter
from functools import cache
from types import UnionType
from typing import Annotated, Any, Final, NamedTuple, TypeVar, Union, get_args, get_origin

import msgspec
from msgspec import inspect

Record = TypeVar("Record", bound=msgspec.Struct)

READ: Final = "read"
"""Fate of a field that is not as the record says, and is understood all the same."""
LEFT_OUT: Final = "left_out"
Fates = Counter[tuple[str, str]]
"""Fields that did not fit, by name and by what became of them."""

MAX_TABLE_BYTES: Final = 65_536
"""Of `context` and `attributes`."""

MAX_TABLE_DEPTH: Final = 16
"""Of objects and lists in them: encoding recurses, and how deep it may depends on who calls."""

_NUMBER: Final = re.compile(r"[+-]?\d{1,18}(\.\d{0,30})?([eE][+-]?\d{1,3})?", re.ASCII)
"""No thousands, no decimal comma, no currency: whether `1,234` is above a thousand nobody can tell."""
_INTEGER: Final = re.compile(r"[+-]?\d{1,18}", re.ASCII)
_TRUTHS: Final = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_LONGEST_INTEGER_BITS: Final = 840
"""253 digits, about an id's length: Python refuses to write out much longer ones."""


class _Field(NamedTuple):
    name: str
    required: bool
    kind: inspect.Type
    """Without None."""
    alone: type[msgspec.Struct]
    """A struct of this field alone: msgspec prepares a struct's checks once, those of a bare type each time."""
    element: "_Field | None"
    """Of a list."""

    def fits(self, value: object) -> bool:
        try:
            msgspec.convert({"value": value}, self.alone)
        except (msgspec.ValidationError, UnicodeEncodeError):  # the latter for half a surrogate pair
            return False
        return True


def repaired(record: type, found: dict[str, Any], fates: Fates) -> dict[str, Any]:
    """Return the fields of an object as a record type wants them; those that it does not know stay as they are.

    Args:
        record: a msgspec struct.
        found: the object as it came.
        fates: counts the fields that did not fit. One that is null or blank says nothing, and is not counted.
    """
    result = dict(found)
    for field in _fields(record):
        if field.name not in found or field.fits(found[field.name]):
            continue
        value = _read(found[field.name], field, fates)
        if value is not None and (field.required or field.fits(value)):
            result[field.name] = value
            if not isinstance(value, list):  # whose elements are counted
                fates[field.name, READ] += 1
        elif not field.required:
            del result[field.name]
            if not _is_blank(found[field.name]):
                fates[field.name, LEFT_OUT] += 1
    return result


def may_be_wild(value: bytes) -> bool:
    """Tell from the bytes whether an optional field may be too large or too deep; False for most."""
    return len(value) > MAX_TABLE_BYTES or value.count(b"{") + value.count(b"[") > MAX_TABLE_DEPTH


def without_wild(record: Record, names: tuple[str, ...], fates: Fates) -> Record:
    """Leave out the optional fields that could not be kept or sent on."""
    kept = {name: value for name in names if not _is_wild(value := getattr(record, name))}
    if len(kept) == len(names):
        return record
    fates.update((name, LEFT_OUT) for name in names if name not in kept)
    required = {one.name: getattr(record, one.name) for one in msgspec.structs.fields(type(record)) if one.required}
    return type(record)(**required, **kept)


@cache
def _fields(record: type) -> tuple[_Field, ...]:
    return tuple(_field(one.encode_name, one.type, required=one.required) for one in msgspec.structs.fields(record))


def _field(name: str, declared: Any, *, required: bool) -> _Field:  # noqa: ANN401 - an annotation
    options = [one for one in get_args(declared) if one is not type(None)]
    wanted = options[0] if get_origin(declared) in {Union, UnionType} and len(options) == 1 else declared
    bare = get_args(wanted)[0] if get_origin(wanted) is Annotated else wanted
    element = _field(name, get_args(bare)[0], required=True) if get_origin(bare) is list else None
    alone = msgspec.defstruct("Alone", [("value", declared)])
    return _Field(name, required, inspect.type_info(wanted), alone, element)


def _read(value: object, field: _Field, fates: Fates) -> Any:  # noqa: ANN401, PLR0911 - one kind of field a return
    """Return what a value says, None when that is not certain."""
    match field.kind:
        case inspect.FloatType():
            return _number(value)
        case inspect.IntType() | inspect.UnionType():  # a timestamp is an integer or text
            return _integer(value)
        case inspect.BoolType():
            return _truth(value)
        case inspect.StrType(min_length=shortest, max_length=longest):  # a title may be cut, an id may not
            return _text(value, None if shortest else longest)
        case inspect.StructType(cls=record) if isinstance(value, dict):
            return repaired(record, value, fates)
        case inspect.ListType(max_length=longest) if isinstance(value, list) and field.element:
            return _elements(value, field, longest, fates)
        case _:
            return None


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, str) and _NUMBER.fullmatch(value.strip()) else None


def _integer(value: object) -> int | None:
    """Return the integer that `3.0` is in JSON, or that text spells."""
    if isinstance(value, str) and _INTEGER.fullmatch(value.strip()):
        return int(value)
    return int(value) if isinstance(value, float) and value.is_integer() else None


def _truth(value: object) -> bool | None:
    if isinstance(value, str):
        return _TRUTHS.get(value.strip().lower())
    return bool(value) if value in (0, 1) else None


def _text(value: object, longest: int | None) -> str | None:
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() <= _LONGEST_INTEGER_BITS:
        return str(value)
    return value[:longest] if isinstance(value, str) and longest else None


def _elements(value: list[Any], field: _Field, longest: int | None, fates: Fates) -> list[Any]:
    """Return the elements as they are to be; a list that is optional loses those that cannot be read."""
    assert field.element
    read = [one if field.element.fits(one) else _read(one, field.element, fates) for one in value]
    if field.required:
        return [old if new is None else new for old, new in zip(value, read, strict=True)]
    kept = [one for one in read if one is not None and field.element.fits(one)][:longest]
    fates[field.name, READ if len(kept) == len(value) else LEFT_OUT] += 1
    return kept


def _is_blank(value: object) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


def _is_wild(value: object) -> bool:
    try:
        size = len(msgspec.json.encode(value))
    except (UnicodeEncodeError, RecursionError):
        return True
    return isinstance(value, dict) and (size > MAX_TABLE_BYTES or _is_deeper(value, MAX_TABLE_DEPTH))


def _is_deeper(value: object, limit: int) -> bool:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return limit < 0 or any(_is_deeper(one, limit - 1) for one in inner)
