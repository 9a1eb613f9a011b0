"""States that a former owner writes late are written over by the owner, and one that is behind stops."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast
from uuid import uuid4

import pytest
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from streams.instruments import WorkerInstruments
from streams.kafka.outputs import Outputs
from streams.local.local_broker import LocalBroker
from streams.records import Impression, Shown
from streams.settings import ImpressionSettings, Settings
from streams.state.foreign_writes import ForeignWrites, OvertakenError
from streams.state.impressions import Impressions
from streams.state.precedence import Headers, tombstone_headers
from streams.state.recovery_log import RecoveryLog
from streams.state.table import UserTable
from streams.state.user_state import UserState, decode_state, source_offset
from streams.state.user_states import UserStates
from tests.builders import NOON

pytestmark = pytest.mark.integration


@dataclass
class Table:
    """What a worker has stored."""

    changelog_topic_name: str
    stored: dict[bytes, bytes] = field(default_factory=dict)
    offset: int | None = None
    set_back: dict[int, set[bytes]] = field(default_factory=dict)

    def read(self, _: int, key: bytes) -> bytes | None:
        return self.stored.get(key)

    def changelog_offset(self, _: int) -> int | None:
        return self.offset


class Owner:
    """A worker as far as it writes states."""

    def __init__(self, broker: LocalBroker) -> None:
        self.settings = Settings(broker=broker.address)
        self.table = Table(f"changelog-{uuid4().hex[:8]}")
        admin = AdminClient({"bootstrap.servers": broker.address, "log_level": 2})
        created = admin.create_topics([NewTopic(self.table.changelog_topic_name, 1, 1)])
        created[self.table.changelog_topic_name].result(20)
        self.states = UserStates(cast("UserTable", self.table), 100)
        self.outputs = Outputs(self.settings, 10.0)
        instruments = WorkerInstruments(CollectorRegistry())
        self.foreign_writes = ForeignWrites(
            self.settings, cast("UserTable", self.table), self.states, self.outputs, instruments
        )

    async def write(self, **offsets: int) -> tuple[int, int]:
        """Send states of users that reflect these offsets; return the last offset in the changelog, and the count."""
        delivery = self.outputs.delivery()
        for user, offset in offsets.items():
            state = UserState(offset=offset)
            self.states.keep(0, user, state)
            self.outputs.send(self.table.changelog_topic_name, user.encode(), state.encode(), delivery, partition=0)
        return await delivery.seal().acknowledged(), len(offsets)

    async def write_and_store(self, **offsets: int) -> None:
        last, count = await self.write(**offsets)
        await self.foreign_writes.check(0, last, count)
        self.table.offset = last
        for user in offsets:
            state = self.states.get(0, user)
            assert state
            self.table.stored[user.encode()] = state.encode()

    async def late(self, **offsets: int) -> None:
        """What a former owner sends."""
        await self.late_values({user: UserState(offset=offset).encode() for user, offset in offsets.items()})

    async def late_values(self, values: Mapping[str, bytes | None], headers: Headers = ()) -> None:
        delivery = self.outputs.delivery()
        topic = self.table.changelog_topic_name
        for user, value in values.items():
            self.outputs.send(topic, user.encode(), value, delivery, partition=0, headers=headers)
        await delivery.seal().acknowledged()

    def compacted(self) -> dict[str, int]:
        """Return what compaction would leave: the offset that each user's last state reflects, -1 for a tombstone."""
        return {key.decode(): decode_state(value).offset if value else -1 for key, value in self.last().items()}

    def last(self) -> dict[bytes, bytes | None]:
        """Return the last value of each user in the changelog."""
        consumer = Consumer(
            {"bootstrap.servers": self.settings.broker, "log_level": 2, "group.id": "t", "enable.partition.eof": True}
        )  # fmt: skip
        consumer.assign([TopicPartition(self.table.changelog_topic_name, 0, 0)])
        last: dict[bytes, bytes | None] = {}
        while not (record := consumer.consume(1, 20)[0]).error():
            last[record.key()] = record.value()
        consumer.close()
        return last


async def test_an_owner_alone_writes_nothing_twice(broker: LocalBroker) -> None:
    owner = Owner(broker)
    await owner.write_and_store(u1=1, u2=2)
    await owner.write_and_store(u1=5)
    last, _ = await owner.write(u3=7)
    assert last == 3


