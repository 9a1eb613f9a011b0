"""Two learners on one folder would write their checkpoints over each other's: the second is refused."""

from pathlib import Path

import pytest

from streams.commands.event_files import Columns
from streams.errors import StartError
from streams.folder_lock import take_lock
from streams.learner import backfill, run_learner
from streams.settings import Settings


def test_a_second_learner_on_a_folder_is_refused_and_named(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    assert take_lock(tmp_path / "learner" / "learner.lock") is not None
    with pytest.raises(StartError, match=f"A learner is already running on {tmp_path}/learner; stop it"):
        run_learner(settings)
    with pytest.raises(StartError, match="already running"):
        backfill(settings, tmp_path / "past.csv", Columns())
