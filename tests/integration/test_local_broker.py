"""The local Kafka keeps its data over a restart, and tells in one sentence why it cannot start."""

import os
import shutil
import signal
import socket
import threading
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from streams.errors import StartError
from streams.local.local_broker import LocalBroker
from streams.local.processes import free_port, keep_running

pytestmark = pytest.mark.integration


def client(address: str) -> dict[str, str | int]:
    return {"bootstrap.servers": address, "log_level": 0, "reconnect.backoff.ms": 50, "reconnect.backoff.max.ms": 500}


def write(address: str, topic: str, values: list[bytes]) -> None:
    admin = AdminClient(client(address))
    admin.create_topics([NewTopic(topic, 1)])[topic].result(10)
    producer = Producer(client(address))
    for value in values:
        producer.produce(topic, value)
    assert producer.flush(10) == 0


def read(address: str, topic: str, count: int) -> list[bytes | None]:
    consumer = Consumer(client(address) | {"group.id": "unused"})
    consumer.assign([TopicPartition(topic, 0, OFFSET_BEGINNING)])
    values = [message.value() for message in consumer.consume(count, timeout=20)]
    consumer.close()
    return values


def test_what_was_written_survives_a_stop_and_a_kill(tmp_path: Path) -> None:
    kafka = LocalBroker(tmp_path / "kafka", free_port())
    with kafka:
        write(kafka.address, "kept", [b"one", b"two"])
    with kafka:
        assert read(kafka.address, "kept", 2) == [b"one", b"two"]
        write(kafka.address, "also-kept", [b"three"])
        assert kafka.pid
        os.kill(kafka.pid, signal.SIGKILL)
        psutil.wait_procs([psutil.Process(kafka.pid)], timeout=10)
        assert not kafka.healthy()
    with kafka:
        assert read(kafka.address, "also-kept", 1) == [b"three"]


def test_a_broker_that_dies_is_started_again_with_its_data(tmp_path: Path) -> None:
    kafka, stop = LocalBroker(tmp_path / "kafka", free_port()), threading.Event()
    keeper = threading.Thread(target=keep_running, args=(kafka, stop, 0.05))
    keeper.start()
    try:
        AdminClient(client(kafka.address)).list_topics(timeout=30)
        write(kafka.address, "kept", [b"one"])
        assert kafka.pid
        os.kill(kafka.pid, signal.SIGKILL)
        assert read(kafka.address, "kept", 1) == [b"one"]
    finally:
        stop.set()
        keeper.join(20)
    assert kafka.pid is None


def test_a_busy_port_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(StartError, match=f"Port {port} is in use"):
            LocalBroker(tmp_path, port).start()


def test_a_folder_in_use_is_refused(broker: LocalBroker) -> None:
    with pytest.raises(StartError, match="A broker is already running on"):
        LocalBroker(broker.folder, free_port()).start()


def test_a_full_disk_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=10 * 2**20))
    with pytest.raises(StartError, match="is full: 10 MB are free"):
        LocalBroker(tmp_path, free_port()).start()


def test_missing_jars_without_a_network_are_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with pytest.raises(StartError, match="Kafka's jars cannot be downloaded") as caught:
        LocalBroker(tmp_path / "kafka", free_port(), cache=tmp_path / "cache").start()
    assert len(str(caught.value)) < 200
    assert not list((tmp_path / "cache").iterdir())


def test_a_broker_left_by_a_killed_parent_is_ended(tmp_path: Path) -> None:
    first = LocalBroker(tmp_path / "kafka", free_port())
    first.start()
    assert first.pid
    assert first._lock is not None
    os.close(first._lock)  # as the kernel does when the parent dies
    first._lock = None
    left = psutil.Process(first.pid)

    with LocalBroker(tmp_path / "kafka", first.port) as second:
        assert second.pid != left.pid
        assert not left.is_running() or left.status() == psutil.STATUS_ZOMBIE
    first.stop()
