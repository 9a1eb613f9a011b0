"""The learner on a real Kafka: each outcome is learned once, generations rise, a second learner fences the first."""

import errno
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import msgspec
import numpy as np
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from prometheus_client import CollectorRegistry

from engine.generations import Generation, GenerationAssembler
from engine.online.checkpoint import write_checkpoint
from streams import learner as learner_module
from streams.errors import StartError
from streams.files.event_files import open_events
from streams.instruments import LearnerInstruments
from streams.kafka.topic_setup import ensure_topics
from streams.learner import LearnerRole, _told
from streams.learning.publisher import FencedError, Publisher
from streams.local.local_broker import LocalBroker
from streams.records import Example, ExampleHistory, Exposure, Outcome, Shown, encode
from streams.settings import Settings
from tests.builders import NOON, interaction

pytestmark = pytest.mark.integration
DEADLINE_SECONDS = 30.0


@pytest.fixture
def settings(broker: LocalBroker, tmp_path: Path) -> Settings:
    settings = Settings(
        broker=broker.address,
        prefix=f"{uuid4().hex[:8]}.",
        data_dir=tmp_path,
        learner={"preset": "tiny", "generation_seconds": 0.2, "checkpoint_seconds": 0.2},
    )
    ensure_topics(settings)
    return settings


class Running:
    """A learner in a thread of its own, as the role's process would run it."""

    def __init__(self, settings: Settings) -> None:
        self.instruments = LearnerInstruments(CollectorRegistry())
        self.role = LearnerRole(settings, self.instruments)
        self.failure: BaseException | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def learned(self) -> float:
        return self.instruments.examples._value.get()

    def wait_until_learned(self, outcomes: int) -> None:
        poll(lambda: self.learned() >= outcomes)

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()
        self.role.close()

    def wait_until_ended(self) -> None:
        self._thread.join(DEADLINE_SECONDS)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        try:
            self.role.run(self._stop)
        except BaseException as exc:  # noqa: BLE001 - looked at by the test
            self.failure = exc


def poll(holds: Callable[[], bool], seconds: float = DEADLINE_SECONDS) -> None:
    waited = threading.Event()
    for _ in range(int(seconds / 0.02)):
        if holds():
            return
        waited.wait(0.02)
    raise AssertionError("it did not happen in time")


def example(user: str, history: Sequence[str], outcomes: Sequence[tuple[str, int]]) -> bytes:
    times = [1_700_000_000_000 + 60_000 * place for place in range(len(history))]
    return encode(
        Example(
            user,
            0,
            ExampleHistory(list(history), [4] * len(history), times),
            [Outcome(item, 4, 1_700_000_900_000, offset) for item, offset in outcomes],
            0,
        )
    )


class Sender:
    def __init__(self, settings: Settings) -> None:
        self._prefix = settings.prefix
        self._producer = Producer({"bootstrap.servers": settings.broker, "log_level": 2, "enable.idempotence": True})
        self._rows: set[str] = set()
        self._offset = 0

    def send(self, user: str, history: Sequence[str], *items: str) -> bytes:
        for item in {*history, *items} - self._rows:
            self._producer.produce(self._prefix + "rows", b"{}", item, 0)
            self._rows.add(item)
        assert self._producer.flush(10) == 0
        value = example(user, history, [(item, self._offset + at) for at, item in enumerate(items)])
        self._offset += len(items)
        self.again(value)
        return value

    def again(self, value: bytes) -> None:
        self._producer.produce(self._prefix + "examples", value, b"u", 0)
        assert self._producer.flush(10) == 0


def generations(settings: Settings, slot: str = "champion") -> Iterator[Generation]:
    consumer = Consumer(
        {"bootstrap.servers": settings.broker, "log_level": 2, "group.id": "t", "isolation.level": "read_committed",
         "enable.partition.eof": True}
    )  # fmt: skip
    consumer.assign([TopicPartition(settings.topics.weights, 0, 0)])
    assembler = GenerationAssembler(slot)
    while True:
        (message,) = consumer.consume(1, DEADLINE_SECONDS)
        if message.error():
            break
        found = assembler.feed(message.key().decode(), message.value())
        if found:
            yield found
    consumer.close()


