"""What the HTTP API asks of a worker: events in, lists and histories of the users whose partitions it owns."""

import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

import faust
import msgspec
from faust.types import TP

from streams.agents.answers import recommendation
from streams.catalogue.catalogue import Catalogue
from streams.errors import NotReadyError, PositionError
from streams.instruments import WorkerInstruments
from streams.kafka.misplaced import partition_of
from streams.kafka.outputs import Outputs
from streams.lists.ladder import Ladder
from streams.lists.query import Query
from streams.pseudonyms import pseudonyms
from streams.records import (
    INTERACTION_TYPES,
    Cause,
    HistoryEntry,
    Interaction,
    Recommendation,
    RecommendedItem,
    UserHistory,
    encode,
)
from streams.settings import Settings
from streams.state.progress import Progress
from streams.state.table import UserTable
from streams.state.user_state import UserState
from streams.state.user_states import UserStates

_AFTER_SECONDS: Final = 5.0


class WorkerServing:
    """Implements streams.api.endpoints.Serving. An id or its pseudonym may be asked for; the latter is stored."""

    def __init__(
        self,
        settings: Settings,
        app: faust.App,
        table: UserTable,
        states: UserStates,
        outputs: Outputs,
        catalogue: Catalogue,
        ladder: Ladder,
        progress: Progress,
        partitions: int,
        instruments: WorkerInstruments,
    ) -> None:
        self._interactions = settings.topics.interactions
        self._deadline_seconds = settings.serving.deadline_ms / 1000
        self._app = app
        self._table = table
        self._states = states
        self._outputs = outputs
        self._catalogue = catalogue
        self._ladder = ladder
        self._progress = progress
        self._partitions = partitions
        self._lists = instruments.recommendations
        self._pseudonym = pseudonyms(settings.pseudonym_key, partitions)

    def owner(self, user_id: str) -> str | None:
        """Return host:port of the worker that owns the user, None when it is this one.

        Raises:
            NotReadyError: partitions are being assigned.
        """
        tp = TP(self._table.changelog_topic_name, self._partition(user_id))
        if self._app.assignor.is_active(tp):
            return None
        url = self._app.assignor._tps_url.get(tp)  # noqa: SLF001 - key_store() hashes with a producer that is not started
        if url is None:
            raise NotReadyError("The user's partition has no worker at the moment; try again in a second.")
        return str(url).removeprefix("http://")

    async def add_events(self, interactions: Sequence[Interaction]) -> list[str]:
        """Put interactions on the topic; return their positions once Kafka has them."""
        deliveries = []
        for interaction in interactions:
            delivery = self._outputs.delivery()
            partition = self._partition(interaction.user_id)
            stored = msgspec.structs.replace(interaction, user_id=self._pseudonym(interaction.user_id, partition))
            self._outputs.send(
                self._interactions, stored.user_id.encode(), encode(stored), delivery, partition=partition
            )
            deliveries.append((partition, delivery.seal()))
        return [f"interactions/{partition}/{await delivery.acknowledged()}" for partition, delivery in deliveries]

    async def recommend(self, user_id: str, k: int, exclude: frozenset[str], after: str | None) -> Recommendation:
        """Compute a user's list now.

        Raises:
            TimeoutError: the state did not reach `after` in time.
            PositionError: `after` is of a partition that is not the user's.
        """
        began = time.monotonic()
        partition, state = await self._state(user_id, after)
        query = Query.of(state, k, self._pseudonym(user_id, partition), exclude)
        [ranking] = await self._ladder.recommend([query], self._deadline_seconds)
        self._lists.labels(ranking.rung).inc()
        offset = state.offset if state else -1
        cause = Cause("interactions", partition, offset)
        stage_ms = {"total": round((time.monotonic() - began) * 1000, 2)}
        answer = recommendation(user_id, cause, ranking, int(time.time() * 1000), stage_ms)
        return msgspec.structs.replace(answer, recommendation_id=f"http/{time.time_ns()}")

    async def history(self, user_id: str, after: str | None) -> UserHistory:
        """Return what is remembered of a user.

        Raises:
            TimeoutError: the state did not reach `after` in time.
            PositionError: `after` is of a partition that is not the user's.
        """
        partition, state = await self._state(user_id, after)
        if state is None or state.offset < 0:  # nothing but impressions
            return UserHistory(user_id, None, [])
        entries = [HistoryEntry(e.item_id, INTERACTION_TYPES[e.type - 1], e.timestamp) for e in state.history()]
        return UserHistory(user_id, f"interactions/{partition}/{state.offset}", entries)

    def similar(self, item_id: str, k: int) -> list[RecommendedItem] | None:
        """Return the items that users take together with one, None when it is unknown."""
        return self._ladder.similar(item_id, k)

    def knows(self, item_id: str) -> bool:
        """Return whether an item has a row."""
        return item_id in self._catalogue.rows

    def title(self, item_id: str) -> str | None:
        """Return an item's name, None when no items event gave one."""
        return self._catalogue.title(item_id)

    def health(self) -> Mapping[str, Any]:
        """Return what the worker is doing, for people."""
        return {
            "partitions": sorted(tp.partition for tp in self._actives()),
            "users_in_memory": len(self._states),
            "items": len(self._catalogue.rows),
        }

    def ready(self) -> str | None:
        """Return None when the worker can answer, else why not."""
        known = self._app.assignor._tps_url  # noqa: SLF001 - empty until the group's leader has spoken
        if not known or self._app.rebalancing or self._app.in_recovery:
            return "The worker is being given its partitions or recovers their state."
        return None

    def settled_partitions(self) -> set[int]:
        """Return the partitions whose states are this worker's to change; none while they are being assigned."""
        return set() if self.ready() else {tp.partition for tp in self._actives()}

    def _actives(self) -> set[TP]:
        topic = self._table.changelog_topic_name
        return {tp for tp in self._app.assignor.assigned_actives() if tp.topic == topic}

    def _partition(self, user_id: str) -> int:
        """Return the user's partition, as Kafka's Java producers compute it."""
        return partition_of(user_id, self._partitions)

    async def _state(self, user_id: str, after: str | None) -> tuple[int, UserState | None]:
        """Return the user's partition and state, once it reflects `after`."""
        partition = self._partition(user_id)
        stored_id = self._pseudonym(user_id, partition)
        state = self._states.readable(partition, stored_id)
        if after is None:
            return partition, state
        _, named, offset = after.rsplit("/", 2)
        if int(named) != partition:
            raise PositionError(f"{after} is not of this user's partition, {partition}.")
        if state is None or state.offset < int(offset):
            await self._progress.reached(partition, int(offset), _AFTER_SECONDS)
        return partition, self._states.readable(partition, stored_id)
