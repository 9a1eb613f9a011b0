"""request -> checked parameters and events; whatever is wrong with them becomes a problem that names the field."""

import asyncio
import re
import time
from typing import Final
from urllib.parse import parse_qsl

import msgspec
from starlette.requests import Request

from streams.api.problems import ProblemError
from streams.errors import RejectedEventError
from streams.records import MAX_ID_BYTES, Interaction, decode_interaction
from streams.settings import HttpSettings

MAX_K: Final = 100
MAX_QUERY_FIELDS: Final = 1000
BODY_SECONDS: Final = 10.0
"""A body that is still not complete by then is refused."""

POSITION: Final = re.compile(r"interactions/(?:0|[1-9][0-9]{0,8})/(?:0|[1-9][0-9]{0,17})", re.ASCII)
_K: Final = re.compile(r"[1-9][0-9]{0,2}", re.ASCII)
_ARRAY: Final = msgspec.json.Decoder(list[msgspec.Raw])

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
        ProblemError: it is empty or too long.
    """
    return _checked_id(request.path_params[field], field)


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


def exclude_of(query: QueryFields) -> frozenset[str]:
    """Return the item ids to leave out; the parameter is repeated for several.

    Raises:
        ProblemError: one of them is no item id.
    """
    return frozenset(_checked_id(item_id, "exclude") for item_id in query.get("exclude", ()))


async def read_events(request: Request, limits: HttpSettings, max_future_ms: int) -> list[Interaction]:
    """Return the events of the body, one or a list: all of them acceptable, or none is taken.

    Raises:
        ProblemError: it names the first event and field at fault.
    """
    media_type = (header(request, b"content-type") or b"").partition(b";")[0].strip().lower()
    if media_type != b"application/json":  # also keeps web pages from posting here: this type needs CORS
        raise ProblemError("unsupported-media-type", "send Content-Type: application/json", field="Content-Type")
    body = await _read_body(request, limits.max_body_bytes)
    now_ms = time.time_ns() // 1_000_000
    if body.lstrip()[:1] != b"[":
        return [decode_interaction(body, now_ms, max_future_ms)]
    events = []
    for index, raw in enumerate(_elements(body, limits.max_events)):
        try:
            events.append(decode_interaction(bytes(raw), now_ms, max_future_ms))
        except RejectedEventError as exc:
            raise ProblemError("invalid-event", exc.detail, field=exc.field, reason=exc.reason, index=index) from exc
    return events


def _elements(body: bytes, max_events: int) -> list[msgspec.Raw]:
    try:
        elements = _ARRAY.decode(body)
    except (msgspec.DecodeError, RecursionError) as exc:
        raise ProblemError("invalid-body", f"the list is not JSON ({exc})") from exc
    if not elements:
        raise ProblemError("invalid-body", "the list has no events")
    if len(elements) > max_events:
        raise ProblemError("too-many-events", f"{len(elements)} events, the limit is {max_events}; send several lists")
    return elements


async def _read_body(request: Request, limit: int) -> bytes:
    length = header(request, b"content-length")
    if length is not None and (not length.isdigit() or int(length) > limit):
        raise _too_large(limit)
    chunks, size = [], 0
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.stream():
                size += len(chunk)
                if size > limit:
                    raise _too_large(limit)
                chunks.append(chunk)
    except TimeoutError as exc:
        raise ProblemError("body-too-slow", f"the body was not complete after {BODY_SECONDS:g} s") from exc
    return b"".join(chunks)


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


def _too_large(limit: int) -> ProblemError:
    return ProblemError("body-too-large", f"the limit is {limit} bytes; send several lists")
