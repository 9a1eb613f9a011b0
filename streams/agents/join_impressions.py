"""impressions -> user states, examples: what was shown waits in the state for what the user does with it.

Batches of impressions go through the same pipeline as interactions, so that no two agents write one user's state.
"""

from collections.abc import AsyncIterator, Iterable
from typing import Any

from streams.agents.pipeline import Pipeline
from streams.agents.recommender import Recommender
from streams.decoding import decode_impression
from streams.errors import RejectedEventError
from streams.kafka.misplaced import partition_of
from streams.pseudonyms import pseudonyms
from streams.settings import Settings
from streams.state.batch_fold import FoldedBatch, touch
from streams.state.impressions import Impressions
from streams.state.user_state import DAY_MS
from streams.state.user_states import UserStates


class JoinImpressions:
    """The agent; a call takes the stream of record batches. Impressions share their partitions with interactions."""

    def __init__(self, settings: Settings, states: UserStates, pipeline: Pipeline, recommender: Recommender) -> None:
        self._impressions = Impressions(settings.impressions)
        self._max_future_ms = settings.state.max_future_seconds * 1000
        self._partitions = settings.kafka.partitions
        self._pseudonym = pseudonyms(settings.pseudonym_key, settings.kafka.partitions)
        self._states = states
        self._pipeline = pipeline
        self._recommender = recommender

    async def __call__(self, stream: Any) -> AsyncIterator[None]:  # noqa: ANN401 - faust has no types here
        """Fold batch after batch."""
        async for _ in self._pipeline.run(stream, self.fold, self._recommender):
            yield None

    def fold(self, partition: int, records: Iterable[Any], now_ms: int) -> FoldedBatch:
        """Fold each record into its user's state, in order."""
        batch = FoldedBatch()
        for record in records:
            batch.events += 1
            try:
                impression = decode_impression(record.value, now_ms, self._max_future_ms, batch.lenient)
            except RejectedEventError as why:
                batch.rejected.append((record, why))
                continue
            user_id = self._pseudonym(impression.user_id, partition)
            touched = batch.touched.get(user_id) or touch(
                self._states, partition, user_id, batch, partition_of(impression.user_id, self._partitions)
            )
            touched.exposures += self._impressions.show(touched.state, impression, record.offset, batch.fates)
            touched.changed = True
        for touched in batch.touched.values():
            touched.state.begin_day(now_ms // DAY_MS)
            touched.value = touched.state.encode()
        return batch
