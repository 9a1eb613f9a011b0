"""What is rejected keeps key, bytes and headers, says why, and is counted; a new item gets a row."""

from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from streams.agents.add_items import AddItems
from streams.catalogue.catalogue import Catalogue
from streams.errors import MAX_DETAIL, RejectedEventError
from streams.instruments import WorkerInstruments
from streams.kafka.dead_letters import DeadLetters
from streams.settings import Settings


class SentDelivery:
    """Everything is acknowledged at once."""

    def seal(self) -> "SentDelivery":
        return self

    async def acknowledged(self) -> int:
        return 0


class Sent:
    """Stands in for Outputs."""

    def __init__(self) -> None:
        self.records: list[tuple[str, bytes | None, bytes | None, dict[str, bytes]]] = []

    def delivery(self) -> SentDelivery:
        return SentDelivery()

    def send(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        _delivery: SentDelivery,
        *,
        headers: list[tuple[str, bytes]] | None = None,
    ) -> None:
        self.records.append((topic, key, value, dict(headers or [])))


class Items:
    """A stream of one batch of `items`."""

    def __init__(self, *records: tuple[bytes | None, bytes | None]) -> None:
        made = [
            SimpleNamespace(offset=offset, key=key, value=value, headers=())
            for offset, (key, value) in enumerate(records)
        ]
        self.event = SimpleNamespace(message=SimpleNamespace(topic="headrace.items", partition=0, value=made))
        self.finished = False

    def noack(self) -> "Items":
        return self

    async def events(self) -> Any:
        yield self.event

    async def ack(self, event: Any) -> None:
        assert event is self.event
        self.finished = True


@pytest.fixture
def instruments() -> WorkerInstruments:
    return WorkerInstruments(CollectorRegistry())


async def test_a_rejected_record_keeps_its_bytes_and_headers_and_says_where_it_was(
    instruments: WorkerInstruments,
) -> None:
    sent = Sent()
    message = SimpleNamespace(topic="t", partition=2)
    record = SimpleNamespace(offset=7, key=b"k", value=b"\xff", headers=[("trace", b"1"), ("reason", b"theirs")])
    why = RejectedEventError("wrong_type", "x" * 1000, "user_id")
    DeadLetters("dead", sent, instruments).send(message, record, why, SentDelivery())  # type: ignore[arg-type]
    [(topic, key, value, headers)] = sent.records
    assert (topic, key, value) == ("dead", b"k", b"\xff")
    assert len(headers.pop("detail").decode()) == MAX_DETAIL
    assert headers == {
        "trace": b"1", "reason": b"wrong_type", "field": b"user_id", "topic": b"t", "partition": b"2", "offset": b"7",
    }  # fmt: skip
    labels = {"topic": "t", "reason": "wrong_type"}
    assert instruments.registry.get_sample_value("headrace_dead_letters_total", labels) == 1


async def add(instruments: WorkerInstruments, *records: tuple[bytes | None, bytes | None], known: str = "") -> Sent:
    sent, catalogue = Sent(), Catalogue()
    if known:
        catalogue.add_row(known)
    stream = Items(*records)
    dead_letters = DeadLetters(Settings().topics.dead_letters, sent, instruments)  # type: ignore[arg-type]
    async for _ in AddItems(Settings(), sent, catalogue, dead_letters)(stream):  # type: ignore[arg-type]
        assert stream.finished
    return sent


async def test_a_new_item_gets_a_row_and_a_known_one_no_second(instruments: WorkerInstruments) -> None:
    sent = await add(instruments, (b"i1", b'{"item_id":"i1"}'), (b"i2", b'{"item_id":"i2"}'), known="i1")
    assert sent.records == [("headrace.rows", b"i2", b"{}", {})]


async def test_a_tombstone_of_an_unknown_item_gives_it_a_row_that_is_never_recommended(
    instruments: WorkerInstruments,
) -> None:
    assert (await add(instruments, (b"i1", None))).records == [("headrace.rows", b"i1", b"{}", {})]


async def test_an_item_is_added_although_optional_fields_do_not_fit_and_these_are_counted(
    instruments: WorkerInstruments,
) -> None:
    # Issue 10, B.6, shared/cases/items_topic.jsonl: a null text or a price in quotes cost the whole item.
    value = b'{"item_id":"i1","title":null,"price":"12.50","stock":"many"}'
    assert (await add(instruments, (b"i1", value))).records == [("headrace.rows", b"i1", b"{}", {})]
    counted = instruments.lenient_fields
    assert counted.labels("headrace.items", "price", "read")._value.get() == 1
    assert counted.labels("headrace.items", "stock", "left_out")._value.get() == 1


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        (None, b'{"item_id":"i1"}', b"missing_field"),
        (b"", None, b"missing_field"),
        (b"i" * 256, None, b"missing_field"),
        (b"\xff", None, b"undecodable"),
        (b"i1", b"{", b"undecodable"),
        (b"i1", b'{"item_id":"i2"}', b"wrong_type"),
        (b"i1", b'{"item_id":["i1"]}', b"wrong_type"),
    ],
)
async def test_a_bad_item_is_set_aside_and_the_others_of_its_batch_are_added(
    instruments: WorkerInstruments, key: bytes | None, value: bytes | None, reason: bytes
) -> None:
    sent = await add(instruments, (key, value), (b"good", b'{"item_id":"good"}'))
    [rejected, added] = sent.records
    assert rejected[:3] == ("headrace.dead-letters", key, value)
    assert rejected[3]["reason"] == reason
    assert added[:2] == ("headrace.rows", b"good")
