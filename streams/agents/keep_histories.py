"""interactions -> histories, recommendations, examples: the worker's main agent."""

from collections.abc import AsyncIterator
from typing import Any

from streams.agents.pipeline import Pipeline
from streams.agents.recommender import Recommender
from streams.state.batch_fold import BatchFold


class KeepHistories:
    """The agent; a call takes the stream of record batches."""

    def __init__(self, pipeline: Pipeline, fold: BatchFold, recommender: Recommender) -> None:
        self._pipeline = pipeline
        self._fold = fold
        self._recommender = recommender

    async def __call__(self, stream: Any) -> AsyncIterator[None]:  # noqa: ANN401 - faust has no types here
        """Fold batch after batch."""
        async for _ in self._pipeline.run(stream, self._fold.fold, self._recommender):
            yield None
