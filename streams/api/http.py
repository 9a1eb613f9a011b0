"""The HTTP API of a worker: every route with its scope and its documentation, in one table."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from fastapi import FastAPI
from prometheus_client import CollectorRegistry
from starlette.convertors import StringConvertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from streams.api.edge import Edge, Endpoint
from streams.api.endpoints import Endpoints, Serving
from streams.api.forwarding import Forwarder
from streams.api.openapi import AFTER, EVENTS, EXCLUDE, ITEM, USER, DirectRoute, DocumentedApi, Json, K, responses
from streams.api.problems import as_problem, problem_response
from streams.instruments import WorkerInstruments
from streams.lenient_fields import LenientFields
from streams.settings import Settings

_API_VERSION: Final = "1"


def create_api(
    serving: Serving, settings: Settings, instruments: WorkerInstruments, registry: CollectorRegistry
) -> FastAPI:
    """Return the API over a worker."""
    register_url_convertor("id", _Id())
    forwarder = Forwarder(settings.http)
    edge = Edge(settings.http, instruments)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await forwarder.close()

    api = DocumentedApi(
        title="Headrace",
        version=_API_VERSION,
        summary="Events in, recommendations out.",
        lifespan=lifespan,
        redoc_url=None,
        redirect_slashes=False,
        exception_handlers={HTTPException: _unrouted},
    )
    api.router.route_class = DirectRoute
    for route in _routes(Endpoints(serving, settings, forwarder, registry, LenientFields(instruments))):
        route.add_to(api, edge, tokens=bool(settings.http.tokens))
    return api


class _Id(StringConvertor):
    regex = r"[\s\S]*"


@dataclass(frozen=True)
class _Route:
    method: str
    path: str
    """`:id` is any text, a slash or a line break too."""
    endpoint: Endpoint
    scope: str | None
    """What a token must allow; None: open to all."""
    answer: str = "object"
    """Name of its schema, `object` for one of no fixed shape, or its media type when it is not JSON."""
    problems: tuple[str, ...] = ()
    parameters: tuple[Json, ...] = ()
    body: Json | None = None

    def add_to(self, api: FastAPI, edge: Edge, *, tokens: bool) -> None:
        template = self.path.replace(":id", "")
        described: Json = {"parameters": list(self.parameters)}
        if self.body:
            described["requestBody"] = self.body
        if self.scope and tokens:
            described["security"] = [{"token": [self.scope]}]
        api.add_api_route(
            self.path,
            edge.guard(self.endpoint, template, self.scope),
            methods=[self.method],
            response_model=None,
            responses=responses(self.answer, self.problems, open_to_all=self.scope is None),
            openapi_extra=described,
        )


_READ: Final = ("invalid-parameter", "not-ready", "owner-unavailable", "state-behind")
_WRITE: Final = (
    "invalid-body", "invalid-event", "body-too-slow", "body-too-large", "too-many-events", "unsupported-media-type",
    "unsupported-encoding", "not-ready",
)  # fmt: skip


def _routes(to: Endpoints) -> tuple[_Route, ...]:
    user, item = "/v1/users/{user_id:id}", "/v1/items/{item_id:id}"
    return (
        _Route("POST", "/v1/events", to.post_events, "events", "Positions", _WRITE, body=EVENTS),
        _Route("GET", f"{user}/recommendations", to.get_recommendations, "read", "Recommendation", _READ,
               (USER, K, EXCLUDE, AFTER)),
        _Route("GET", f"{user}/history", to.get_history, "read", "UserHistory", _READ, (USER, AFTER)),
        _Route("GET", f"{item}/similar", to.get_similar, "read", "SimilarItems",
               ("invalid-parameter", "unknown-item"), (ITEM, K)),
        _Route("GET", "/healthz", to.get_health, None),
        _Route("GET", "/readyz", to.get_ready, None, problems=("not-ready",)),
        _Route("GET", "/metrics", to.get_metrics, "admin", "text/plain"),
    )  # fmt: skip


async def _unrouted(_: Request, exc: Exception) -> Response:
    return problem_response(as_problem(exc))
