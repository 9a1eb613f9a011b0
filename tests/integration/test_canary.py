"""A canary serves its share of the users and nobody else, and a rollback reaches every worker at once."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from engine.online.config import online_config
from engine.online.prequential import OnlineLearner
from engine.weights import CHALLENGER, CHAMPION
from streams.followers.decisions import Routing
from streams.instruments import LearnerInstruments
from streams.learning.releases import Releases
from streams.local.local_broker import LocalBroker
from streams.local.local_triton import LocalTriton
from streams.local.processes import free_port
from streams.triton.model_repository import ModelRepository
from tests.integration.real_worker import Deployment, deployment, until

pytestmark = pytest.mark.integration

SHARE = 0.3
USERS = [f"u{number}" for number in range(60)]
IN_TIME = {"HEADRACE_TRITON__TIMEOUT_MS": "3000", "HEADRACE_SERVING__DEADLINE_MS": "6000"}
ROLLBACK_SECONDS = 5.0


class Canary:
    """A learner's releases, driven by hand."""

    def __init__(self, real: Deployment) -> None:
        self.learner = OnlineLearner(online_config("tiny", "cautious", SHARE))
        self.learner.grow(300)
        self.releases = Releases(real.settings, self.learner, LearnerInstruments(CollectorRegistry()))
        self.releases.begin()
        self.releases.publish({})

    def decide(self, action: str) -> None:
        self.releases.decide(self.learner.gate.decide(action))  # type: ignore[arg-type]
        self.releases.publish({})


@pytest.fixture
def real(broker: LocalBroker, tmp_path: Path) -> Iterator[Deployment]:
    with deployment(broker.address, tmp_path, **IN_TIME) as made:
        yield made


def slots(real: Deployment) -> dict[str, tuple[str, int]]:
    answers = {user: real.workers[0].recommended(user) for user in USERS}
    return {user: (answer["slot"], answer["generation"]) for user, answer in answers.items()}


def test_a_canary_serves_its_users_and_a_rollback_takes_them_back(real: Deployment, broker: LocalBroker) -> None:
    canary = Canary(real)
    backend = {"consumer": {"bootstrap.servers": broker.address, "log_level": 2}, "topic": f"{real.prefix}weights"}
    repository = ModelRepository(real.settings.models_dir)
    with LocalTriton(real.folder / "triton", repository, free_port(), backend=backend) as triton:
        real.start(HEADRACE_TRITON__URL=triton.address)
        until(lambda: slots(real) == dict.fromkeys(USERS, (CHAMPION, 1)))

        canary.decide("canary")  # generation 2
        salted = Routing(SHARE, 2)
        wanted = {user: (CHALLENGER, 2) if salted.slot_of(user) == CHALLENGER else (CHAMPION, 1) for user in USERS}
        assert 5 < sum(slot == CHALLENGER for slot, _ in wanted.values()) < 35
        until(lambda: slots(real) == wanted)

        began = time.monotonic()
        canary.decide("rollback")
        until(lambda: {slot for slot, _ in slots(real).values()} == {CHAMPION})
        assert time.monotonic() - began < ROLLBACK_SECONDS
        until(lambda: {generation for _, generation in slots(real).values()} == {3})
