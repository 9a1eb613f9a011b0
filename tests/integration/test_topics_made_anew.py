"""A.9, B.2, B.5: a topic that was made anew, a Kafka that was emptied, more partitions: noticed, said, and mended."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
import stamina
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions

from streams.commands.reset import reset
from streams.errors import StartError
from streams.kafka.identity import identities
from streams.kafka.origins import parted
from streams.kafka.topic_guard import TopicGuard
from streams.kafka.topic_setup import check_topics, ensure_topics
from streams.learning.learned_topics import LearnedTopics
from streams.local.local_broker import LocalBroker
from streams.settings import KafkaSettings, Settings
from streams.topics import CHANGELOG, SPECS
from tests.integration.real_worker import COMMAND, Deployment, deployment, until

pytestmark = pytest.mark.integration


@pytest.fixture
def settings(broker: LocalBroker, tmp_path: Path) -> Settings:
    made = Settings(broker=broker.address, prefix=f"{uuid4().hex[:8]}.", data_dir=tmp_path)
    (tmp_path / "worker-1" / "v1").mkdir(parents=True)
    (tmp_path / "worker-1" / "worker.lock").touch()
    ensure_topics(made)
    guard(made).check()
    LearnedTopics(made)
    return made


def guard(settings: Settings) -> TopicGuard:
    return TopicGuard(settings, settings.data_dir / "worker-1")


def anew(settings: Settings) -> Settings:
    """Return the settings of who makes anew what must be."""
    return settings.model_copy(update={"kafka": KafkaSettings(on_new_topics="anew")})


def delete(settings: Settings, *names: str) -> None:
    """Delete topics, and make them again."""
    admin = AdminClient({"bootstrap.servers": settings.broker, "log_level": 2})
    before = {name: found.topic_id for name, found in identities(settings, names).items()}
    for future in admin.delete_topics([settings.topics.named(name) for name in names], operation_timeout=10).values():
        future.result(10)
    for attempt in stamina.retry_context(on=(StartError, AssertionError), timeout=20, wait_max=0.2):
        with attempt:
            ensure_topics(settings)
            now = identities(settings, names)
            assert all(now[name].topic_id != topic_id for name, topic_id in before.items())


def commit(settings: Settings, partition: int, offset: int) -> None:
    consumer = Consumer({"bootstrap.servers": settings.broker, "group.id": settings.topics.workers, "log_level": 2})
    consumer.commit(offsets=[TopicPartition(settings.topics.interactions, partition, offset)], asynchronous=False)
    consumer.close()


def test_topics_as_they_were_are_nothing_to_say(settings: Settings) -> None:
    guard(settings).check()
    LearnedTopics(settings)
    delete(settings, "requests", "recommendations", "items")
    guard(settings).check()


@pytest.mark.parametrize("name", ["interactions", "impressions"])
def test_events_of_a_new_life_are_not_taken_for_those_of_the_old(settings: Settings, name: str) -> None:
    delete(settings, name)
    with pytest.raises(StartError, match=rf"{name} was made anew.*`headrace reset --state`"):
        guard(settings).check()
    with pytest.raises(StartError, match="was made anew"):  # also who comes with an empty disk
        TopicGuard(settings, settings.data_dir / "another").check()
    before = identities(settings, [CHANGELOG])
    assert reset(settings, tables=False, state=True, model=False, yes=True) == 0
    assert identities(settings, [CHANGELOG]) != before
    assert not (settings.data_dir / "worker-1" / "v1").exists()
    guard(settings).check()


def test_a_kafka_that_was_emptied_is_told_from_the_one_whose_states_are_on_disk(settings: Settings) -> None:
    delete(settings, *(spec.name for spec in SPECS))
    with pytest.raises(StartError, match=r"copies of another .*`headrace reset --tables`"):
        guard(settings).check()
    assert reset(settings, tables=True, state=False, model=False, yes=True) == 0
    guard(settings).check()


def test_when_told_so_a_worker_begins_anew_by_itself(settings: Settings) -> None:
    delete(settings, "interactions")
    guard(anew(settings)).check()
    assert not (settings.data_dir / "worker-1" / "v1").exists()
    guard(settings).check()


def test_rows_made_anew_stop_everything_while_the_weights_stay(settings: Settings) -> None:
    learned = LearnedTopics(settings).ids
    delete(settings, "rows")
    for start in (guard(settings).check, lambda: LearnedTopics(settings)):
        with pytest.raises(StartError, match=r"rows was made anew.*`headrace reset --model`"):
            start()
    with pytest.raises(StartError, match="rows was made anew"):
        guard(anew(settings)).check()  # it is the learner who makes the weights anew
    checkpoint = settings.data_dir / "learner" / "checkpoint"
    checkpoint.parent.mkdir()
    checkpoint.touch()
    topics = LearnedTopics(anew(settings))
    assert not topics.have_the_rows(learned, checkpoint)
    assert not checkpoint.exists()
    assert (checkpoint.parent / "before-1" / "checkpoint").exists()
    guard(settings).check()


def test_a_checkpoint_of_other_rows_is_refused_and_one_of_other_events_keeps_its_model(settings: Settings) -> None:
    topics = LearnedTopics(settings)
    checkpoint = settings.data_dir / "learner" / "checkpoint"
    with pytest.raises(StartError, match=r"another .*rows than this one"):
        topics.have_the_rows({**topics.ids, "rows": "of another Kafka"}, checkpoint)
    assert topics.have_the_rows({**topics.ids, "examples": "before"}, checkpoint)
    assert not topics.have_the_positions({**topics.ids, "examples": "before"})
    assert topics.have_the_positions(topics.ids)
    assert topics.have_the_positions({})  # of a release that remembered none


def test_a_learner_notices_rows_that_are_made_anew_while_it_runs(settings: Settings) -> None:
    topics = LearnedTopics(settings)
    topics.refuse_change()
    delete(settings, "rows", "weights")
    with pytest.raises(StartError, match="rows was made anew while the learner ran"):
        topics.refuse_change()


def test_a_partition_that_ends_before_what_was_read_has_lost_its_end(settings: Settings) -> None:
    commit(settings, 2, 0)
    guard(settings).check()
    commit(settings, 2, 5)
    with pytest.raises(StartError, match=r"Partition 2 of .*interactions ends at 0.*read up to 5"):
        guard(settings).check()
    guard(anew(settings)).check()
    guard(settings).check()


def test_more_partitions_than_yesterday_part_users_from_their_states(settings: Settings) -> None:
    names = [spec.name for spec in SPECS if not spec.partitions]
    admin = AdminClient({"bootstrap.servers": settings.broker, "log_level": 2})

    def widen(name: str) -> None:
        admin.create_partitions([NewPartitions(settings.topics.named(name), 8)])[settings.topics.named(name)].result(10)
        until(lambda: identities(settings, [name])[name].partitions == 8)

    widen("interactions")
    with pytest.raises(StartError, match=r"states of users in 4 partitions.*`headrace replay --topic"):
        check_topics(ensure_topics(settings))
    for name in names:
        if name != "interactions":
            widen(name)
    check_topics(ensure_topics(settings))
    with pytest.raises(StartError, match="states of users in 4 partitions"):  # it is remembered
        guard(settings).check()
    guard(anew(settings)).check()
    assert parted(settings, CHANGELOG) is None


@pytest.fixture
def real(broker: LocalBroker, tmp_path: Path) -> Iterator[Deployment]:
    with deployment(broker.address, tmp_path) as made:
        yield made


def test_a_worker_says_it_and_ends_and_makes_anew_what_it_is_told_to(real: Deployment) -> None:
    worker = real.start()
    for item in ("i1", "i2", "i3"):
        position = real.click("u1", item)
    assert worker.history("u1", position) == ["i1", "i2", "i3"]
    elsewhere = real.settings.model_copy(update={"data_dir": real.folder / "another machine"})
    for settings, said in ((real.settings, "A worker is running on"), (elsewhere, "stop all workers first")):
        with pytest.raises(StartError, match=said):
            reset(settings, tables=False, state=True, model=False, yes=True)
    worker.child.stop()
    delete(real.settings, "interactions")
    environment = dict(worker.environment)
    done = subprocess.run(
        [*COMMAND, "worker"], env=environment, capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 1
    assert done.stderr.count("was made anew") == 1
    assert "Traceback" not in done.stderr
    worker.environment = {**worker.environment, "HEADRACE_KAFKA__ON_NEW_TOPICS": "anew"}
    worker.come_back()
    # It is at the offset that i1 had: by the states of before it would have been read already.
    assert worker.history("u1", real.click("u1", "i4")) == ["i4"]
