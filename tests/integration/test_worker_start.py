"""A worker that cannot start says why in one sentence that names what to change, and nothing else."""

import os
import subprocess
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient, NewPartitions

from streams.kafka.topic_setup import ensure_topics
from streams.local.local_broker import LocalBroker
from streams.local.processes import free_port
from streams.settings import Settings
from tests.integration.real_worker import COMMAND

pytestmark = pytest.mark.integration


def refused(folder: Path, **settings: str) -> str:
    """Start a worker that ends at once; return what it says."""
    environment = {
        **os.environ,
        "HEADRACE_BROKER": f"127.0.0.1:{free_port()}",
        "HEADRACE_DATA_DIR": str(folder),
        "HEADRACE_HTTP__PORT": str(free_port()),
        **settings,
    }
    done = subprocess.run(
        [*COMMAND, "worker"], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode not in {0, -6, -9, -11}
    said = done.stdout + done.stderr
    assert "Traceback" not in said
    return " ".join(said.split())


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"HEADRACE_COLOUR": "red"}, "HEADRACE_COLOUR"),
        ({"HEADRACE_SERVING__DEADLINE_MS": "soon"}, "HEADRACE_SERVING__DEADLINE_MS"),
        ({"HEADRACE_STATE__HISTORY_LENGTH": "0"}, "HEADRACE_STATE__HISTORY_LENGTH"),
        ({"HEADRACE_HTTP__HOST": "0.0.0.0"}, "HEADRACE_HTTP__TOKENS"),  # noqa: S104 - it is refused
        ({"HEADRACE_SERVING__K": "100", "HEADRACE_TRITON__CANDIDATES": "10"}, "HEADRACE_TRITON__CANDIDATES"),
    ],
)
def test_a_wrong_setting_stops_the_start_and_is_named(tmp_path: Path, settings: dict[str, str], named: str) -> None:
    assert named in refused(tmp_path, **settings)


def test_a_missing_broker_stops_the_start_and_says_what_to_do(tmp_path: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    said = refused(tmp_path, HEADRACE_BROKER=address)
    assert address in said
    assert "headrace broker" in said


def test_a_busy_port_stops_the_start_and_is_named(tmp_path: Path, broker: LocalBroker) -> None:
    prefix = "busy-port."
    ensure_topics(Settings(broker=broker.address, prefix=prefix))
    port = broker.address.rsplit(":", 1)[1]
    said = refused(tmp_path, HEADRACE_BROKER=broker.address, HEADRACE_PREFIX=prefix, HEADRACE_HTTP__PORT=port)
    assert port in said


def test_topics_that_do_not_fit_stop_the_start(tmp_path: Path, broker: LocalBroker) -> None:
    prefix = "misfit."
    ensure_topics(Settings(broker=broker.address, prefix=prefix, kafka={"partitions": 2}))  # type: ignore[arg-type]
    admin = AdminClient({"bootstrap.servers": broker.address, "log_level": 2})
    [done] = admin.create_partitions([NewPartitions(f"{prefix}requests", 3)]).values()
    done.result(20)
    assert f"{prefix}requests" in refused(tmp_path, HEADRACE_BROKER=broker.address, HEADRACE_PREFIX=prefix)


def test_a_worker_that_kafka_takes_into_no_group_ends_and_says_why(tmp_path: Path, broker: LocalBroker) -> None:
    """It stood there for ever, not ready: brokers allow no session below 6 s."""
    prefix = "short-session."
    settings = {"HEADRACE_PREFIX": prefix, "HEADRACE_KAFKA__SESSION_TIMEOUT_SECONDS": "3"}
    said = refused(tmp_path, HEADRACE_BROKER=broker.address, **settings)
    assert f"group {prefix}workers no more (InvalidSessionTimeoutError()); check HEADRACE_KAFKA__SESSION" in said
