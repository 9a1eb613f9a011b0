"""A slow Triton slows the worker and loses nothing; a topic replayed into a fresh state gives the same histories."""

import json
import os
import subprocess
import time
from hashlib import sha256
from pathlib import Path

import psutil
import pytest

from streams.local.local_broker import LocalBroker
from streams.local.local_triton import LocalTriton
from streams.state.entries import Entry
from streams.state.user_state import decode_state
from tests.integration.real_worker import COMMAND, Cable, Deployment, deployment, now_ms, until

pytestmark = pytest.mark.integration

CHANGELOG = "workers-histories-changelog"
MEBIBYTE = 2**20


def histories(real: Deployment) -> dict[str, list[Entry]]:
    """Return what the changelog says of each user in the end."""
    newest = {message.key().decode(): message.value() for message in real.topic(CHANGELOG).drain(1.0)}
    return {user: decode_state(value).history() for user, value in newest.items()}


def digest(real: Deployment) -> str:
    return sha256(json.dumps(histories(real), sort_keys=True).encode()).hexdigest()


def test_while_triton_is_slow_memory_stays_flat_and_lag_is_seen_and_nothing_is_dropped(
    broker: LocalBroker, triton: LocalTriton, tmp_path: Path
) -> None:
    users, events, blob = 800, 24_000, "x" * 4000  # 100 MB, where the worker may hold 2 MB a batch
    cable = Cable(triton.address)
    settings = {
        "HEADRACE_TRITON__URL": cable.address,
        "HEADRACE_TRITON__TIMEOUT_MS": "30000",
        "HEADRACE_SERVING__DEADLINE_MS": "60000",
    }
    with deployment(broker.address, tmp_path, **settings) as real:
        worker = real.start()
        until(lambda: worker.recommended("nobody")["rung"] == "triton")
        process = psutil.Process(worker.child.pid)
        before = process.memory_info().rss
        cable.delay_seconds = 0.15
        began = now_ms()
        for number in range(events):
            event = {
                "event_id": f"e{number}",
                "user_id": f"u{number % users}",
                "item_id": f"i{number % 50}",
                "type": "click",
                "timestamp": began,
                "context": {"blob": blob},
            }
            real.queue("interactions", str(event["user_id"]), event)
        real.flush()
        lag = until(lambda: worker.metric("headrace_consumer_lag_records", topic=f"{real.prefix}interactions"))
        assert lag > events / 10
        folded = worker.metric("headrace_interactions_total")
        assert folded < events, "the worker ran ahead of its answers"
        grown = process.memory_info().rss - before
        assert grown < 120 * MEBIBYTE
        cable.delay_seconds = 0.0
        until(lambda: worker.metric("headrace_interactions_total") == events, 60)
        answered = real.topic("recommendations")
        last = {f"u{number % users}": number for number in range(events)}
        until(lambda: {message.key().decode() for message in answered.drain(0.1)} == set(last), 60)
        assert worker.metric("headrace_recommendations_total") == worker.metric(
            "headrace_recommendations_total", rung="triton"
        )
        kept = histories(real)
        assert {user: len(history) for user, history in kept.items()} == dict.fromkeys(last, events // users)


def test_a_replayed_topic_gives_the_same_histories(broker: LocalBroker, tmp_path: Path) -> None:
    with deployment(broker.address, tmp_path / "live") as live, deployment(broker.address, tmp_path / "again") as again:
        live.start()
        began = now_ms()
        for number in range(600):  # some come late, some twice, some cannot be accepted
            event = {
                "event_id": f"e{number}",
                "user_id": f"u{number % 40}",
                "item_id": f"i{number % 13}",
                "type": "click" if number % 11 else "teleport",
                "timestamp": began - (number * 7919) % 100_000,
            }
            for _ in range(1 + (number % 9 == 0)):
                live.queue("interactions", str(event["user_id"]), event)
        live.flush()
        position = live.click("last", "i1")
        live.workers[0].history("last", position)
        until(lambda: sum(map(len, histories(live).values())) == 600 - 55 + 1)
        command = [*COMMAND, "replay", "--topic", f"{live.prefix}interactions", "--speed", "max"]
        environment = {**os.environ, "HEADRACE_BROKER": broker.address, "HEADRACE_PREFIX": again.prefix}
        since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(began / 1000 - 60))
        replayed = subprocess.run([*command, "--from", since], env=environment, check=False, timeout=60)
        assert replayed.returncode == 1  # those that no worker accepts are counted, and not sent
        again.start()
        until(lambda: digest(again) == digest(live))