async def test_what_a_former_owner_set_back_is_written_over(broker: LocalBroker) -> None:
    owner = Owner(broker)
    await owner.write_and_store(u1=5, u2=6)
    await owner.write_and_store(u1=9)
    await owner.late(u1=7, u2=6)
    await owner.write_and_store(u3=11)
    assert owner.compacted() == {"u1": 9, "u2": 6, "u3": 11}


async def test_a_user_of_the_same_batch_is_written_over_with_the_newest_state(broker: LocalBroker) -> None:
    owner = Owner(broker)
    await owner.write_and_store(u1=5)
    pending = await owner.write(u1=9, u2=10)
    await owner.late(u1=7)
    last, count = await owner.write(u2=12)
    await owner.foreign_writes.check(0, last, pending[1] + count)
    assert owner.compacted() == {"u1": 9, "u2": 12}


async def test_what_recovery_found_set_back_is_written_over(broker: LocalBroker) -> None:
    owner = Owner(broker)
    await owner.write_and_store(u1=9)
    await owner.late(u1=7)
    owner.table.offset, owner.table.set_back = 1, {0: {b"u1"}}
    await owner.write_and_store(u2=11)
    assert owner.compacted() == {"u1": 9, "u2": 11}


async def test_a_worker_that_is_behind_stops(broker: LocalBroker) -> None:
    owner = Owner(broker)
    await owner.write_and_store(u1=5)
    await owner.late(u1=9)
    with pytest.raises(OvertakenError, match="1 users into partition 0"):
        await owner.write_and_store(u2=6)


async def test_a_late_write_of_impressions_alone_is_written_over(broker: LocalBroker) -> None:
    owner = Owner(broker)
    await owner.write_and_store(u1=5)
    state = owner.states.get(0, "u1")
    assert state
    shown = [Impression(name, "u1", [Shown("a", 0), Shown("b", 1)], NOON) for name in ("m0", "m1")]
    impressions = Impressions(ImpressionSettings())
    impressions.show(state, shown[0], 0, Counter())
    before = state.encode()
    impressions.show(state, shown[1], 1, Counter())
    owner.table.stored[b"u1"] = state.encode()
    await owner.late_values({"u1": before})
    await owner.write_and_store(u2=6)
    assert owner.last()[b"u1"] == state.encode()


async def test_a_late_tombstone_of_a_user_who_came_back_is_written_over(broker: LocalBroker) -> None:
    owner = Owner(broker)
    await owner.write_and_store(u1=5)
    state = owner.states.get(0, "u1")
    assert state
    state.day = 20_000
    owner.table.stored[b"u1"] = state.encode()
    await owner.late_values({"u1": None}, tombstone_headers(20_000))
    await owner.write_and_store(u2=6)
    assert owner.compacted() == {"u1": 5, "u2": 6}


def test_recovery_keeps_the_state_that_reflects_more() -> None:
    recovered: dict[bytes, bytes | None] = {b"u1": UserState(offset=9).encode()}

    def write(_: int, states: Sequence[tuple[bytes, bytes | None]], changelog_offset: int, *, logged: bool) -> None:
        assert not logged
        recovered.update(states)
        recovered[b"offset"] = str(changelog_offset).encode()

    set_back: dict[int, set[bytes]] = {0: {b"u9"}}
    log = RecoveryLog()
    table = SimpleNamespace(
        set_back=set_back,
        _reader=lambda _: recovered.get,
        write=write,
        _instruments=WorkerInstruments(CollectorRegistry()),
        _recovery_log=log,
        app=SimpleNamespace(in_recovery=True),
    )
    values = [(b"u1", 7), (b"u2", 4), (b"u2", 8), (b"u2", 6), (b"u1", 9), (b"u9", 3)]
    records = [
        SimpleNamespace(key=key, value=UserState(offset=offset, newest=at).encode(), offset=at, headers=())
        for at, (key, offset) in enumerate(values)
    ]
    records.append(SimpleNamespace(key=b"u3", value=None, offset=len(values), headers=()))
    event: Any = SimpleNamespace(message=SimpleNamespace(partition=0, offset=len(values), value=records))
    UserTable.apply_changelog_batch(table, [event])  # type: ignore[arg-type] # no more of a table is needed
    assert [source_offset(recovered[key]) for key in (b"u1", b"u2")] == [9, 8]
    assert recovered[b"u3"] is None
    assert recovered[b"offset"] == b"6"
    assert set_back == {0: {b"u2"}}
    with capture_logs() as said:
        log.end([0])
    assert [(line["partition"], line["records"]) for line in said[:1]] == [(0, 7)]
