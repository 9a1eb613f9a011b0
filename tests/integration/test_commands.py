"""What people ask for is carried out once, also by a learner that was down or dies before its checkpoint."""

import shutil
from pathlib import Path

import pytest

from streams.kafka.topic_setup import ensure_topics
from streams.learning import models_admin
from streams.local.local_broker import LocalBroker
from streams.records import DecisionRecord
from streams.settings import Settings
from tests.integration.test_learner import Running, Sender, poll

pytestmark = pytest.mark.integration


@pytest.fixture
def settings(broker: LocalBroker, tmp_path: Path) -> Settings:
    settings = Settings(
        broker=broker.address,
        prefix=f"{tmp_path.name}.",
        data_dir=tmp_path,
        learner={"preset": "tiny", "generation_seconds": 0.1, "checkpoint_seconds": 0.1},
    )
    ensure_topics(settings)
    return settings


def done(settings: Settings) -> list[tuple[str, str]]:
    return [(record.action, record.by) for record in models_admin.log(settings)]


def in_force(settings: Settings) -> DecisionRecord:
    found = models_admin.current(settings)
    assert found
    return found


def learn_once(settings: Settings, until: int = 0) -> Running:
    """Run a learner until so many decisions are written down, and stop it."""
    running = Running(settings)
    poll(lambda: running.failure is not None or len(done(settings)) >= until)
    running.stop()
    assert running.failure is None
    return running


def test_a_command_to_a_learner_that_is_down_is_carried_out_once_when_it_comes_back(settings: Settings) -> None:
    first, sender = Running(settings), Sender(settings)
    sender.send("u1", ["a"], "b")
    first.wait_until_learned(1)
    first.stop()
    models_admin.command(settings, "freeze", by="ann")
    models_admin.command(settings, "pin", by="bob", version=1)
    wanted = [("freeze", "ann"), ("pin", "bob")]

    learn_once(settings, until=2)
    again = learn_once(settings)

    assert done(settings) == wanted
    assert again.role._learner.gate.frozen
    assert (in_force(settings).stage, in_force(settings).version) == ("pinned", 1)


def test_a_command_that_no_checkpoint_holds_keeps_its_effect_and_is_not_written_down_again(settings: Settings) -> None:
    learn_once(settings)
    checkpoint = settings.data_dir / "learner" / "checkpoint"
    shutil.copy(checkpoint, old := checkpoint.with_name("old"))
    models_admin.command(settings, "freeze", by="ann")
    models_admin.command(settings, "pin", by="bob", version=1)
    learn_once(settings, until=2)
    old.replace(checkpoint)  # as if the learner had died right after it obeyed

    again = learn_once(settings)

    assert again.role._learner.gate.frozen
    assert again.role._releases.state()["pin"] == 1
    assert done(settings) == [("freeze", "ann"), ("pin", "bob")]


def test_a_pin_is_taken_back_and_a_version_that_was_kept_serves_again(settings: Settings) -> None:
    learn_once(settings)
    for action, version in (("promote", None), ("rollback", 1), ("promote", None)):
        models_admin.command(settings, action, by="ann", version=version)  # type: ignore[arg-type]
    running = Running(settings)
    poll(lambda: len(done(settings)) == 3)
    running.stop()
    log = models_admin.log(settings)
    assert [(record.action, record.stage, record.version) for record in log] == [
        ("promote", "serving", 2),
        ("rollback", "pinned", 1),
        ("promote", "serving", 3),
    ]
    assert in_force(settings) == log[-1]


def test_a_pin_that_is_refused_is_written_down_with_its_reason_and_stays_refused(settings: Settings) -> None:
    learn_once(settings)
    checkpoint, version = settings.data_dir / "learner" / "checkpoint", settings.models_dir / "sequence" / "1"
    shutil.copy(checkpoint, old := checkpoint.with_name("old"))
    models_admin.command(settings, "pin", by="ann", version=1)
    version.rename(away := version.with_name("away"))  # between the command and the learner
    refusing = learn_once(settings, until=1)
    assert refusing.role._releases.state()["pin"] == 0
    [refused] = models_admin.log(settings)
    assert (refused.action, refused.by, refused.stage) == ("refuse", "ann", "serving")
    assert "version 1 cannot be loaded" in refused.why
    away.rename(version)
    old.replace(checkpoint)  # as if the learner had died right after it refused

    again = learn_once(settings)

    assert again.role._releases.state()["pin"] == 0
    assert [record.action for record in models_admin.log(settings)] == ["refuse"]
