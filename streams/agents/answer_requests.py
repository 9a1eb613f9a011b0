"""requests -> recommendations: lists that are asked for on a topic, from the state as it is."""

import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from msgspec.structs import replace

from streams.agents.answers import recommendation
from streams.agents.faults import made_in_halves, rejection
from streams.agents.ownership import Ownership
from streams.decoding import decode, decoder
from streams.errors import RejectedEventError
from streams.instruments import WorkerInstruments
from streams.kafka.dead_letters import DeadLetters
from streams.kafka.misplaced import Misplaced, partition_of
from streams.kafka.outputs import Delivery, Outputs
from streams.lists.ladder import Ladder, RankedList
from streams.lists.query import Query
from streams.pseudonyms import pseudonyms
from streams.records import Cause, Request, encode
from streams.repair import Fates
from streams.settings import Settings
from streams.state.user_states import UserStates

_REQUEST: Final = decoder(Request)


@dataclass(frozen=True, slots=True)
class _Asked:
    request: Request
    record: Any
    """What it came as, for dead letters."""


class AnswerRequests:
    """The agent; a call takes the stream of record batches. Requests share their partitions with interactions.

    What was fetched before a rebalance is left to the new owner of the partition, also when its lists are made already:
    the answers of two workers would bear one id, and the former owner's would be of an old state.
    """

    def __init__(
        self,
        settings: Settings,
        states: UserStates,
        outputs: Outputs,
        ladder: Ladder,
        dead_letters: DeadLetters,
        ownership: Ownership,
        instruments: WorkerInstruments,
    ) -> None:
        self._topic = settings.topics.recommendations
        self._partitions = settings.kafka.partitions
        self._pseudonym = pseudonyms(settings.pseudonym_key, settings.kafka.partitions)
        self._misplaced = Misplaced(instruments)
        self._deadline_seconds = settings.serving.deadline_ms / 1000
        self._states = states
        self._outputs = outputs
        self._ladder = ladder
        self._dead_letters = dead_letters
        self._ownership = ownership
        self._instruments = instruments

    async def __call__(self, stream: Any) -> AsyncIterator[None]:  # noqa: ANN401 - faust has no types here
        """Answer batch after batch; what is not this worker's any more stays unfinished and is read again."""
        async for event in stream.noack().events():
            if self._ownership.may_begin(event.message.generation_id) and await self._answer(event.message):
                await stream.ack(event)
            yield None

    async def _answer(self, message: Any) -> bool:  # noqa: ANN401
        """Answer a batch; return whether it is finished."""
        began = time.monotonic()
        delivery = self._outputs.delivery()
        asked = self._decoded(message, delivery)

        async def recommend(some: Sequence[_Asked]) -> Sequence[RankedList]:
            queries = [self._query(message.partition, one.request) for one in some]
            return await self._ladder.recommend(queries, began + self._deadline_seconds - time.monotonic())

        ranked = await made_in_halves(recommend, asked)
        if not self._ownership.lasts(message.generation_id):
            return False
        self._ownership.check_lease()
        for one, ranking in zip(asked, ranked, strict=True):
            try:
                self._send(message.partition, one, ranking, began, delivery)
            except Exception as exc:  # noqa: BLE001 - one request is set aside, and no others
                self._dead_letters.send(message, one.record, rejection(exc), delivery)
        await delivery.seal().acknowledged()
        return True

    def _decoded(self, message: Any, delivery: Delivery) -> list[_Asked]:  # noqa: ANN401
        asked, fates, misplaced = [], Fates(), 0
        for record in message.value:
            try:
                request = decode(_REQUEST, record.value, fates)
                misplaced += partition_of(request.user_id, self._partitions) != message.partition
                asked.append(
                    _Asked(replace(request, user_id=self._pseudonym(request.user_id, message.partition)), record)
                )
            except Exception as exc:  # noqa: BLE001 - as above
                self._dead_letters.send(message, record, rejection(exc), delivery)
        self._dead_letters.lenient_fields.count(message.topic, fates)
        self._misplaced.count(message.topic, message.partition, misplaced)
        return asked

    def _query(self, partition: int, request: Request) -> Query:
        state = self._states.readable(partition, request.user_id)
        return Query.of(state, request.k, request.user_id, frozenset(request.exclude))

    def _send(
        self, partition: int, asked: _Asked, ranking: RankedList | RejectedEventError, began: float, delivery: Delivery
    ) -> None:
        if isinstance(ranking, RejectedEventError):
            raise ranking
        user_id, cause = asked.request.user_id, Cause("requests", partition, asked.record.offset)
        stage_ms = {"total": round((time.monotonic() - began) * 1000, 2)}
        answer = recommendation(user_id, cause, ranking, int(time.time() * 1000), stage_ms)
        self._outputs.send(self._topic, user_id.encode(), encode(answer), delivery)
        self._instruments.recommendations.labels(ranking.rung).inc()
