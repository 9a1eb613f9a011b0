"""request -> the events of its body: read within bounds, unpacked, decoded; whatever is wrong becomes a problem."""

import asyncio
import time
import zlib
from collections.abc import Callable
from typing import Final

import msgspec
from starlette.requests import Request

from streams.api.parameters import header
from streams.api.problems import ProblemError
from streams.decoding import decode_interaction
from streams.errors import RejectedEventError
from streams.records import Interaction
from streams.repair import Fates
from streams.settings import HttpSettings

BODY_SECONDS: Final = 10.0
"""A body that is still not complete by then is refused."""
_GZIP: Final = 16 + zlib.MAX_WBITS
_ARRAY: Final = msgspec.json.Decoder(list[msgspec.Raw])


async def read_events(request: Request, limits: HttpSettings, max_future_ms: int, fates: Fates) -> list[Interaction]:
    """Return the events of the body, one or a list: all of them acceptable, or none is taken.

    Args:
        request: which has them in its body.
        limits: how much is read, and how many events.
        max_future_ms: how far a producer's clock may be ahead.
        fates: counts the fields that did not fit.

    Raises:
        ProblemError: it names the first event and field at fault.
    """
    media_type = (header(request, b"content-type") or b"").partition(b";")[0].strip().lower()
    if media_type != b"application/json":  # also keeps web pages from posting here: this type needs CORS
        raise ProblemError("unsupported-media-type", "send Content-Type: application/json", field="Content-Type")
    unpack = _encoding(request)
    body = unpack(await _read_body(request, limits.max_body_bytes), limits.max_body_bytes)
    now_ms = time.time_ns() // 1_000_000
    if body.lstrip()[:1] != b"[":
        return [decode_interaction(body, now_ms, max_future_ms, fates)]
    events = []
    for index, raw in enumerate(_elements(body, limits.max_events)):
        try:
            events.append(decode_interaction(bytes(raw), now_ms, max_future_ms, fates))
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


def _encoding(request: Request) -> Callable[[bytes, int], bytes]:
    """Return what unpacks a body, up to a number of bytes."""
    name = (header(request, b"content-encoding") or b"").strip().lower()
    if name in {b"gzip", b"x-gzip"}:
        return _gunzip
    if name not in {b"", b"identity"}:
        raise ProblemError(
            "unsupported-encoding", "send the body as it is, or Content-Encoding: gzip", {"Accept-Encoding": "gzip"},
            field="Content-Encoding",
        )  # fmt: skip
    return lambda body, _: body


def _gunzip(packed: bytes, limit: int) -> bytes:
    unpacking = zlib.decompressobj(_GZIP)
    try:
        body = unpacking.decompress(packed, limit + 1)
    except zlib.error as exc:
        raise ProblemError("invalid-body", f"the body is not gzip ({exc})", field="Content-Encoding") from exc
    if len(body) > limit:
        raise _too_large(limit)
    if not unpacking.eof or unpacking.unused_data:
        what = "bytes after its end" if unpacking.eof else "no end"
        raise ProblemError("invalid-body", f"the gzip body has {what}", field="Content-Encoding")
    return body


def _too_large(limit: int) -> ProblemError:
    return ProblemError("body-too-large", f"the limit is {limit} bytes; send several lists")
