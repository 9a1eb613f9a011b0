"""The pipeline and its agents on parts that a test holds in its hands."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from prometheus_client import CollectorRegistry

from streams.agents.completion import Completion
from streams.agents.folding import Folding
from streams.agents.join_impressions import JoinImpressions
from streams.agents.keep_histories import KeepHistories
from streams.agents.ownership import Ownership
from streams.agents.pipeline import Pipeline
from streams.agents.recommender import Recommender
from streams.agents.under_way import UnderWay
from streams.instruments import WorkerInstruments
from streams.kafka.dead_letters import DeadLetters
from streams.kafka.lease import Lease
from streams.kafka.outputs import NotAcknowledgedError
from streams.kafka.record_limits import RecordLimits
from streams.kafka.unpacking import Records
from streams.lists.ladder import RankedList
from streams.lists.query import Query
from streams.records import RecommendedItem, encode
from streams.settings import Settings
from streams.state.batch_fold import BatchFold
from streams.state.foreign_writes import ForeignWrites
from streams.state.progress import Progress
from streams.state.user_states import UserStates
from tests.builders import NOON, KafkaBatch, interaction

CHANGELOG = "changelog"


class Journal(list[str]):
    """What happened, in order."""


class Table:
    changelog_topic_name = CHANGELOG

    def __init__(self, journal: Journal) -> None:
        self.rows: dict[bytes, bytes | None] = {}
        self.set_back: dict[int, set[bytes]] = {}
        self._journal = journal

    def changelog_offset(self, _partition: int) -> int | None:
        return None  # nothing stored yet, so nobody else can have written

    def read(self, _partition: int, key: bytes) -> bytes | None:
        return self.rows.get(key)

    def write(self, _partition: int, states: Iterable[tuple[bytes, bytes | None]], _offset: int) -> None:
        self.rows.update(states)
        self._journal.append("stored")


class HeldDelivery:
    """Acknowledged when the test says so."""

    def __init__(self, outputs: "HeldOutputs") -> None:
        self._outputs = outputs
        self.topics: set[str] = set()
        self.done = asyncio.Event()
        self.refused = False

    def seal(self) -> "HeldDelivery":
        if not self.topics:
            self.done.set()
        return self

    async def acknowledged(self) -> int:
        await self.done.wait()
        if self.refused:
            raise NotAcknowledgedError("refused")
        return 0


class HeldOutputs:
    def __init__(self, journal: Journal) -> None:
        self.limits = RecordLimits()
        self.sent: list[tuple[str, bytes, bytes | None]] = []
        self.with_headers: list[tuple[str, bytes, bytes | None, list[tuple[str, bytes]]]] = []
        self._journal = journal
        self._deliveries: list[HeldDelivery] = []
        self.at_once = False
        """Acknowledge without being told."""

    def delivery(self) -> HeldDelivery:
        self._deliveries.append(HeldDelivery(self))
        if self.at_once:
            self._deliveries[-1].done.set()
        return self._deliveries[-1]

    def send(self, topic: str, key: bytes, value: bytes | None, delivery: HeldDelivery, **extra: Any) -> None:
        self.limits.check(topic, len(key) + len(value or b""))
        self.sent.append((topic, key, value))
        self.with_headers.append((topic, key, value, extra.get("headers") or []))
        delivery.topics.add(topic)
        self._journal.append(f"sent {topic}")

    def acknowledge(self, topic: str, *, refuse: bool = False) -> None:
        for delivery in self._deliveries:
            if topic in delivery.topics:
                delivery.refused = refuse
                delivery.done.set()

    def acknowledge_all(self) -> None:
        for delivery in self._deliveries:
            delivery.done.set()

    def limit(self, topic: str, size_bytes: int) -> None:
        self.limits = RecordLimits({topic: size_bytes})

    def values(self, topic: str) -> list[bytes]:
        return [value for name, _, value in self.sent if name == topic and value is not None]


class OneRung:
    """Recommends i1 to everybody."""

    async def recommend(self, queries: list[Query], _seconds_left: float) -> list[RankedList]:
        return [RankedList([RecommendedItem("i1", 1.0, "sequence")], "triton", 1, 1) for _ in queries]


def kafka_record(offset: int, value: bytes) -> Any:
    return SimpleNamespace(offset=offset, key=b"u1", value=value, timestamp=NOON, headers=())


class Stream:
    """One partition's batches, as faust hands them over."""

    def __init__(self, journal: Journal, *batches: list[tuple[int, bytes]]) -> None:
        self._journal = journal
        self._batches = batches

    def noack(self) -> "Stream":
        return self

    async def events(self) -> AsyncIterator[Any]:
        for batch in self._batches:
            records = [kafka_record(offset, value) for offset, value in batch]
            value = Records(records[0].offset, [KafkaBatch(records)], 100)
            message = SimpleNamespace(
                topic="headrace.interactions", partition=0, offset=value.last_offset, generation_id=1, value=value
            )
            yield SimpleNamespace(message=message, value=value)

    async def ack(self, event: Any) -> None:
        self._journal.append(f"finished {event.message.offset}")


class Bench:
    """An agent on parts that the test holds in its hands."""

    def __init__(self, folder: Path) -> None:
        settings = Settings()
        self.journal = Journal()
        self.table = Table(self.journal)
        self.outputs = HeldOutputs(self.journal)
        self.generation = 1
        self.log: dict[int, tuple[int, bytes]] = {}
        """What Kafka holds."""
        self.metrics = CollectorRegistry()
        self.states = UserStates(self.table, 100)  # type: ignore[arg-type]
        table: Any = self.table
        outputs: Any = self.outputs
        ladder: Any = OneRung()
        self.instruments = instruments = WorkerInstruments(self.metrics)
        progress = Progress(settings.topics.interactions)
        self.progress = progress
        self.ownership = ownership = Ownership(Lease(60.0), lambda: self.generation)
        dead_letters = DeadLetters(settings.topics.dead_letters, outputs, instruments)
        foreign_writes = ForeignWrites(settings, table, self.states, outputs, instruments)
        self.under_way = UnderWay(folder / "under-way", [settings.topics.interactions, settings.topics.impressions], 4)
        folding = Folding(table, self.states, outputs, ownership, self.under_way, self.read_again)
        self.completion = Completion(
            table, self.states, outputs, foreign_writes, ownership, progress, self.under_way, instruments
        )
        self.pipeline = Pipeline(
            table, self.states, outputs, dead_letters, foreign_writes, folding, self.completion, ownership, progress,
            instruments,
        )  # fmt: skip
        self.recommender = Recommender(settings, outputs, ladder, dead_letters, instruments)
        self.agent = KeepHistories(self.pipeline, BatchFold(settings, self.states, {}), self.recommender)
        self.join = JoinImpressions(settings, self.states, self.pipeline, self.recommender)

    async def take(self, *batches: list[tuple[int, bytes]]) -> None:
        self.log |= {offset: (offset, value) for batch in batches for offset, value in batch}
        async for _ in self.agent(Stream(self.journal, *batches)):
            await settle()

    def read_again(self, _topic: str, _partition: int, first: int, last: int) -> list[Any]:
        return [kafka_record(*self.log[offset]) for offset in range(first, last + 1)]

    def timed_batches(self) -> float | None:
        return self.metrics.get_sample_value("headrace_stage_seconds_count", {"stage": "batch"})


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


def event(number: int, **fields: Any) -> tuple[int, bytes]:
    return number, encode(interaction(event_id=f"e{number}", timestamp=NOON + number, **fields))
