"""The learner tells since when it cannot publish, and when it published what workers follow, for the alerts."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from engine.online.config import online_config
from engine.online.prequential import OnlineLearner
from engine.weights import CHALLENGER, CHAMPION
from streams.instruments import LearnerInstruments
from streams.learning import releases
from streams.learning.publisher import NotPublishedError
from streams.settings import Settings


class KafkaOut:
    """streams.learning.publisher.Publisher to a Kafka that may be away."""

    def __init__(self, _settings: Settings) -> None:
        self.away = False
        self.published: list[str] = []

    def last_generation(self) -> int:
        return 0

    def publish(self, *_: Any, slot: str, **__: Any) -> None:
        if self.away:
            raise NotPublishedError("Kafka is away")
        self.published.append(slot)

    def decide(self, *_: Any) -> None: ...


class Bench:
    def __init__(self, folder: Path, policy: str) -> None:
        self.registry = CollectorRegistry()
        self.learner = OnlineLearner(online_config("tiny", policy, 0.1))  # type: ignore[arg-type]
        self.learner.grow(10)
        settings = Settings(data_dir=folder)
        self.releases = releases.Releases(settings, self.learner, LearnerInstruments(self.registry))
        self.kafka: Any = self.releases._publisher

    def learn(self) -> None:
        self.learner._touched.add(np.array([1]), ["popularity"])

    def gauge(self, name: str) -> float:
        value = self.registry.get_sample_value(f"headrace_{name}_timestamp_seconds")
        assert value is not None
        return value


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, policy: str) -> Bench:
    monkeypatch.setattr(releases, "Publisher", KafkaOut)
    return Bench(tmp_path, policy)


@pytest.mark.parametrize("policy", ["fresh"])
def test_a_generation_that_cannot_be_published_is_told_until_it_is(bench: Bench) -> None:
    bench.kafka.away = True
    bench.releases.publish({})
    since = bench.gauge("unpublished_since")
    assert since > 0
    bench.learn()
    bench.releases.publish({})
    assert bench.gauge("unpublished_since") == since
    assert bench.gauge("published_generation") == 0
    bench.kafka.away = False
    bench.releases.publish({})
    assert bench.gauge("unpublished_since") == 0
    assert bench.gauge("published_generation") >= since


@pytest.mark.parametrize("policy", ["fresh", "cautious"])
def test_where_nothing_is_to_be_published_nothing_is_said_to_wait(bench: Bench) -> None:
    """Issue 10, C.2: GenerationsStale fired on a quiet night, and under `cautious`."""
    bench.releases.publish({})
    bench.kafka.away = True
    bench.releases.publish({})
    if bench.learner.gate.stage != "serving":
        bench.learn()
        bench.releases.publish({})
    assert bench.kafka.published == [CHAMPION]
    assert bench.gauge("unpublished_since") == 0


@pytest.mark.parametrize("policy", ["cautious"])
def test_a_challengers_generation_is_not_what_workers_follow(bench: Bench) -> None:
    bench.releases.publish({})
    bench.learner.gate.decide("canary")
    bench.learn()
    published = bench.gauge("published_generation")
    bench.releases.publish({})
    assert bench.kafka.published == [CHAMPION, CHALLENGER]
    assert bench.gauge("published_generation") == published
