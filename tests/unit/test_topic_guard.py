"""B.2: a running worker looks now and then whether its topics are those of its start; brokers that start know few."""

import asyncio
from pathlib import Path
from types import SimpleNamespace

import pytest

from streams.errors import StartError
from streams.kafka import topic_guard
from streams.kafka.identity import Identity, OtherTopicError, changed, remember, remembered
from streams.kafka.positions import Place
from streams.kafka.topic_guard import TopicGuard
from streams.settings import Settings


@pytest.fixture
def guard(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> TopicGuard:
    monkeypatch.setattr(topic_guard, "_LOOK_SECONDS", 0.0)
    monkeypatch.setattr(topic_guard, "places", lambda *_: [])
    made = TopicGuard(Settings(), tmp_path)
    made._ids = {"interactions": "a", "rows": "r"}
    return made


def sees(monkeypatch: pytest.MonkeyPatch, *looks: dict[str, str] | StartError) -> None:
    """Let Kafka tell these ids, one look after the other, and the last ones for ever."""
    left = list(looks)

    def found(*_: object) -> dict[str, Identity]:
        look = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(look, StartError):
            raise look
        return {name: Identity(topic_id, 4) for name, topic_id in look.items()}

    monkeypatch.setattr(topic_guard, "identities", found)


async def test_a_topic_that_was_made_anew_ends_the_worker(guard: TopicGuard, monkeypatch: pytest.MonkeyPatch) -> None:
    sees(monkeypatch, {"interactions": "a", "rows": "r"}, {"interactions": "b", "rows": "r"})
    with pytest.raises(OtherTopicError, match=r"headrace.interactions was made anew or deleted while the worker ran"):
        await asyncio.wait_for(guard.watch(), 5)


async def test_what_is_seen_once_or_not_at_all_ends_nothing(guard: TopicGuard, monkeypatch: pytest.MonkeyPatch) -> None:
    fine = {"interactions": "a", "rows": "r"}
    sees(monkeypatch, fine, {"rows": "r"}, fine, StartError("Kafka is away"), {"rows": "r"}, fine)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(guard.watch(), 0.1)


async def test_an_end_before_what_was_read_ends_the_worker(guard: TopicGuard, monkeypatch: pytest.MonkeyPatch) -> None:
    sees(monkeypatch, {"interactions": "a", "rows": "r"})
    monkeypatch.setattr(topic_guard, "places", lambda *_: [Place("headrace.interactions", 3, 150, 0, 120)])
    with pytest.raises(OtherTopicError, match=r"Partition 3 of headrace.interactions ends at 120"):
        await asyncio.wait_for(guard.watch(), 5)


def test_events_that_expired_before_they_were_read_are_told_once(
    guard: TopicGuard, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[int] = []
    monkeypatch.setattr(topic_guard, "places", lambda *_: [Place("headrace.interactions", 3, 100, 150, 200)])
    monkeypatch.setattr(topic_guard, "_log", SimpleNamespace(error=lambda _, **said: told.append(said["events"])))
    assert guard._lost_end() is None
    assert guard._lost_end() is None
    assert told == [50]


def test_brokers_without_topic_ids_are_never_in_doubt() -> None:
    assert changed({"rows": ""}, {"rows": "b"}) == []
    assert changed({"rows": "a"}, {"rows": ""}) == []
    assert changed({"rows": "a"}, {}) == ["rows"]


@pytest.mark.parametrize("text", ["", "{", "[1]", "null"])
def test_a_file_of_ids_that_cannot_be_read_remembers_nothing(tmp_path: Path, text: str) -> None:
    path = tmp_path / "topics.json"
    assert remembered(path) == {}
    path.write_text(text)
    assert remembered(path) == {}
    remember(path, {"rows": "a"})
    assert remembered(path) == {"rows": "a"}
