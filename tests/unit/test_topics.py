"""Each topic is kept as its readers need it; one that is not stops the start, named, with what to do."""

from pathlib import Path

import pytest

from streams.errors import StartError
from streams.kafka.topic_check import Cluster, TopicState, judged, risks
from streams.kafka.topic_setup import check_topics, ensure_topics
from streams.settings import KafkaSettings, Settings
from streams.topics import BY_USER, CHANGELOG, SPECS

SPEC = {spec.name: spec for spec in SPECS}
SETTINGS = Settings()


def found(
    name: str, partitions: int | None, config: dict[str, str] | None = None, *, others: int = 4, brokers: int = 1,
    replicas: int = 1,
) -> TopicState:  # fmt: skip
    """Return what is found of a topic that exists with so many partitions, interactions with `others`."""
    spec = SPEC[name]
    existing = {"headrace.interactions": others}
    if partitions:
        existing[f"headrace.{name}"] = partitions
    cluster = Cluster(brokers, existing, dict.fromkeys(existing, replicas))
    return judged(SETTINGS, spec, cluster, spec.config | (config or {}), created=False)


def test_topics_of_a_user_share_their_partitions_and_logs_of_one_order_have_one() -> None:
    assert {name for name, spec in SPEC.items() if spec.partitions == BY_USER} == {
        "interactions", "impressions", "requests", "recommendations", "examples", CHANGELOG,
    }  # fmt: skip
    assert {spec.partitions for spec in SPECS} == {BY_USER, 1}


def test_rows_are_never_compacted_and_never_expire() -> None:
    """An item's row is its rank in that log: a record gone is every later item's row moved."""
    assert SPEC["rows"].config == {"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1"}


def test_dead_letters_take_a_record_that_is_larger_than_any_other_topic_takes() -> None:
    assert int(SPEC["dead-letters"].config["max.message.bytes"]) >= 16 * 2**20


@pytest.mark.parametrize("name", list(SPEC))
def test_a_topic_as_it_was_created_fits(name: str) -> None:
    assert found(name, SPEC[name].partitions or 4).problem is None


@pytest.mark.parametrize(
    ("state", "said"),
    [
        (found("requests", None), "headrace topics"),
        (found("requests", 3), "3 partitions"),
        (found("rows", 2), "must have 1"),
        (found("rows", 1, {"cleanup.policy": "compact"}), "cleanup.policy is compact, not delete"),
        (found("rows", 1, {"retention.ms": "604800000"}), "retention.ms is 604800000, not -1"),
        (found("weights", 1, {"cleanup.policy": "delete"}), "cleanup.policy is delete, not compact"),
        # B.5: a compacted topic of events keeps one event a user; eight partitions hold other users than four.
        (found("impressions", 4, {"cleanup.policy": "compact"}), "cleanup.policy is compact, not delete"),
        (found(CHANGELOG, 4, others=8), "`headrace replay --topic headrace.interactions --as-history`"),
        (found(CHANGELOG, 4, others=8), "states of users in 4 partitions, and headrace.interactions has 8 now"),
    ],
)
def test_a_topic_that_does_not_fit_stops_the_start(state: TopicState, said: str) -> None:
    with pytest.raises(StartError) as stopped:
        check_topics([found("interactions", 4), state])
    assert state.name in str(stopped.value)
    assert said in str(stopped.value)


def test_as_many_partitions_as_interactions_has_are_right_whatever_the_setting_says() -> None:
    assert found("requests", 16, others=16).problem is None


def test_the_states_that_users_would_be_parted_from_are_told_before_topics_that_only_need_more_partitions() -> None:
    """B.5: who makes the others equal first has nothing left to go back to."""
    names = [spec.name for spec in SPECS if spec.partitions == BY_USER]
    assert names[:2] == ["interactions", CHANGELOG]


@pytest.mark.parametrize(
    ("brokers", "replicas", "in_sync", "said"),
    [
        (1, 1, "1", None),
        (3, 1, "1", "HEADRACE_KAFKA__REPLICATION_FACTOR"),
        (3, 3, "1", "min.insync.replicas is 1"),
        (3, 3, "2", None),
        (3, 2, "1", "min.insync.replicas is 1"),
    ],
)
def test_what_a_lost_broker_takes_with_it_is_told_where_there_is_more_than_one(
    brokers: int, replicas: int, in_sync: str, said: str | None
) -> None:
    """B.7: replication 1 and no min.insync.replicas went without a word."""
    config = {"min.insync.replicas": in_sync}
    states = [found(name, 4, config, brokers=brokers, replicas=replicas) for name in ("interactions", "requests")]
    told = risks(states)
    assert len(told) == (1 if said else 0)
    for sentence in told:
        assert sentence.startswith("headrace.interactions, headrace.requests: ")
        assert said
        assert said in sentence
    check_topics(states)


def test_a_certificate_that_is_none_stops_the_start_with_what_to_correct(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")
    kafka = KafkaSettings(security_protocol="SSL", ssl_cafile=tmp_path / "ca.pem")
    with pytest.raises(StartError, match=r"ssl.ca.location .*HEADRACE_KAFKA__"):
        ensure_topics(Settings(kafka=kafka))