def test_an_outcome_sent_twice_is_learned_once(settings: Settings) -> None:
    running, sender = Running(settings), Sender(settings)
    sender.again(sender.send("u1", ["a", "b"], "c", "d"))
    sender.send("u2", ["a"], "b")
    running.wait_until_learned(3)
    running.stop()
    assert running.failure is None
    assert running.learned() == 3
    assert running.instruments.skipped._value.get() == 2


def test_outcomes_of_a_batch_are_all_learned_although_their_offsets_interleave(settings: Settings) -> None:
    running, sender = Running(settings), Sender(settings)
    sender.send("u1", ["a"], "b")
    outcomes = {"u1": [("c", 5), ("d", 9)], "u2": [("a", 6)], "u3": [("a", 7), ("b", 8)]}
    for item in ("c", "d"):
        sender.send("u0", [], item)  # a row for each
    for user, its in outcomes.items():
        sender.again(example(user, ["a"], its))
    running.wait_until_learned(8)
    running.stop()
    assert running.role._source.ledgers[0].taken == 8


def test_a_restart_goes_on_where_it_was_with_rising_generations(settings: Settings) -> None:
    first, sender = Running(settings), Sender(settings)
    for at in range(5):
        sender.send(f"u{at}", ["a"], "b")
    first.wait_until_learned(5)
    first.stop()
    before = [generation.generation for generation in generations(settings)]
    second = Running(settings)
    sender.send("u9", ["a"], "b")
    second.wait_until_learned(1)
    second.stop()
    assert second.learned() == 1
    assert second.role._learner.outcomes == 6
    after = [generation.generation for generation in generations(settings)]
    assert after == list(range(after[0], after[-1] + 1))
    assert after[-1] > before[-1]


