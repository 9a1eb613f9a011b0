"""A generation of which it is not known whether Kafka took it leaves no reader behind, nor with a mixture."""

from collections.abc import Iterator

import numpy as np
import pytest
from confluent_kafka import KafkaError, KafkaException

from engine.generations import GenerationAssembler, TouchedRows
from engine.weights import Weights
from streams.learning import publisher
from streams.learning.publisher import FencedError, NotPublishedError, Publisher
from streams.settings import Settings


class OneLog:
    """A transactional producer whose commits arrive, fail, or arrive and are said to have failed."""

    def __init__(self, _config: object) -> None:
        self.committed: list[tuple[str, bytes]] = []
        self._open: list[tuple[str, bytes]] = []
        self.commits: Iterator[str] = iter(())

    def init_transactions(self, _seconds: float) -> None: ...

    def begin_transaction(self) -> None:
        self._open = []

    def produce(self, _topic: str, value: bytes, key: str, _partition: int) -> None:
        self._open.append((key, value))

    def commit_transaction(self, _seconds: float) -> None:
        outcome = next(self.commits)
        if outcome != "lost":
            self.committed += self._open
        if outcome != "taken":
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT))

    def abort_transaction(self, _seconds: float) -> None: ...


@pytest.mark.parametrize("outcome", ["lost", "taken, but not told"])
def test_after_a_commit_that_failed_all_rows_are_written(monkeypatch: pytest.MonkeyPatch, outcome: str) -> None:
    monkeypatch.setattr(publisher, "Producer", OneLog)
    publishing = Publisher(Settings())
    log = publishing._producer
    log.commits = iter(["taken", "taken", outcome, "taken", "taken"])
    touched, sizes, table = TouchedRows(), [], np.zeros((4000, 8), np.float32)
    touched.add(np.array([7]), ["item_vectors"])
    for number in range(1, 6):
        table[7] = number
        try:
            sizes.append(publishing.publish(Weights({}, {"item_vectors": table}, {}), touched, number, 1, learned={}))
        except NotPublishedError:
            sizes.append(0)
    assert [size > table.nbytes for size in sizes] == [True, False, False, True, False]
    assembler = GenerationAssembler()
    found = [generation for key, value in log.committed if (generation := assembler.feed(key, value))]
    assert [generation.generation for generation in found] == ([1, 2, 4, 5] if outcome == "lost" else [1, 2, 3, 4, 5])
    for generation in found:
        rows_U, values = generation.tables["item_vectors"].rows_U, generation.tables["item_vectors"].values
        assert (values[rows_U == 7] == generation.generation).all()


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (KafkaError(KafkaError._FENCED, "other", fatal=True), FencedError),
        (KafkaError(KafkaError.PRODUCER_FENCED, "other", fatal=True), FencedError),
        (KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED, "no", fatal=True), KafkaException),
        (KafkaError(KafkaError.MSG_SIZE_TOO_LARGE, "large", txn_requires_abort=True), NotPublishedError),
    ],
)
def test_only_who_is_fenced_is_told_of_another_learner(
    monkeypatch: pytest.MonkeyPatch, error: KafkaError, raised: type[Exception]
) -> None:
    """A.5's sibling: whatever was fatal was told as another learner."""
    monkeypatch.setattr(publisher, "Producer", OneLog)
    publishing = Publisher(Settings())

    def refuse(_seconds: float) -> None:
        raise KafkaException(error)

    monkeypatch.setattr(publishing._producer, "commit_transaction", refuse)
    with pytest.raises(raised):
        publishing.decide({"champion": b"{}"})
