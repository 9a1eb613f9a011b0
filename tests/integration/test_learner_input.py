"""What the learner meets on `examples`: any codec, any size, what retention took, and records that do harm."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType
from prometheus_client import CollectorRegistry

from engine.online.examples import Examples
from engine.online.guards import SpoiledError
from engine.online.prequential import OnlineLearner
from streams.errors import StartError
from streams.instruments import LearnerInstruments
from streams.kafka.topic_reader import reader, to_the_end
from streams.kafka.topic_setup import ensure_topics
from streams.learning import example_source
from streams.learning.role import LearnerRole
from streams.local.local_broker import LocalBroker
from streams.settings import Settings
from tests.integration.real_learner import Running, Sender, example, poll

pytestmark = pytest.mark.integration


@pytest.fixture
def settings(broker: LocalBroker, tmp_path: Path) -> Settings:
    settings = Settings(
        broker=broker.address,
        prefix=f"{uuid4().hex[:8]}.",
        data_dir=tmp_path,
        learner={"preset": "tiny", "generation_seconds": 0.2, "checkpoint_seconds": 0.2, "micro_batch": 64},
        kafka={"partitions": 1},
    )
    ensure_topics(settings)
    return settings


def client(settings: Settings) -> dict[str, Any]:
    return {"bootstrap.servers": settings.broker, "log_level": 2}


def rejected(running: Running, reason: str) -> float:
    return running.instruments.rejected.labels(reason)._value.get()


def dead_letters(settings: Settings) -> Iterator[dict[str, bytes]]:
    consumer = reader(client(settings), settings.topics.dead_letters)
    yield from (dict(record.headers()) for record in to_the_end(consumer))
    consumer.close()


def test_examples_in_every_codec_are_learned(settings: Settings) -> None:
    """A.5: by the producer's choice, and by the topic's: zstd, lz4 and snappy ended the learner."""
    running, sender, codecs = Running(settings), Sender(settings), ("gzip", "snappy", "lz4", "zstd")
    sender.send("u0", ["a"], *"bcdefgh")
    offsets = iter(range(100, 10_000))
    for codec in codecs:
        producer = Producer(client(settings) | {"compression.type": codec, "linger.ms": 50})
        for user in range(10):
            outcomes = [(item, next(offsets)) for item in "bcdefgh"]
            producer.produce(settings.topics.examples, example(f"{codec}{user}", ["a"] * 40, outcomes), b"u", 0)
        assert producer.flush(10) == 0
    running.wait_until_learned(7 + 4 * 10 * 7)
    admin = AdminClient(client(settings))  # held: its end would cancel what it has begun
    for codec in codecs:
        entry = ConfigEntry("compression.type", codec, incremental_operation=AlterConfigOpType.SET)
        resource = ConfigResource(ResourceType.TOPIC, settings.topics.examples, incremental_configs=[entry])
        admin.incremental_alter_configs([resource])[resource].result(20)
        sender.again(example(f"late {codec}", ["a"], [("b", next(offsets))]))
    running.wait_until_learned(7 + 4 * 10 * 7 + 4)
    running.stop()
    assert running.failure is None


def test_one_record_of_a_thousand_outcomes_is_learned_in_slices_and_once(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A.2: whatever `micro_batch` said, it was one step."""
    running, sender = Running(settings), Sender(settings)
    sizes: list[int] = []
    observe = running.role._learner.observe

    def counted(examples: Examples) -> Any:
        sizes.append(int(examples.is_outcome_T.sum()))
        return observe(examples)

    monkeypatch.setattr(running.role._learner, "observe", counted)
    items = [f"i{number % 30}" for number in range(1000)]
    sender.again(sender.send("u1", ["a"], *items))
    poll(lambda: running.instruments.skipped._value.get() == 1000)
    running.stop()
    assert sum(sizes) == 1000
    assert max(sizes) == 64
    assert running.instruments.skipped._value.get() == 1000
    assert running.role._source.ledgers[0].taken == 1000


