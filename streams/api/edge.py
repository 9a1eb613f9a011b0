"""request -> endpoint, if it may pass: Host, token, scope, rate. Failures become problem documents, its time counts."""

import math
import time
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Final

from prometheus_client import Histogram
from starlette.requests import Request
from starlette.responses import Response

from streams.api.auth import Authenticator, check_scope
from streams.api.parameters import header
from streams.api.problems import ProblemError, as_problem, problem_response
from streams.api.rate_limit import RateLimit
from streams.instruments import WorkerInstruments
from streams.settings import HttpSettings

Endpoint = Callable[[Request], Awaitable[Response]]

_LOOPBACK: Final = frozenset({b"127.0.0.1", b"localhost", b"[::1]"})


class Edge:
    """Stands before every endpoint."""

    def __init__(
        self, settings: HttpSettings, instruments: WorkerInstruments, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._authenticator = Authenticator(settings.tokens)
        self._rate_limit = RateLimit(settings.requests_per_second) if settings.requests_per_second else None
        self._hosts = _LOOPBACK | {_host((settings.advertised or settings.host).encode())}
        self._instruments = instruments
        self._seconds: dict[tuple[str, int], Histogram] = {}
        self._clock = clock

    def guard(self, endpoint: Endpoint, route: str, scope: str | None) -> Endpoint:
        """Return the endpoint behind the edge.

        Args:
            endpoint: it may raise what as_problem knows.
            route: the template of its path, a label of the metrics.
            scope: what the client's token must allow; None lets everybody in.
        """

        @wraps(endpoint)
        async def guarded(request: Request) -> Response:
            began = self._clock()
            try:
                if scope is not None:
                    self._admit(request, scope)
                response = await endpoint(request)
            except Exception as exc:  # noqa: BLE001 - the last stop: as_problem logs what it does not know
                response = problem_response(as_problem(exc))
            self._observe(route, response.status_code, self._clock() - began)
            return response

        return guarded

    def _admit(self, request: Request, scope: str) -> None:
        address = request.scope.get("client")
        client: object = address[0] if address else None
        if not self._authenticator.required:
            self._check_host(request)
            self._check_rate(client)
            return
        try:
            client, scopes = self._authenticator.authenticate(header(request, b"authorization"))
        except ProblemError:
            self._check_rate(client)  # guessing is limited as well
            raise
        self._check_rate(client)
        check_scope(scopes, scope)

    def _check_host(self, request: Request) -> None:
        """Without tokens only this machine may ask: a web page whose name was rebound to it must not."""
        host = header(request, b"host")
        if host is not None and _host(host) not in self._hosts:
            raise ProblemError(
                "misdirected", "without tokens only this machine is answered; set HEADRACE_HTTP__TOKENS", field="Host"
            )

    def _check_rate(self, client: object) -> None:
        if self._rate_limit and (wait := self._rate_limit.take(client, self._clock())):
            seconds = math.ceil(wait)
            raise ProblemError("rate-limited", f"ask again in {seconds} s", {"Retry-After": str(seconds)})

    def _observe(self, route: str, status: int, seconds: float) -> None:
        histogram = self._seconds.get((route, status))
        if histogram is None:
            histogram = self._seconds[route, status] = self._instruments.http_seconds.labels(route, str(status))
        histogram.observe(seconds)


def _host(address: bytes) -> bytes:
    """Return the host of host:port; an IPv6 address keeps its brackets."""
    end = address.find(b"]") + 1 or address.find(b":")
    return (address[:end] if end > 0 else address).lower()