def test_checkpoints_that_take_long_are_written_less_often(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    role, clock = LearnerRole(settings, LearnerInstruments(CollectorRegistry())), iter([100.0, 100.005, 200.0, 203.0])
    monkeypatch.setattr(learner_module, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    assert [role._checkpoint().result() - end for end in (100.005, 203.0)] == pytest.approx([0.2, 60.0])
    role.close()


def test_learning_goes_on_while_a_checkpoint_is_written_and_a_restart_goes_on_from_when_it_was_begun(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = threading.Event(), threading.Event()
    held: list[int] = []

    def slowly(path: Path, state: dict[str, Any]) -> None:
        if state["learner"]["state"]["outcomes"] >= 2 and not held:
            held.append(state["learner"]["state"]["outcomes"])
            begun.set()
            assert go_on.wait(DEADLINE_SECONDS)
            write_checkpoint(path, state)  # no later one is: as if the learner had died

    monkeypatch.setattr(learner_module, "write_checkpoint", slowly)
    first, sender = Running(settings), Sender(settings)
    sender.send("u0", ["a"], "b", "c")
    assert begun.wait(DEADLINE_SECONDS)
    before = first.instruments.generations._value.get()
    for at in range(1, 4):
        sender.send(f"u{at}", ["a"], "b")
    first.wait_until_learned(5)
    poll(lambda: first.instruments.generations._value.get() > before)
    go_on.set()
    first.stop()
    assert first.failure is None
    second = Running(settings)
    second.wait_until_learned(5 - held[0])
    second.stop()
    assert held == [2]
    assert second.learned() == 3
    assert second.role._source.ledgers[0].taken == second.role._learner.outcomes == 5


def test_a_checkpoint_for_which_there_is_no_room_ends_the_learner(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(learner_module, "write_checkpoint", full)
    running = Running(settings)
    running.wait_until_ended()
    running.role.close()
    with pytest.raises(StartError, match=f"The disk of {settings.data_dir} is full"), _told(settings):
        raise running.failure or AssertionError


def test_what_is_published_is_what_the_learner_holds(settings: Settings) -> None:
    running, sender = Running(settings), Sender(settings)
    for at in range(20):
        sender.send(f"u{at}", ["a", "b"], "c")
    running.wait_until_learned(20)
    running.stop()
    tables: dict[str, np.ndarray] = {}
    for generation in generations(settings):
        for name, change in generation.tables.items():
            table = np.zeros((generation.rows, *change.values.shape[1:]), change.values.dtype)
            table[: len(tables.get(name, ()))] = tables.get(name, table[:0])
            table[change.rows_U] = change.values
            tables[name] = table
    own = running.role._learner.weights().tables
    published_rows = len(tables["popularity"])
    assert tables["popularity"].sum() > 0
    for name, table in tables.items():
        np.testing.assert_array_equal(table, own[name][:published_rows])


def test_a_file_of_the_past_is_learned_before_the_stream(settings: Settings, tmp_path: Path) -> None:
    path = tmp_path / "past.jsonl"
    events = [
        interaction(event_id=f"e{n}", user_id=f"u{n % 3}", item_id=f"i{n % 7}", timestamp=NOON + n) for n in range(60)
    ]
    path.write_bytes(b"\n".join(map(encode, events)))
    role = LearnerRole(settings, LearnerInstruments(CollectorRegistry()))
    file, columns = open_events(str(path))
    assert role.backfill(file, columns, until_line=40) == 40
    assert role.backfill(file, columns, until_line=40) == 0
    role.close()
    published = [*generations(settings)][-1]
    assert published.rows == 8
    assert published.tables["popularity"].values.sum() > 30
    after = Running(settings)
    assert after.role._learner.outcomes == 40
    after.stop()
    again = LearnerRole(settings, LearnerInstruments(CollectorRegistry()))
    renamed = path.rename(tmp_path / "renamed.jsonl")
    assert again.backfill(renamed, columns, until_line=None) == 20  # B.3: at every start it learned the file again
    again.close()


def test_an_example_that_does_not_decode_is_counted_and_passed_over(settings: Settings) -> None:
    running, sender = Running(settings), Sender(settings)
    sender.again(b"{not json")
    sender.send("u1", ["a"], "b")
    running.wait_until_learned(1)
    running.stop()
    assert running.instruments.rejected.labels("undecodable")._value.get() == 1


def test_a_second_learner_fences_the_first(settings: Settings) -> None:
    first, sender = Running(settings), Sender(settings)
    sender.send("u1", ["a"], "b")
    first.wait_until_learned(1)
    Publisher(settings)
    sender.send("u1", ["a", "b"], "c")
    first.wait_until_ended()
    assert isinstance(first.failure, FencedError)
    first.role.close()


def test_an_exposure_that_comes_twice_is_learned_once_and_a_late_one_too(settings: Settings) -> None:
    running, sender = Running(settings), Sender(settings)
    sender.send("u0", [], "a", "b", "c")
    choices: list[int] = []
    observe = running.role._learner.observe
    running.role._learner.observe = lambda examples: choices.append(len(examples.choices)) or observe(examples)  # type: ignore[method-assign]
    shown = Exposure("m1", NOON, Shown("b", 1), [Shown("c", 2)], offset=10)
    outcome = Outcome("b", 4, NOON, 10)
    joined = Example("u1", 0, ExampleHistory(["a"], [4], [NOON]), [outcome], 0, [shown])
    late = Exposure("m2", NOON, Shown("b", 1), [Shown("c", 2)])
    after = Example("u1", 0, ExampleHistory(["a"], [4], [NOON]), [], 0, [late])
    again = msgspec.structs.replace(after, shown=[late, msgspec.structs.replace(shown, offset=-1)])
    for value in (joined, joined, after, again):
        sender.again(encode(value))
    sender.send("u2", ["a"], "b")
    running.wait_until_learned(5)
    running.stop()
    assert running.failure is None
    assert sum(choices) == 2
