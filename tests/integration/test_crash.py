"""Whatever dies, every event counts once; and the suite that says so fails when it should.

A short run of the crash suite; `make crash ARGS="--kills 100 --minutes 15"` is a long one.
"""

from pathlib import Path
from uuid import uuid4

import pytest

from streams.local.local_broker import LocalBroker
from tests.crash.campaign import Campaign
from tests.crash.report import Report
from tests.crash.roles import Deployment

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]
EACH_ONCE = ("worker_kill", "learner_kill", "triton_kill", "broker_kill", "worker_freeze")


def test_worker_learner_triton_and_broker_are_killed_and_a_worker_frozen_and_nothing_is_lost(tmp_path: Path) -> None:
    report = Campaign(Deployment(tmp_path), rate=80, seed=1).run(iter(EACH_ONCE), len(EACH_ONCE), seconds=30)
    assert report.problems == []
    assert report.faults == dict.fromkeys(sorted(EACH_ONCE), 1)
    assert report.figures["events"] > 500


def test_what_a_zombie_writes_late_is_written_over(tmp_path: Path) -> None:
    """Two workers; one is frozen between its lease and its changelog, and wakes when the other owns its users."""
    deployment = Deployment(tmp_path, model=False, mutant="zombie")
    report = Campaign(deployment, rate=80, seed=1).run(iter(["worker_join", "worker_leave"]), 2, seconds=36)
    assert (tmp_path / "frozen").exists()
    assert report.problems == []


def one_kill(broker: LocalBroker, folder: Path, mutant: str | None) -> Report:
    """One worker, without a model, killed while it is fed by users who do not come back and mend their states."""
    deployment = Deployment(
        folder,
        broker=broker.address,
        prefix=f"{uuid4().hex[:8]}.",
        model=False,
        mutant=mutant,
        settings={"HEADRACE_STATE__DUPLICATE_WINDOW": "0"},  # it would hide some of what a lost offset doubles
    )
    campaign = Campaign(deployment, rate=100, seed=1, workers=1, cold=False, passing=True)
    return campaign.run(iter(["worker_kill"]), 1, seconds=6)


def test_a_batch_whose_answer_never_comes_is_read_again(broker: LocalBroker, tmp_path: Path) -> None:
    assert one_kill(broker, tmp_path, "lost_answer").problems == []


def test_committing_the_highest_offset_is_found(broker: LocalBroker, tmp_path: Path) -> None:
    assert one_kill(broker, tmp_path, "highest_offset").figures["example_outcomes_missing"] > 0


def test_writing_the_local_store_before_the_changelog_is_found(broker: LocalBroker, tmp_path: Path) -> None:
    assert one_kill(broker, tmp_path, "local_before_changelog").figures["lost_in_changelog"] > 0


def test_a_state_without_its_source_offset_is_found(broker: LocalBroker, tmp_path: Path) -> None:
    assert one_kill(broker, tmp_path, "no_source_offset").figures["doubled"] > 0
