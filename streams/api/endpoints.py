"""HTTP -> Serving -> HTTP: events in; lists, histories and similar items out, from the worker that owns the user."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from starlette.requests import Request
from starlette.responses import Response

from streams.api.bodies import read_events
from streams.api.forwarding import Forwarder
from streams.api.parameters import after_of, exclude_of, k_of, path_id, query_of
from streams.api.problems import ProblemError
from streams.errors import NotReadyError
from streams.lenient_fields import LenientFields
from streams.records import (
    Interaction,
    Positions,
    Recommendation,
    RecommendedItem,
    SimilarItems,
    TitledItem,
    UserHistory,
    encode,
)
from streams.repair import Fates
from streams.settings import Settings


class Serving(Protocol):
    """What the API asks of its worker. User ids are as the client sent them."""

    def owner(self, user_id: str) -> str | None:
        """Return host:port of the worker that owns the user, None when it is this one.

        Raises:
            NotReadyError: it is not known at the moment.
        """

    async def add_events(self, interactions: Sequence[Interaction]) -> list[str]:
        """Put events on the stream; return their positions once they are durable."""

    async def recommend(self, user_id: str, k: int, exclude: frozenset[str], after: str | None) -> Recommendation:
        """Compute a user's list now, once the state has reached `after`.

        Raises:
            TimeoutError: the state did not reach it in time.
            PositionError: the user's state will never reach it.
        """

    async def history(self, user_id: str, after: str | None) -> UserHistory:
        """Return what is remembered of a user, once the state has reached `after`; raises as recommend does."""

    def similar(self, item_id: str, k: int) -> list[RecommendedItem] | None:
        """Return the items that users take together with one, None when it is unknown."""

    def knows(self, item_id: str) -> bool:
        """Return whether any event has named the item."""

    def title(self, item_id: str) -> str | None:
        """Return an item's name, None when there is none."""

    def health(self) -> Mapping[str, Any]:
        """Return what the worker is doing, for people."""

    def ready(self) -> str | None:
        """Return None when the worker can answer, else why not."""


class Endpoints:
    """One method a route; all raise what as_problem turns into a document."""

    def __init__(
        self,
        serving: Serving,
        settings: Settings,
        forwarder: Forwarder,
        registry: CollectorRegistry,
        lenient_fields: LenientFields,
    ) -> None:
        self._serving = serving
        self._limits = settings.http
        self._k = settings.serving.k
        self._max_future_ms = settings.state.max_future_seconds * 1000
        self._forwarder = forwarder
        self._registry = registry
        self._lenient_fields = lenient_fields
        self._topic = settings.topics.interactions

    async def post_events(self, request: Request) -> Response:
        """Accept one event or a list: all of them, or none when one is wrong. Answered when Kafka has them."""
        fates = Fates()
        events = await read_events(request, self._limits, self._max_future_ms, fates)
        self._lenient_fields.count(self._topic, fates)
        return _json(Positions(await self._serving.add_events(events)))

    async def get_recommendations(self, request: Request) -> Response:
        """Compute the user's list now."""
        user_id = path_id(request, "user_id")
        query = query_of(request, "k", "after", "exclude")
        k, after, exclude = k_of(query, self._k), after_of(query), exclude_of(query, self._serving.knows)
        if owner := self._serving.owner(user_id):
            return await self._forwarder.forward(owner, request)
        found = await self._serving.recommend(user_id, k, exclude, after)
        return _json(msgspec.structs.replace(found, items=self._titled(found.items)))

    async def get_history(self, request: Request) -> Response:
        """Return what is remembered of the user, oldest first."""
        user_id = path_id(request, "user_id")
        after = after_of(query_of(request, "after"))
        if owner := self._serving.owner(user_id):
            return await self._forwarder.forward(owner, request)
        return _json(await self._serving.history(user_id, after))

    async def get_similar(self, request: Request) -> Response:
        """Return the items that users take together with this one."""
        item_id = path_id(request, "item_id")
        k = k_of(query_of(request, "k"), self._k)
        items = self._serving.similar(item_id, k)
        if items is None:
            raise ProblemError("unknown-item", "no event has named this item yet", field="item_id")
        return _json(SimilarItems(item_id, self._titled(items)))

    async def get_health(self, _: Request) -> Response:
        """Tell that the worker lives, and what it does."""
        return _json(self._serving.health())

    async def get_ready(self, _: Request) -> Response:
        """Tell whether the worker can answer."""
        if reason := self._serving.ready():
            raise NotReadyError(reason)
        return _json({"ready": True})

    async def get_metrics(self, _: Request) -> Response:
        """Return the metrics in Prometheus' text format."""
        return Response(generate_latest(self._registry), media_type=CONTENT_TYPE_LATEST)

    def _titled(self, items: Sequence[RecommendedItem]) -> list[TitledItem]:
        title = self._serving.title
        return [TitledItem(item.item_id, item.score, item.source, title(item.item_id)) for item in items]


def _json(answer: object) -> Response:
    return Response(encode(answer), media_type="application/json")
