"""any failure -> an RFC 9457 problem document: the whole set of them, with their statuses."""

from collections.abc import Mapping
from typing import Any, Final

import structlog
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from streams.errors import HeadraceError, PositionError, RejectedEventError
from streams.records import encode

PROBLEMS: Final[Mapping[str, tuple[int, str]]] = {
    "invalid-parameter": (400, "A parameter is wrong"),
    "invalid-body": (400, "The body cannot be read"),
    "invalid-event": (400, "An event is not acceptable"),
    "unauthenticated": (401, "A valid bearer token is needed"),
    "forbidden": (403, "The token lacks the scope"),
    "not-found": (404, "There is no such route"),
    "unknown-item": (404, "The item is unknown"),
    "method-not-allowed": (405, "The route has no such method"),
    "body-too-slow": (408, "The body did not arrive in time"),
    "body-too-large": (413, "The body is too large"),
    "too-many-events": (413, "Too many events in one request"),
    "unsupported-media-type": (415, "The body must be application/json"),
    "unsupported-encoding": (415, "The body's encoding is not known"),
    "misdirected": (421, "The Host header names another machine"),
    "rate-limited": (429, "Too many requests"),
    "internal": (500, "The worker failed"),
    "not-ready": (503, "The worker is not ready"),
    "owner-unavailable": (503, "The worker that owns the user does not answer"),
    "too-many-connections": (503, "The worker has as many connections as it takes"),
    "state-behind": (504, "The state has not reached the position in time"),
}
"""Problem type to status and title. Append-only: clients tell problems apart by their type."""

MEDIA_TYPE: Final = "application/problem+json"
_RETRY_SOON: Final = {"Retry-After": "1"}
_BY_STATUS: Final = {404: "not-found", 405: "method-not-allowed"}
_log = structlog.get_logger()


class ProblemError(Exception):
    """A request that is refused with a problem document."""

    def __init__(
        self, problem: str, detail: str, headers: Mapping[str, str] | None = None, **members: str | int | None
    ) -> None:
        super().__init__(detail)
        self.problem = problem
        """A key of PROBLEMS."""
        self.detail = detail
        self.headers = headers
        self.members = members
        """Extension members, as `field`; those that are None are left out."""


def problem_type(problem: str) -> str:
    """Return the URI that names a problem in its document."""
    return f"urn:headrace:problem:{problem}"


def problem_response(error: ProblemError) -> Response:
    """Return the problem document."""
    status, title = PROBLEMS[error.problem]
    document: dict[str, Any] = {
        "type": problem_type(error.problem),
        "title": title,
        "status": status,
        "detail": error.detail,
        **{name: value for name, value in error.members.items() if value is not None},
    }
    return Response(encode(document), status, error.headers, MEDIA_TYPE)


def as_problem(exc: Exception) -> ProblemError:  # noqa: PLR0911 - a table of failures
    """Return what a client is told of a failure; what nobody foresaw is logged and told without detail."""
    match exc:
        case ProblemError():
            return exc
        case RejectedEventError():
            return ProblemError("invalid-event", exc.detail, field=exc.field, reason=exc.reason)
        case PositionError():
            return ProblemError("invalid-parameter", str(exc), field="after")
        case HeadraceError():
            return ProblemError("not-ready", str(exc), _RETRY_SOON)
        case TimeoutError():
            return ProblemError("state-behind", "the state is still behind the position; ask again", _RETRY_SOON)
        case ClientDisconnect():
            return ProblemError("invalid-body", "the client left before its body was complete")
        case HTTPException(status_code=(404 | 405) as status):
            return ProblemError(_BY_STATUS[status], "see /docs for the routes and their methods", exc.headers)
    _log.error("request_failed", exc_info=exc)
    return ProblemError("internal", "the failure is in the worker's log")
