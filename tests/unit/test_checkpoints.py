"""A learner's checkpoints are written while it learns on, and less often where one takes long."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from prometheus_client import CollectorRegistry

from streams.errors import StartError
from streams.instruments import LearnerInstruments
from streams.learning import checkpoints
from streams.learning.checkpoints import Checkpoints


@pytest.fixture
def written(tmp_path: Path) -> Checkpoints:
    return Checkpoints(tmp_path / "learner" / "checkpoint", 0.2, LearnerInstruments(CollectorRegistry()))


def test_checkpoints_that_take_long_are_written_less_often(
    written: Checkpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([100.0, 100.005, 200.0, 203.0])
    monkeypatch.setattr(checkpoints, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    for end, pause in ((100.005, 0.2), (203.0, 60.0)):
        written.write({"number": 1})
        assert written.settle() - end == pytest.approx(pause)
    written.close()


def test_who_goes_back_gets_the_one_that_is_just_being_written(written: Checkpoints) -> None:
    assert written.newest() is None
    with pytest.raises(StartError, match="cannot be read; move it away to begin anew"):
        written.newest_or_stop()
    written.write({"number": 7})
    assert written.newest_or_stop() == {"number": 7}
    written.close()
