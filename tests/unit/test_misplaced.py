"""B.4: a user of another partitioner lay where nobody looks, and the doctor said that all is well."""

from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from streams.instruments import WorkerInstruments
from streams.kafka.misplaced import Misplaced, partition_of
from streams.settings import Settings
from streams.state.batch_fold import BatchFold
from streams.state.user_states import UserStates
from tests.builders import NOON
from tests.unit.pipeline_bench import Table, event, kafka_record


def test_a_users_partition_is_that_of_kafkas_java_clients() -> None:
    # Computed by org.apache.kafka.common.utils.Utils.murmur2 & 0x7fffffff, of 1,000 partitions.
    assert [partition_of(key, 1000) for key in ("21", "foobar", "a-little-bit-long-string")] == [
        (-973932308 & 0x7FFFFFFF) % 1000,
        (-790332482 & 0x7FFFFFFF) % 1000,
        (-985981536 & 0x7FFFFFFF) % 1000,
    ]


def test_a_user_in_another_partition_is_counted_once_a_batch_and_folded_all_the_same() -> None:
    home = partition_of("u1", 4)
    for partition, misplaced in ((home, 0), ((home + 1) % 4, 1)):
        fold = BatchFold(Settings(), UserStates(Table([]), 10), {})
        batch = fold.fold(partition, [kafka_record(*event(number, user_id="u1")) for number in range(3)], NOON + 1000)
        assert batch.misplaced == misplaced
        assert batch.touched["u1"].state.count == 3


def test_it_is_counted_by_topic_and_said_once() -> None:
    registry = CollectorRegistry()
    misplaced = Misplaced(WorkerInstruments(registry))
    with capture_logs() as logs:
        for users in (0, 2, 3):
            misplaced.count("headrace.interactions", 1, users)
    assert registry.get_sample_value("headrace_misplaced_users_total", {"topic": "headrace.interactions"}) == 5
    [line] = logs
    assert "murmur2_random" in line["advice"]
