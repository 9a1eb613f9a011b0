"""What can be read of a topic now is read, and nothing else is waited for: open and aborted transactions, odd keys."""

from collections.abc import Iterator
from uuid import uuid4

import pytest
from confluent_kafka import KafkaException, Producer

from engine.text import text_encoder
from streams.catalogue.row_log import RowLog
from streams.errors import StartError
from streams.kafka import readable_topic
from streams.kafka.readable_topic import ReadableTopic
from streams.kafka.topic_setup import ensure_topics
from streams.learning.item_texts import ItemTexts
from streams.local.local_broker import LocalBroker
from streams.settings import Settings

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def settings(broker: LocalBroker) -> Settings:
    settings = Settings(broker=broker.address, prefix=f"{uuid4().hex[:8]}.")
    ensure_topics(settings)
    return settings


@pytest.fixture
def producer(settings: Settings) -> Producer:
    return Producer({"bootstrap.servers": settings.broker, "log_level": 2})


@pytest.fixture
def transaction(settings: Settings) -> Iterator[Producer]:
    """One that is open."""
    producer = Producer({"bootstrap.servers": settings.broker, "transactional.id": uuid4().hex, "log_level": 2})
    producer.init_transactions(20)
    producer.begin_transaction()
    yield producer
    producer.abort_transaction(20)


def write(producer: Producer, topic: str, *records: tuple[bytes, bytes]) -> None:
    for key, value in records:
        producer.produce(topic, value, key, 0)
    assert producer.flush(20) == 0


def test_a_log_of_rows_ends_where_a_transaction_is_open_and_holds_nothing_of_an_aborted_one(
    settings: Settings, producer: Producer, transaction: Producer
) -> None:
    """A.7: there was no end to wait for; A.6: what was aborted counts for nobody."""
    write(producer, settings.topics.rows, (b"a", b"{}"))
    write(transaction, settings.topics.rows, (b"aborted", b"{}"))
    write(producer, settings.topics.rows, (b"b", b"{}"), (b"\xff", b"{}"), (b"c", b"{}"))
    rows = RowLog(settings)
    assert rows.of(["a", "b"]) == [1, 0]
    transaction.abort_transaction(20)  # its mark is the last record, and nobody gets it
    assert rows.of(["a", "b", "c", "aborted"]) == [1, 2, 4, 0]
    assert rows.rows == 5
    rows.close()
    transaction.begin_transaction()


def test_an_item_that_every_worker_rejects_has_no_text(settings: Settings, producer: Producer) -> None:
    """C.6: its key is another id than the item's."""
    encoder = text_encoder("hash")
    assert encoder
    write(producer, settings.topics.rows, (b"i1", b"{}"), (b"i2", b"{}"))
    write(
        producer,
        settings.topics.items,
        (b"i1", b'{"item_id": "i1", "title": "red shoes"}'),
        (b"other", b'{"item_id": "i2", "title": "blue hat"}'),
    )
    rows = RowLog(settings)
    texts = ItemTexts(settings, rows, encoder)
    [(described, _)] = texts.all()
    assert described.tolist() == rows.of(["i1"])
    texts.close()
    rows.close()


def test_a_kafka_that_gives_nothing_is_named_and_one_that_gives_slowly_is_waited_for(
    settings: Settings, producer: Producer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A.7: progress, no fixed deadline while progress is made."""
    monkeypatch.setattr(readable_topic, "_SILENT_SECONDS", 1.0)
    client = {"bootstrap.servers": settings.broker, "log_level": 2}
    topic = ReadableTopic(client, settings.topics.decisions)
    write(producer, settings.topics.decisions, *[(b"%d" % number, b"{}") for number in range(30)])
    monkeypatch.setattr(readable_topic, "_BATCH", 1)
    records, poll = topic._records, 0.0

    def slowly(_seconds: float) -> Iterator[object]:
        nonlocal poll
        poll += 1
        return iter(()) if poll % 2 else records(0.05)

    monkeypatch.setattr(topic, "_records", slowly)
    assert len(list(topic.up_to_now())) == 30
    write(producer, settings.topics.decisions, (b"one", b"more"))
    monkeypatch.setattr(topic, "_records", lambda _seconds: iter(()))
    with pytest.raises(StartError, match=r"gives no records of \S+decisions beyond offset 30 of 31 for"):
        list(topic.up_to_now())
    topic.close()


def test_a_topic_that_is_gone_is_named_at_once(settings: Settings) -> None:
    topic = ReadableTopic({"bootstrap.servers": settings.broker, "log_level": 2}, uuid4().hex)
    with pytest.raises(KafkaException, match="Unknown"):
        list(topic.up_to_now())
    topic.close()
