"""folded batches -> rows, recommendations, examples: what users get, and what the learner learns from it.

A user gets one list a batch, which the batch's last interaction of the user causes. Impressions that came after what
was taken of them cause no list, only an example.
"""

import time
from collections import Counter
from collections.abc import Awaitable, Mapping, Sequence

from streams.agents.answers import MAX_EXAMPLE_BYTES, encoded_examples, recommendation
from streams.agents.faults import made_in_halves, rejection
from streams.errors import RejectedEventError
from streams.instruments import WorkerInstruments
from streams.kafka.dead_letters import DeadLetters
from streams.kafka.outputs import Delivery, Outputs
from streams.lists.ladder import Ladder, RankedList
from streams.lists.query import Query
from streams.records import Cause, encode
from streams.settings import Settings
from streams.state.batch_fold import FoldedBatch, Touched


class Recommender:
    """The answerer of interactions and impressions."""

    def __init__(
        self,
        settings: Settings,
        outputs: Outputs,
        ladder: Ladder,
        dead_letters: DeadLetters,
        instruments: WorkerInstruments,
    ) -> None:
        self.serving = settings.serving
        self.history_length = settings.state.history_length
        self.topics = settings.topics
        self.outputs = outputs
        self.ladder = ladder
        self.dead_letters = dead_letters
        self.instruments = instruments

    def begin(self, folded: FoldedBatch, partition: int, began: float) -> "Recommendations":
        """Count a batch, and take from it what its lists need."""
        self._count(folded)
        return Recommendations(self, folded, partition, began)

    def _count(self, folded: FoldedBatch) -> None:
        for fate, count in folded.fates.items():
            self.instruments.impressions.labels(fate).inc(count)
        for name, count in folded.types.items():
            if count:
                self.instruments.interactions.labels(name).inc(count)
        self.instruments.replayed.inc(folded.replayed)
        self.instruments.duplicates.inc(folded.duplicates)


class Recommendations:
    """The answers to one batch."""

    def __init__(self, parts: Recommender, folded: FoldedBatch, partition: int, began: float) -> None:
        self._parts = parts
        self._partition = partition
        self._began = began
        self._came = folded.came
        touched, serving = folded.touched.values(), parts.serving
        self._new_items = folded.new_items
        self._answered = [one for one in touched if one.cause >= 0] if serving.recommend else []
        self._queries = [Query.of(one.state, serving.k, one.user_id) for one in self._answered]
        """The histories as they are now, before the next batch changes them."""
        late = [one for one in touched if one.cause < 0 and one.exposures]
        self._exposed = late if serving.emit_examples else []
        """Users with an example but no list."""
        self._ranked: list[RankedList | RejectedEventError] = []
        self._stages: dict[str, float] = {}
        """Seconds, by stage."""

    def send_first(self, delivery: Delivery) -> None:
        """Send a row for each new item, so that no state holds an item without one."""
        for item_id in self._new_items:
            self._parts.outputs.send(self._parts.topics.rows, item_id.encode(), b"{}", delivery)
        self._stages["fold"] = time.monotonic() - self._began

    async def make(self) -> None:
        """Ask for the lists."""
        began = time.monotonic()
        due = self._began + self._parts.serving.deadline_ms / 1000

        def recommend(queries: Sequence[Query]) -> Awaitable[Sequence[RankedList]]:
            return self._parts.ladder.recommend(queries, due - time.monotonic())

        self._ranked = await made_in_halves(recommend, self._queries)
        self._stages["score"] = time.monotonic() - began

    def send(self, delivery: Delivery) -> None:
        """Send a list and an example for each user who did something, an example for those who were shown something."""
        now_ms = int(time.time() * 1000)
        self._stages["total"] = time.monotonic() - self._began
        stage_ms = {stage: round(seconds * 1000, 2) for stage, seconds in self._stages.items()}
        for touched, ranking in zip(self._answered, self._ranked, strict=True):
            try:
                self._send_list(touched, ranking, now_ms, stage_ms, delivery)
            except Exception as exc:  # noqa: BLE001 - one list is left out, and no others
                self._leave_out(touched, rejection(exc), delivery)
        for touched in [*self._answered, *self._exposed] if self._parts.serving.emit_examples else ():
            try:
                self._send_examples(touched, now_ms, delivery)
            except Exception as exc:  # noqa: BLE001 - one example is left out, and no others
                self._leave_out(touched, rejection(exc), delivery)

    def observe(self) -> None:
        """Count the lists, and what they took."""
        if not self._answered and not self._exposed:
            return
        instruments = self._parts.instruments
        seconds = time.monotonic() - self._came
        for _ in self._answered:
            instruments.latency_seconds.observe(seconds)
        ranked = [one for one in self._ranked if not isinstance(one, RejectedEventError)]
        for rung, count in Counter(ranking.rung for ranking in ranked).items():
            instruments.recommendations.labels(rung).inc(count)
        for source, count in Counter(item.source for ranking in ranked for item in ranking.items).items():
            instruments.items_recommended.labels(source).inc(count)
        for stage, seconds in self._stages.items():
            instruments.stage_seconds.labels(stage).observe(seconds)

    def _send_list(
        self,
        touched: Touched,
        ranking: RankedList | RejectedEventError,
        now_ms: int,
        stage_ms: Mapping[str, float],
        delivery: Delivery,
    ) -> None:
        if isinstance(ranking, RejectedEventError):
            raise ranking
        cause = Cause("interactions", self._partition, touched.cause)
        answer = encode(recommendation(touched.user_id, cause, ranking, now_ms, stage_ms))
        self._parts.outputs.send(self._parts.topics.recommendations, touched.key, answer, delivery)

    def _send_examples(self, touched: Touched, now_ms: int, delivery: Delivery) -> None:
        topic, partition, outputs = self._parts.topics.examples, self._partition, self._parts.outputs
        most = min(MAX_EXAMPLE_BYTES, outputs.limits.of(topic) - len(touched.key))
        for value in encoded_examples(touched, partition, now_ms, self._parts.history_length, most):
            outputs.send(topic, touched.key, value, delivery, partition=partition)

    def _leave_out(self, touched: Touched, why: RejectedEventError, delivery: Delivery) -> None:
        source = (self._parts.topics.interactions, self._partition, touched.cause)
        self._parts.dead_letters.send_bytes(touched.key, None, why, source, delivery)
