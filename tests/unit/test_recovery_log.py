"""Recovery says every five seconds, and at its end, how many records each partition has, and how long all took."""

from typing import Any

from structlog.testing import capture_logs

from streams.state.recovery_log import RecoveryLog


def line(event: str, partition: int, records: int, records_per_second: int) -> dict[str, Any]:
    fields = {"partition": partition, "records": records, "records_per_second": records_per_second}
    return {"event": event, "log_level": "info", **fields}


def ready(partitions: list[int], seconds: float) -> dict[str, Any]:
    return {"event": "partitions_ready", "log_level": "info", "partitions": partitions, "seconds": seconds}


def test_each_partition_says_its_records_and_rate_every_five_seconds_and_at_the_end() -> None:
    now = 100.0
    log = RecoveryLog(lambda: now)
    with capture_logs() as said:
        for second in range(7):
            now = 101.0 + second
            log.add(1, 2000, now - 1)
        log.add(0, 500, now - 0.5)
        assert said == [line("partition_recovering", 1, 10_000, 2000)]
        log.end([1, 0])
    recovered = [line("partition_recovered", 0, 500, 1000), line("partition_recovered", 1, 14_000, 2000)]
    assert said[1:] == [*recovered, ready([0, 1], 7.0)]


def test_the_next_recovery_counts_from_nothing() -> None:
    now = 10.0
    log = RecoveryLog(lambda: now)
    log.add(0, 100, 9.0)
    log.end([0])
    with capture_logs() as said:
        now = 18.5
        log.begin()
        now = 20.0
        log.add(0, 30, 19.0)
        log.end([0])
    assert said == [line("partition_recovered", 0, 30, 30), ready([0], 1.5)]


def test_what_a_recovery_that_was_cut_short_had_counted_is_forgotten() -> None:
    log = RecoveryLog(lambda: 10.0)
    log.add(0, 100, 9.0)
    log.begin()
    with capture_logs() as said:
        log.end([])
    assert said == [ready([], 0.0)]
