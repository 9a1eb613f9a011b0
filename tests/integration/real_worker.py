"""A worker as a process, the topics of its own prefix, and a cable to Triton that a test can pull."""

import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar
from uuid import uuid4

import httpx
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, Message, Producer, TopicPartition

from streams.errors import StartError
from streams.kafka.topic_setup import ensure_topics
from streams.local.processes import Child, free_port
from streams.settings import Settings

T = TypeVar("T")

DEADLINE_SECONDS: Final = 40.0
COMMAND: Final = [sys.executable, "-m", "streams"]


def until(get: Callable[[], T], seconds: float = DEADLINE_SECONDS) -> T:
    """Return the first true answer."""
    deadline = time.monotonic() + seconds
    while not (answer := get()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)
    return answer


class Topic:
    """Reads a topic from its beginning, all partitions; a second call goes on where the first ended."""

    def __init__(self, broker: str, name: str) -> None:
        config = {
            "bootstrap.servers": broker,
            "log_level": 2,
            "group.id": "unused",
            "enable.auto.commit": False,
            "fetch.wait.max.ms": 10,
        }
        self._consumer = Consumer(config | {"message.max.bytes": 2**24, "isolation.level": "read_committed"})
        partitions = self._consumer.list_topics(name, timeout=10).topics[name].partitions
        self._consumer.assign([TopicPartition(name, number, OFFSET_BEGINNING) for number in partitions])
        self.seen: list[Message] = []

    def find(self, wanted: Callable[[Message], object], seconds: float = DEADLINE_SECONDS) -> Message:
        """Return the next record that is wanted, of those that came since the last call."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            message = self._consumer.poll(0.1)
            if message is None or message.error():
                continue
            self.seen.append(message)
            if wanted(message):
                return message
        raise AssertionError(f"not among {len(self.seen)} records")

    def drain(self, quiet_seconds: float = 0.3) -> list[Message]:
        """Return all records so far, once none has come for a moment."""
        while (message := self._consumer.poll(quiet_seconds)) is not None:
            if not message.error():
                self.seen.append(message)
        return self.seen

    def close(self) -> None:
        self._consumer.close()


@dataclass
class RealWorker:
    """A process and the client of its API."""

    child: Child
    client: httpx.Client
    environment: Mapping[str, str]

    def come_back(self) -> None:
        """Start it as it was, on its disk; return when it serves."""
        self.child = Child(
            self.child.name, [*COMMAND, "worker"], log_file=self.child.log_file, environment=self.environment
        )
        self.child.wait_until(lambda: self.ready, DEADLINE_SECONDS)

    @property
    def partitions(self) -> list[int]:
        with suppress(httpx.HTTPError):
            return list(self.client.get("/healthz").json()["partitions"])
        return []

    @property
    def ready(self) -> bool:
        with suppress(httpx.HTTPError):
            return self.client.get("/readyz").status_code == 200
        return False

    def history(self, user_id: str, after: str | None = None) -> list[str]:
        params = {"after": after} if after else {}
        answer = self.client.get(f"/v1/users/{user_id}/history", params=params)
        assert answer.status_code == 200, answer.text
        return [entry["item_id"] for entry in answer.json()["interactions"]]

    def recommended(self, user_id: str, k: int = 10) -> dict[str, Any]:
        answer = self.client.get(f"/v1/users/{user_id}/recommendations", params={"k": k})
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def metric(self, name: str, **labels: str) -> float:
        """Return the sum of a metric's samples that carry the labels."""
        wanted = [f'{key}="{value}"' for key, value in labels.items()]
        lines = self.client.get("/metrics").text.splitlines()
        found = [line for line in lines if line.split("{")[0].split(" ")[0] == name]
        return sum(float(line.rsplit(" ", 1)[1]) for line in found if all(label in line for label in wanted))


