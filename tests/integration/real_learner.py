"""A learner in a thread, what is sent to it, and waiting for what it does."""

import threading
from collections.abc import Callable, Sequence

from confluent_kafka import Producer
from prometheus_client import CollectorRegistry

from streams.instruments import LearnerInstruments
from streams.learning.role import LearnerRole
from streams.records import Example, ExampleHistory, Outcome, encode
from streams.settings import Settings

DEADLINE_SECONDS = 30.0


class Running:
    """A learner in a thread of its own, as the role's process would run it."""

    def __init__(self, settings: Settings) -> None:
        self.instruments = LearnerInstruments(CollectorRegistry())
        self.role = LearnerRole(settings, self.instruments)
        self.failure: BaseException | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def learned(self) -> float:
        return self.instruments.examples._value.get()

    def wait_until_learned(self, outcomes: int) -> None:
        poll(lambda: self.learned() >= outcomes)

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()
        self.role.close()

    def wait_until_ended(self) -> None:
        self._thread.join(DEADLINE_SECONDS)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        try:
            self.role.run(self._stop)
        except BaseException as exc:  # noqa: BLE001 - looked at by the test
            self.failure = exc


def poll(holds: Callable[[], bool], seconds: float = DEADLINE_SECONDS) -> None:
    waited = threading.Event()
    for _ in range(int(seconds / 0.02)):
        if holds():
            return
        waited.wait(0.02)
    raise AssertionError("it did not happen in time")


def example(user: str, history: Sequence[str], outcomes: Sequence[tuple[str, int]]) -> bytes:
    times = [1_700_000_000_000 + 60_000 * place for place in range(len(history))]
    return encode(
        Example(
            user,
            0,
            ExampleHistory(list(history), [4] * len(history), times),
            [Outcome(item, 4, 1_700_000_900_000, offset) for item, offset in outcomes],
            0,
        )
    )


class Sender:
    def __init__(self, settings: Settings) -> None:
        self._prefix = settings.prefix
        self._producer = Producer({"bootstrap.servers": settings.broker, "log_level": 2, "enable.idempotence": True})
        self._rows: set[str] = set()
        self._offset = 0

    def send(self, user: str, history: Sequence[str], *items: str) -> bytes:
        for item in {*history, *items} - self._rows:
            self._producer.produce(self._prefix + "rows", b"{}", item, 0)
            self._rows.add(item)
        assert self._producer.flush(10) == 0
        value = example(user, history, [(item, self._offset + at) for at, item in enumerate(items)])
        self._offset += len(items)
        self.again(value)
        return value

    def again(self, value: bytes) -> None:
        self._producer.produce(self._prefix + "examples", value, b"u", 0)
        assert self._producer.flush(10) == 0
