"""An item is recommended for what its title says, two seconds after its catalogue event, before anybody touched it."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from streams.local.local_broker import LocalBroker
from streams.local.local_triton import LocalTriton
from streams.local.processes import free_port
from streams.settings import Settings
from streams.triton.model_repository import ModelRepository
from tests.integration.real_worker import Deployment, deployment, until
from tests.integration.test_learner import Running
from tests.learning.test_new_items import EACH, ITEMS, USERS, one_kind, title

pytestmark = pytest.mark.integration

IN_TIME = {"HEADRACE_TRITON__TIMEOUT_MS": "3000", "HEADRACE_SERVING__DEADLINE_MS": "6000"}
EVENTS = 1500
"""Clicks before a round of launches: what titles say is learned from them."""
ROUNDS = 6
LISTED = 10
LAUNCH_SECONDS = 2.0
SUITED, OTHER = (0, 5, 10), 2
"""Kinds that get a new item each round, and one that gets none."""
ENOUGH = 2
"""Launches of a round that must come out right."""


@pytest.fixture
def real(broker: LocalBroker, tmp_path: Path) -> Iterator[Deployment]:
    with deployment(broker.address, tmp_path, **IN_TIME) as made:
        yield made


@pytest.fixture
def learner(real: Deployment) -> Iterator[Running]:
    learning = {"preset": "tiny", "micro_batch": 64}  # many small steps: there is little to learn from
    running = Running(Settings(broker=real.broker, prefix=real.prefix, data_dir=real.folder, learner=learning))
    yield running
    running.stop()
    assert running.failure is None


def describe(real: Deployment, row: int) -> str:
    """Send the catalogue event of an item; return its id."""
    real.send("items", f"i{row}", {"item_id": f"i{row}", "title": title(row), "price": 2.5})
    return f"i{row}"


class Shop:
    """Users who keep to the kind of item that they began with."""

    def __init__(self, real: Deployment) -> None:
        self._real = real
        self._generator, self._histories = np.random.default_rng(0), dict[int, list[int]]()
        self.events = 0

    def open(self, events: int) -> None:
        """Send so many of their clicks."""
        for number in range(events):
            user = int(self._generator.integers(USERS))
            history = self._histories.setdefault(user, [])
            history.append(one_kind(number, history, self._generator))
            self._real.click(f"p{user}", f"i{history[-1]}")
        self._real.flush()
        self.events += events


def test_a_new_item_is_recommended_to_those_it_suits_within_two_seconds_of_its_catalogue_event(
    real: Deployment, learner: Running, broker: LocalBroker
) -> None:
    backend = {"consumer": {"bootstrap.servers": broker.address, "log_level": 2}, "topic": f"{real.prefix}weights"}
    repository, shop = ModelRepository(real.settings.models_dir), Shop(real)
    until(repository.newest)
    with LocalTriton(real.folder / "triton", repository, free_port(), backend=backend) as triton:
        worker = real.start(HEADRACE_TRITON__URL=triton.address)
        for row in range(1, ITEMS + 1):
            describe(real, row)
        for kind in (*SUITED, OTHER):
            for place in (2, 5, 1, 7):
                real.click(f"u{kind}", f"i{kind * EACH + place}")

        def place(item_id: str, kind: int) -> int:
            """Where a user of that kind has it; LISTED when it is not there."""
            items = [item["item_id"] for item in worker.recommended(f"u{kind}")["items"]]
            return items.index(item_id) if item_id in items else LISTED

        def suits(kind: int, number: int) -> bool:
            """Launch an item; see whether those it suits have it in time, and higher than others."""
            launched = describe(real, ITEMS + 1 + kind * EACH + number)
            with suppress(AssertionError):
                until(lambda: place(launched, kind) < LISTED, LAUNCH_SECONDS)
            return place(launched, kind) < place(launched, OTHER)

        def learned(number: int) -> bool:
            shop.open(EVENTS)
            until(lambda: learner.learned() >= shop.events)
            return sum(suits(kind, number) for kind in SUITED) >= ENOUGH

        assert any(map(learned, range(ROUNDS))), "what titles say was not learned"
        assert worker.metric("headrace_listed_items_total", touched="no") >= ENOUGH
