"""Every line of a log has one form, the libraries' own lines too."""

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

from structlog.testing import capture_logs

from streams.logs import KafkaChatter

CODE = """
import logging, structlog
from streams.logs import configure_logs
from streams.settings import LogSettings
configure_logs(LogSettings(format="json"))
structlog.get_logger().info("ours", number=1)
logging.getLogger("aiokafka").warning("cannot reach %s", "node 1")
"""


def test_json_lines_are_json_whoever_writes_them() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True, env=os.environ)
    ours, theirs = map(json.loads, done.stderr.splitlines())
    assert (ours["event"], ours["level"], ours["number"]) == ("ours", "info", 1)
    assert (theirs["event"], theirs["level"], theirs["logger"]) == ("cannot reach node 1", "warning", "aiokafka")
    assert ours["timestamp"] <= theirs["timestamp"]


def line(name: str, said: str) -> logging.LogRecord:
    return logging.LogRecord(name, logging.ERROR, "client.py", 1, said, (), None)


def test_a_broker_that_is_away_is_one_line_in_half_a_minute() -> None:
    now = 0.0
    chatter = KafkaChatter(lambda: now)
    refused = line("aiokafka", "Unable connect to node with id 1: [Errno 111] Connect call failed ('127.0.0.1', 9092)")
    others = [
        line("aiokafka", "Unable to update metadata from [1]"),
        line("aiokafka.consumer.fetcher", "Failed fetch messages from 1: NodeNotReadyError: node which is not ready"),
        line("aiokafka.consumer.group_coordinator", "Marking the coordinator dead (node 1)for group headrace.workers."),
        line("kafka.net.manager", "Connection failed: KafkaConnectionError: 111 ECONNREFUSED"),
        line("kafka.cluster", "No node available for metadata refresh - backoff/retry"),
    ]
    with capture_logs() as written:
        for now in (0.0, 1.0, 29.0, 31.0):  # noqa: B007 - the clock's
            assert not [record for record in (refused, *others) if chatter.filter(record)]
    assert [(entry["event"], entry["log_level"]) for entry in written] == [("kafka_away", "warning")] * 2
    assert written[0]["why"] == refused.getMessage()


def test_what_a_kafka_client_says_of_anything_else_is_not_lost() -> None:
    chatter = KafkaChatter()
    for said in ("Heartbeat failed: GroupAuthorizationFailedError()", "Topic t is not authorized for this client"):
        assert chatter.filter(line("aiokafka.consumer.group_coordinator", said))
    assert chatter.filter(line("uvicorn.error", "connect"))
    assert not chatter.filter(line("aiokafka.consumer", "Heartbeat failed for group g because it is rebalancing"))


def test_the_moment_in_which_a_new_topic_has_no_leader_is_no_warning() -> None:
    """In a process of its own: the hooks are the whole process's."""
    code = """
import stamina, structlog
from streams.logs import configure_logs
from streams.settings import LogSettings
configure_logs(LogSettings(format="json"))
for attempt in stamina.retry_context(on=ValueError, wait_initial=0.001, attempts=3):
    with attempt:
        if attempt.num < 3:
            raise ValueError
structlog.get_logger().info("done")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    assert [json.loads(line)["event"] for line in (done.stdout + done.stderr).splitlines()] == ["done"]


def test_a_log_on_a_full_disk_loses_lines_and_not_the_role() -> None:
    code = """
import logging, os, structlog
from streams.logs import configure_logs
from streams.settings import LogSettings
configure_logs(LogSettings())
structlog.get_logger().warning("ours")
logging.getLogger("aiokafka").error("Unable connect to node with id 1")
print("alive", flush=True)
os._exit(0)
"""
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=full, check=True)
    assert done.stdout == b"alive\n"
