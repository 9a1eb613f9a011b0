"""The learner on a real Kafka: each outcome is learned once, generations rise, a second learner fences the first."""

import errno
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
import numpy as np
import pytest
from confluent_kafka import Consumer, TopicPartition
from prometheus_client import CollectorRegistry

from engine.generations import Generation, GenerationAssembler
from engine.online.checkpoint import write_checkpoint
from streams.errors import StartError
from streams.files.event_files import open_events
from streams.instruments import LearnerInstruments
from streams.kafka.topic_setup import ensure_topics
from streams.learner import _told, learn_past
from streams.learning import checkpoints
from streams.learning.publisher import FencedError, Publisher
from streams.learning.role import LearnerRole
from streams.local.local_broker import LocalBroker
from streams.records import Example, ExampleHistory, Exposure, Outcome, Shown, encode
from streams.settings import Settings
from tests.builders import NOON, interaction
from tests.integration.real_learner import DEADLINE_SECONDS, Running, Sender, example, poll

pytestmark = pytest.mark.integration


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

    monkeypatch.setattr(checkpoints, "write_checkpoint", slowly)
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

    monkeypatch.setattr(checkpoints, "write_checkpoint", full)
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
    first = next(generations(settings))
    assert not first.tables["popularity"].values.any()  # C.1: by this a worker knows that nobody has trained it
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
    assert learn_past(role, settings, file, columns, 40) == 40
    assert learn_past(role, settings, file, columns, 40) == 0
    role.close()
    published = [*generations(settings)][-1]
    assert published.rows == 8
    assert published.tables["popularity"].values.sum() > 30
    after = Running(settings)
    assert after.role._learner.outcomes == 40
    after.stop()
    again = LearnerRole(settings, LearnerInstruments(CollectorRegistry()))
    renamed = path.rename(tmp_path / "renamed.jsonl")
    assert learn_past(again, settings, renamed, columns, None) == 20  # B.3: at every start it learned the file again
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