def test_how_far_the_learner_is_behind_is_told_from_the_start_on(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """C.2: the gauge that an alert looks at was set nowhere."""
    monkeypatch.setattr(example_source, "_LAG_SECONDS", 0.0)
    sender, role = Sender(settings), LearnerRole(settings, instruments := LearnerInstruments(CollectorRegistry()))
    for user in range(5):
        sender.send(f"u{user}", ["a"], "b")
    lag = instruments.lag.labels("0")._value
    role._source.begin()
    assert lag.get() == 5
    poll(lambda: role._source.collect(role._batch(), 0.1) is False and lag.get() == 0)
    role.close()


def test_what_cannot_be_an_example_is_a_dead_letter_and_the_next_is_learned(settings: Settings) -> None:
    """A: each of these ended the learner at every start, or silenced it."""
    running, sender = Running(settings), Sender(settings)
    good = example("u1", ["a"], [("b", 5)])
    for value in (None, b"{not json", good.replace(b"u1", b"\xff"), good.replace(b":5", b":18446744073709551616")):
        sender.again(value)
    sender.send("u2", ["a"], "b")
    running.wait_until_learned(1)
    running.stop()
    assert running.failure is None
    found = list(dead_letters(settings))
    assert [letter["offset"] for letter in found] == [b"0", b"1", b"2", b"3"]
    assert {letter["topic"] for letter in found} == {settings.topics.examples.encode()}
    assert found[3]["field"] == b"offset"


def test_a_spoilt_step_is_taken_back_with_all_that_was_read_and_only_its_outcomes_are_left_out(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """B.7: what was learned since the checkpoint was forgotten, and its positions were kept."""
    running, sender = Running(settings), Sender(settings)
    learner, ledgers = running.role._learner, running.role._source.ledgers
    sender.send("u0", ["a"], "b", "c")
    running.wait_until_learned(2)
    poll(running.role._checkpoints.path.exists)
    monkeypatch.setattr(running.role._checkpoints, "due", lambda: False)  # what comes now is in none
    sender.send("u1", ["a", "b"], "c", "d", "e")
    running.wait_until_learned(5)
    observe, spoilt = learner.observe, []

    def spoil(examples: Examples) -> Any:
        scored = observe(examples)
        if int(examples.is_outcome_T.sum()) == 4 and not spoilt:
            spoilt.append(learner.outcomes)
            raise SpoiledError("the loss is nan")
        return scored

    monkeypatch.setattr(learner, "observe", spoil)
    generations = running.role._releases.generation
    sender.send("u2", ["a", "b"], "c", "d", "e", "a")
    poll(lambda: rejected(running, "spoilt") == 4)
    sender.send("u3", ["a"], "e")
    poll(lambda: (learner.outcomes, sum(each.taken for each in ledgers.values())) == (6, 10))
    running.stop()
    assert running.failure is None
    assert running.role._releases.generation > generations
    after = Running(settings)
    after.stop()
    assert after.role._learner.outcomes == 6
    assert after.learned() == 0


def test_a_record_on_which_learning_fails_is_found_and_named_and_the_others_are_learned(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A: a batch's failure is cut down to the record, which is a dead letter."""
    sender = Sender(settings)
    sender.send("u0", ["a"], "b", "c", "poison")
    for user in range(8):
        sender.send(f"u{user}", ["a"], "poison" if user == 5 else "b", "c")
    running = Running(settings)
    observe, [row] = running.role._learner.observe, running.role.rows.of(["poison"])

    def fail(examples: Examples) -> Any:
        first_T = examples.batch.positions_T == 1  # the first outcome of each of these users
        if (first_T & examples.is_outcome_T & (examples.batch.rows_T == row)).any():
            raise IndexError("index out of range in self")
        return observe(examples)

    monkeypatch.setattr(running.role._learner, "observe", fail)
    poll(lambda: rejected(running, "unlearnable") == 1 and running.role._learner.outcomes == 3 + 7 * 2)
    running.stop()
    assert running.failure is None
    [letter] = dead_letters(settings)
    assert (letter["reason"], letter["offset"]) == (b"unlearnable", b"6")


def test_a_record_that_kills_the_learner_is_left_out_at_the_third_start(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A: as of one that takes all memory; no exception says what it was."""

    class Killed(BaseException):
        """What no handler sees."""

    def die(_: OnlineLearner, __: Examples) -> Any:
        raise Killed

    sender = Sender(settings)
    sender.send("u0", ["a"], "poison")
    for _ in range(2):
        with monkeypatch.context() as patch:
            patch.setattr(OnlineLearner, "observe", die)
            running = Running(settings)
            running.wait_until_ended()
        running.role.close()
        assert isinstance(running.failure, Killed)
    sender.send("u1", ["a"], "b")
    third = Running(settings)
    third.wait_until_learned(1)
    third.stop()
    assert (third.failure, third.role._learner.outcomes) == (None, 1)
    [letter] = dead_letters(settings)
    assert (letter["reason"], letter["offset"]) == (b"unlearnable", b"0")


def test_a_learner_whose_own_state_is_broken_stops_and_blames_no_record(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    running, sender = Running(settings), Sender(settings)

    def fail(_: Examples) -> Any:
        raise RuntimeError("shapes differ")

    monkeypatch.setattr(running.role._learner, "observe", fail)
    for user in range(6):
        sender.send(f"u{user}", ["a"], "b")
    running.wait_until_ended()
    running.role.close()
    assert isinstance(running.failure, StartError)
    assert "Learning fails whatever is learned" in str(running.failure)
    after = Running(settings)
    after.wait_until_learned(6)
    after.stop()


def test_what_retention_took_is_counted_and_the_rest_is_learned(settings: Settings) -> None:
    """A.5's sibling: nothing is left out without a word, and nothing stops the learner for ever."""
    running, sender = Running(settings), Sender(settings)
    sender.send("u0", ["a"], "b")
    running.wait_until_learned(1)
    running.stop()
    for user in range(1, 6):
        sender.send(f"u{user}", ["a"], "b")
    place = TopicPartition(settings.topics.examples, 0, 4)
    admin = AdminClient(client(settings))
    admin.delete_records([place])[place].result(20)
    after = Running(settings)
    after.wait_until_learned(2)
    assert rejected(after, "expired") == 3
    consumer = after.role._source._consumer
    assert consumer
    consumer.seek(TopicPartition(settings.topics.examples, 0, 10_000))  # what retention does to one that runs
    sender.send("u7", ["a"], "b")
    after.wait_until_learned(3)
    after.stop()
    assert after.failure is None


def test_a_topic_that_ends_before_the_checkpoint_is_refused_in_a_sentence(settings: Settings) -> None:
    running = Running(settings)
    running.stop()
    running.role._source._consumer = None
    state = running.role._source.state() | {"positions": {0: 500}}
    running.role._source.restore(state)
    with pytest.raises(StartError, match=r"partition 0, ends at offset 0, and the learner has read up to 500"):
        running.role._source.begin()
