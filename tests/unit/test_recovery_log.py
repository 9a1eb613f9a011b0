"""Recovery says every five seconds, and at its end, how many records each partition has and how fast they come."""

from typing import Any

from structlog.testing import capture_logs

from streams.state.recovery_log import RecoveryLog


def line(event: str, partition: int, records: int, records_per_second: int) -> dict[str, Any]:
    fields = {"partition": partition, "records": records, "records_per_second": records_per_second}
    return {"event": event, "log_level": "info", **fields}


def test_each_partition_says_its_records_and_rate_every_five_seconds_and_at_the_end() -> None:
    now = 100.0
    log = RecoveryLog(lambda: now)
    with capture_logs() as said:
        for second in range(7):
            now = 101.0 + second
            log.add(1, 2000, now - 1)
        log.add(0, 500, now - 0.5)
        assert said == [line("partition_recovering", 1, 10_000, 2000)]
        log.end()
    assert said[1:] == [line("partition_recovered", 0, 500, 1000), line("partition_recovered", 1, 14_000, 2000)]


def test_the_next_recovery_counts_from_nothing() -> None:
    now = 10.0
    log = RecoveryLog(lambda: now)
    log.add(0, 100, 9.0)
    log.end()
    with capture_logs() as said:
        now = 20.0
        log.add(0, 30, 19.0)
        log.end()
        log.end()
    assert said == [line("partition_recovered", 0, 30, 30)]
