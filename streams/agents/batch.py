"""What goes through the pipeline: a batch under way, and what is plugged in to fold and to answer it."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from streams.kafka.outputs import Delivery
from streams.state.batch_fold import FoldedBatch, Touched


class Fold(Protocol):
    """Folds records into the states of their users. It sends nothing and waits for nothing."""

    def __call__(self, partition: int, records: Iterable[Any], now_ms: int) -> FoldedBatch:
        """Fold each record of a partition, in order; now_ms is the time, epoch milliseconds."""


class Answers(Protocol):
    """What follows from one batch besides its states."""

    def send_first(self, delivery: Delivery) -> None:
        """Send what Kafka must have before the states are stored."""

    async def make(self) -> None:
        """Compute the answers; this goes on while the states are stored."""

    def send(self, delivery: Delivery) -> None:
        """Send the answers."""

    def observe(self) -> None:
        """Count the answers, which Kafka has acknowledged."""


class Answerer(Protocol):
    """Makes the answers of each batch."""

    def begin(self, folded: FoldedBatch, partition: int, began: float) -> Answers:
        """Take from a batch what its answers need, before the next batch changes the states.

        Args:
            folded: the batch, just folded.
            partition: of the users.
            began: when the batch was taken up, as time.monotonic() says it.
        """


@dataclass(slots=True)
class Batch:
    """A batch between its fold and its end."""

    topic: str
    """Empty when the batch did not come from a topic."""
    partition: int
    first: int
    """Offset with which it begins."""
    offset: int
    """Up to which it reaches."""
    generation: int
    """Of the consumer group, when the batch was fetched."""
    began: float
    changed: Sequence[Touched]
    changelog: Delivery
    others: Delivery
    """Dead letters, and what the answerer sends first."""
    answers: Answers | None = None
    event: Any = None
    """Faust's, to be acknowledged; none when the batch did not come from a topic."""
    end: Callable[[], None] = lambda: None
    """Makes room for the next ones."""
    stored: asyncio.Event = field(default_factory=asyncio.Event)
    """The local store reflects the batch."""