@dataclass
class Deployment:
    """Topics under a prefix of their own, and the workers on them."""

    broker: str
    folder: Path
    environment: Mapping[str, str]
    program: Sequence[str] = tuple(COMMAND)
    """What runs a role; another one has a defect that the product has no switch for."""
    prefix: str = field(default_factory=lambda: f"{uuid4().hex[:8]}.")
    workers: list[RealWorker] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.settings = Settings(broker=self.broker, prefix=self.prefix, data_dir=self.folder)
        ensure_topics(self.settings)
        self._producer = Producer(
            {
                "bootstrap.servers": self.broker,
                "log_level": 2,
                "partitioner": "murmur2_random",
                "linger.ms": 1,
                "message.max.bytes": 2**24,
            }
        )
        self._topics: list[Topic] = []

    def start(self, **settings: str) -> RealWorker:
        """Start one more worker; return when it serves. A free port may be taken before it listens: then once more."""
        with suppress(StartError):
            return self._start(settings)
        if "already in use" not in self.workers[-1].child.output():
            raise StartError(f"no worker: {self.workers[-1].child.output()}")
        self.workers.pop()
        return self._start(settings)

    def _start(self, settings: Mapping[str, str]) -> RealWorker:
        name, port = f"worker-{len(self.workers)}", free_port()
        environment = {
            **os.environ,
            "HEADRACE_BROKER": self.broker,
            "HEADRACE_PREFIX": self.prefix,
            "HEADRACE_DATA_DIR": str(self.folder),
            "HEADRACE_WORKER_ID": name,
            "HEADRACE_HTTP__PORT": str(port),
            "HEADRACE_TRITON__URL": f"127.0.0.1:{free_port()}",
            "HEADRACE_TRITON__SERVE_UNTRAINED": "true",  # the session's Triton serves a seed
            **self.environment,
            **settings,
        }
        child = Child(name, [*self.program, "worker"], log_file=self.folder / f"{name}.log", environment=environment)
        client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=10.0, trust_env=False)
        worker = RealWorker(child, client, environment)
        self.workers.append(worker)
        child.wait_until(lambda: worker.ready and bool(worker.partitions), DEADLINE_SECONDS)
        return worker

    def send(self, topic: str, key: str | bytes | None, value: object, **extra: Any) -> tuple[int, int]:
        """Put one record on a topic; return partition and offset."""
        placed = self.queue(topic, key, value, **extra)
        self.flush()
        return placed[0]

    def queue(self, topic: str, key: str | bytes | None, value: object, **extra: Any) -> list[tuple[int, int]]:
        """Send one record without waiting; partition and offset are in the list once `flush` returns."""
        placed: list[tuple[int, int]] = []

        def took(error: KafkaError | None, message: Message) -> None:
            assert error is None, error
            placed.append((message.partition(), message.offset()))

        data = value if isinstance(value, bytes | None) else json.dumps(value).encode()
        while True:
            try:
                self._producer.produce(self.prefix + topic, data, key, on_delivery=took, **extra)
            except BufferError:
                self._producer.poll(0.05)
            else:
                return placed

    def flush(self) -> None:
        """Wait until Kafka has what was queued."""
        assert self._producer.flush(30) == 0

    def click(self, user_id: str, item_id: str, **fields: Any) -> str:
        """Send one click of now; return its position."""
        event = {"event_id": uuid4().hex, "user_id": user_id, "item_id": item_id, "type": "click"}
        partition, offset = self.send("interactions", user_id, {**event, "timestamp": now_ms(), **fields})
        return f"interactions/{partition}/{offset}"

    def topic(self, name: str) -> Topic:
        self._topics.append(Topic(self.broker, self.prefix + name))
        return self._topics[-1]

    def stop(self) -> None:
        for worker in self.workers:
            worker.child.stop()
            worker.client.close()
        for topic in self._topics:
            topic.close()


@contextmanager
def deployment(broker: str, folder: Path, **environment: str) -> Iterator[Deployment]:
    made = Deployment(broker, folder, environment)
    try:
        yield made
    finally:
        made.stop()


def now_ms() -> int:
    return int(time.time() * 1000)


class Cable:
    """Carries bytes between workers and Triton; a test pulls it, plugs it in again, or makes it slow."""

    def __init__(self, target: str) -> None:
        host, port = target.rsplit(":", 1)
        self._target = (host, int(port))
        self.port = free_port()
        self.delay_seconds = 0.0
        self._open: list[socket.socket] = []
        self._server: socket.socket | None = None
        self.plug()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def plug(self) -> None:
        self._server = socket.create_server(("127.0.0.1", self.port), reuse_port=True)
        threading.Thread(target=self._accept, args=(self._server,), daemon=True).start()

    def pull(self) -> None:
        assert self._server
        with suppress(OSError):  # wakes the thread that accepts
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        for end in self._open:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        self._open.clear()

    def _accept(self, server: socket.socket) -> None:
        with suppress(OSError):
            while True:
                near, _ = server.accept()
                far = socket.create_connection(self._target)
                self._open += [near, far]
                for source, sink in ((near, far), (far, near)):
                    threading.Thread(target=self._carry, args=(source, sink), daemon=True).start()

    def _carry(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError), closing(sink):
            while data := source.recv(65536):
                time.sleep(self.delay_seconds)
                sink.sendall(data)
