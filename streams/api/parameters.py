"""request -> checked parameters; whatever is wrong with them becomes a problem that names the field."""

import re
from collections.abc import Callable
from typing import Final
from urllib.parse import parse_qsl, unquote_to_bytes

from starlette.requests import Request

from streams.api.problems import ProblemError
from streams.records import MAX_ID_BYTES

MAX_K: Final = 100
MAX_QUERY_FIELDS: Final = 1000

POSITION: Final = re.compile(r"interactions/(?:0|[1-9][0-9]{0,8})/(?:0|[1-9][0-9]{0,17})", re.ASCII)
_K: Final = re.compile(r"[1-9][0-9]{0,2}", re.ASCII)

QueryFields = dict[str, list[str]]


def header(request: Request, name: bytes) -> bytes | None:
    """Return a header's value; name is in lower case."""
    for key, value in request.scope["headers"]:
        if key == name:
            return bytes(value)
    return None


def path_id(request: Request, field: str) -> str:
    """Return the id in the path.

    Raises:
        ProblemError: it is empty, too long, or no UTF-8.
    """
    identifier = request.path_params[field]
    if "\N{REPLACEMENT CHARACTER}" in identifier:  # which all that is no UTF-8 has become: %ff is not %fe
        try:
            unquote_to_bytes(request.scope["raw_path"]).decode()
        except UnicodeDecodeError as exc:
            raise _wrong(field, "must be UTF-8, percent-encoded") from exc
    return _checked_id(identifier, field)


def query_of(request: Request, *known: str) -> QueryFields:
    """Return the values of each query parameter.

    Raises:
        ProblemError: a parameter is unknown or no UTF-8; a misspelt one must not be silently without effect.
    """
    found: QueryFields = {}
    if text := request.scope["query_string"]:
        try:
            pairs = parse_qsl(
                text.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=MAX_QUERY_FIELDS
            )
        except ValueError as exc:
            raise _wrong(None, f"the query string cannot be read ({exc})") from exc
        for name, value in pairs:
            if name not in known:
                raise _wrong(name[:MAX_ID_BYTES], f"unknown here; known: {', '.join(known)}")
            found.setdefault(name, []).append(value)
    return found


def k_of(query: QueryFields, default: int) -> int:
    """Return how many items are asked for.

    Raises:
        ProblemError: it is no whole number from 1 to MAX_K.
    """
    text = _single(query, "k")
    if text is None:
        return default
    if not _K.fullmatch(text) or int(text) > MAX_K:
        raise _wrong("k", f"must be a whole number from 1 to {MAX_K}")
    return int(text)


def after_of(query: QueryFields) -> str | None:
    """Return the position that the state must have reached, None when any will do.

    Raises:
        ProblemError: it is no position.
    """
    text = _single(query, "after")
    if text is not None and not POSITION.fullmatch(text):
        raise _wrong("after", "must be a position as POST /v1/events returns it, interactions/PARTITION/OFFSET")
    return text


def exclude_of(query: QueryFields, is_known: Callable[[str], bool]) -> frozenset[str]:
    """Return the item ids to leave out; the parameter is repeated for several.

    Raises:
        ProblemError: one of them is no item id, or looks like a list of them: the items would be in the answer.
    """
    found = frozenset(_checked_id(item_id, "exclude") for item_id in query.get("exclude", ()))
    for item_id in found:
        if "," in item_id and not is_known(item_id):
            raise _wrong("exclude", f"is one item id, and `{item_id}` is none; repeat the parameter for several items")
    return found


def _checked_id(identifier: str, field: str) -> str:
    if not 0 < len(identifier.encode(errors="replace")) <= MAX_ID_BYTES:
        raise _wrong(field, f"must have 1 to {MAX_ID_BYTES} bytes")
    return identifier


def _single(query: QueryFields, name: str) -> str | None:
    values = query.get(name)
    if values is None:
        return None
    if len(values) > 1:
        raise _wrong(name, "must be given once")
    return values[0]


def _wrong(field: str | None, detail: str) -> ProblemError:
    return ProblemError("invalid-parameter", f"{field} {detail}" if field else detail, field=field)
