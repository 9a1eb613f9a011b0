"""requests -> recommendations: lists that are asked for on a topic, from the state as it is."""

import time
from collections.abc import AsyncIterator
from typing import Any, Final

from msgspec.structs import replace

from streams.decoding import decode, decoder
from streams.errors import RejectedEventError
from streams.instruments import WorkerInstruments
from streams.kafka.dead_letters import DeadLetters
from streams.kafka.outputs import Outputs
from streams.lists.ladder import Ladder
from streams.lists.query import Query
from streams.pseudonyms import pseudonyms
from streams.records import Cause, Recommendation, Request, encode
from streams.repair import Fates
from streams.settings import Settings
from streams.state.user_states import UserStates

_REQUEST: Final = decoder(Request)


class AnswerRequests:
    """The agent; a call takes the stream of record batches. Requests share their partitions with interactions."""

    def __init__(
        self,
        settings: Settings,
        states: UserStates,
        outputs: Outputs,
        ladder: Ladder,
        dead_letters: DeadLetters,
        instruments: WorkerInstruments,
    ) -> None:
        self._topic = settings.topics.recommendations
        self._pseudonym = pseudonyms(settings.pseudonym_key, settings.kafka.partitions)
        self._deadline_seconds = settings.serving.deadline_ms / 1000
        self._states = states
        self._outputs = outputs
        self._ladder = ladder
        self._instruments = instruments
        self._dead_letters = dead_letters

    async def __call__(self, stream: Any) -> AsyncIterator[None]:  # noqa: ANN401 - faust has no types here
        """Answer batch after batch."""
        async for event in stream.noack().events():
            began = time.monotonic()
            delivery = self._outputs.delivery()
            asked: list[tuple[Request, int]] = []
            fates, partition = Fates(), event.message.partition
            for record in event.message.value:
                try:
                    request = decode(_REQUEST, record.value, fates)
                    user_id = self._pseudonym(request.user_id, partition)
                    asked.append((replace(request, user_id=user_id), record.offset))
                except RejectedEventError as why:
                    self._dead_letters.send(event.message, record, why, delivery)
            self._dead_letters.count_lenient(event.message.topic, fates)
            queries = [self._query(partition, request) for request, _ in asked]
            left = self._deadline_seconds - (time.monotonic() - began)
            lists = await self._ladder.recommend(queries, left)
            for (request, offset), ranking in zip(asked, lists, strict=True):
                recommendation = Recommendation(
                    recommendation_id=f"requests/{partition}/{offset}",
                    user_id=request.user_id,
                    cause=Cause("requests", partition, offset),
                    items=ranking.items,
                    version=ranking.version,
                    generation=ranking.generation,
                    rung=ranking.rung,
                    timestamp=int(time.time() * 1000),
                    stage_ms={"total": round((time.monotonic() - began) * 1000, 2)},
                    slot=ranking.slot,
                )
                self._outputs.send(self._topic, request.user_id.encode(), encode(recommendation), delivery)
                self._instruments.recommendations.labels(ranking.rung).inc()
            await delivery.seal().acknowledged()
            await stream.ack(event)
            yield None

    def _query(self, partition: int, request: Request) -> Query:
        state = self._states.readable(partition, request.user_id)
        return Query.of(state, request.k, request.user_id, frozenset(request.exclude))
