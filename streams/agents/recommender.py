"""folded batches -> rows, recommendations, examples: what users get, and what the learner learns from it.

A user gets one list a batch, which the batch's last interaction of the user causes. Impressions that came after what
was taken of them cause no list, only an example.
"""

import time
from collections import Counter
from collections.abc import Sequence

from streams.agents.answers import example, recommendation
from streams.instruments import WorkerInstruments
from streams.kafka.outputs import Delivery, Outputs
from streams.lists.ladder import Ladder, RankedList
from streams.lists.query import Query
from streams.records import Cause, encode
from streams.settings import Settings
from streams.state.batch_fold import FoldedBatch, Touched


class Recommender:
    """The answerer of interactions and impressions."""

    def __init__(self, settings: Settings, outputs: Outputs, ladder: Ladder, instruments: WorkerInstruments) -> None:
        self.serving = settings.serving
        self.topics = settings.topics
        self.outputs = outputs
        self.ladder = ladder
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
        touched, serving = folded.touched.values(), parts.serving
        self._new_items = folded.new_items
        self._answered = [one for one in touched if one.cause >= 0] if serving.recommend else []
        self._queries = [Query.of(one.state, serving.k, one.user_id) for one in self._answered]
        """The histories as they are now, before the next batch changes them."""
        late = [one for one in touched if one.cause < 0 and one.exposures]
        self._exposed = late if serving.emit_examples else []
        """Users with an example but no list."""
        self._ranked: Sequence[RankedList] = ()
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
        left = self._parts.serving.deadline_ms / 1000 - (began - self._began)
        self._ranked = await self._parts.ladder.recommend(self._queries, left)
        self._stages["score"] = time.monotonic() - began

    def send(self, delivery: Delivery) -> None:
        """Send a list and an example for each user who did something, an example for those who were shown something."""
        now_ms = int(time.time() * 1000)
        self._stages["total"] = time.monotonic() - self._began
        stage_ms = {stage: round(seconds * 1000, 2) for stage, seconds in self._stages.items()}
        for touched, ranking in zip(self._answered, self._ranked, strict=True):
            cause = Cause("interactions", self._partition, touched.cause)
            answer = recommendation(touched.user_id, cause, ranking, now_ms, stage_ms)
            self._parts.outputs.send(self._parts.topics.recommendations, touched.key, encode(answer), delivery)
            if self._parts.serving.emit_examples:
                self._send_example(touched, now_ms, delivery)
        for touched in self._exposed:
            self._send_example(touched, now_ms, delivery)

    def observe(self) -> None:
        """Count the lists, and what they took."""
        if not self._answered and not self._exposed:
            return
        now, instruments = time.time(), self._parts.instruments
        for touched in self._answered:
            instruments.latency_seconds.observe(max(0.0, now - touched.written_at / 1000))
        for rung, count in Counter(ranking.rung for ranking in self._ranked).items():
            instruments.recommendations.labels(rung).inc(count)
        for source, count in Counter(item.source for ranking in self._ranked for item in ranking.items).items():
            instruments.items_recommended.labels(source).inc(count)
        for stage, seconds in self._stages.items():
            instruments.stage_seconds.labels(stage).observe(seconds)

    def _send_example(self, touched: Touched, now_ms: int, delivery: Delivery) -> None:
        learnable = encode(example(touched, self._partition, now_ms))
        topic = self._parts.topics.examples
        self._parts.outputs.send(topic, touched.key, learnable, delivery, partition=self._partition)
