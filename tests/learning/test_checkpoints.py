"""A checkpoint is of one moment, however late it is written, and who goes on from it learns as if never stopped."""

from pathlib import Path

import pytest

from engine.online.checkpoint import Apart, read_checkpoint, write_checkpoint
from engine.online.prequential import OnlineLearner
from tests.learning.streams_of import CONFIG, stream
from tests.learning.test_known_streams import markov


@pytest.fixture
def learner() -> OnlineLearner:
    """One that has an anchor and more learned since."""
    learner = OnlineLearner(CONFIG)
    for each in stream(markov, 1000):
        learner.observe(each)
    assert learner.anchor
    return learner


def test_nothing_of_a_checkpoint_changes_while_the_learner_goes_on(learner: OnlineLearner, tmp_path: Path) -> None:
    state = learner.checkpoint()
    write_checkpoint(tmp_path / "at once", state)
    for each in stream(markov, 1000, start=1000):
        learner.observe(each)
    write_checkpoint(tmp_path / "later", state)
    assert (tmp_path / "later").read_bytes() == (tmp_path / "at once").read_bytes()


def test_nothing_of_an_anchor_changes_when_the_learner_goes_back_to_it(learner: OnlineLearner, tmp_path: Path) -> None:
    assert learner.anchor
    anchor = learner.anchor.state
    write_checkpoint(tmp_path / "state", {"anchor": anchor})
    learner.decide(learner.gate.decide("rollback"))
    for each in stream(markov, 1000, start=1000):
        learner.observe(each)
    write_checkpoint(tmp_path / "state", {"anchor": (after := Apart(anchor.value))})
    assert after.digest == anchor.digest


def test_who_goes_on_from_a_file_learns_the_same(learner: OnlineLearner, tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "state", learner.checkpoint())
    other = OnlineLearner(CONFIG)
    other.resume(read_checkpoint(tmp_path / "state"))
    for each in stream(markov, 500, start=1000):
        assert other.observe(each).loss == learner.observe(each).loss
    for name, one in (("learner", learner), ("other", other)):
        write_checkpoint(tmp_path / name, one.checkpoint())
    assert (tmp_path / "other").read_bytes() == (tmp_path / "learner").read_bytes()


def test_who_goes_on_from_a_file_of_an_older_release_has_its_anchor(learner: OnlineLearner) -> None:
    assert learner.anchor
    state = {**learner.checkpoint(), "anchor": learner.anchor.state.value}
    other = OnlineLearner(CONFIG)
    other.resume(state)
    assert other.anchor
    assert other.anchor.state.value is state["anchor"]
    assert (
        other.anchor.scorer.weights().tables["item_vectors"] == learner.anchor.scorer.weights().tables["item_vectors"]
    ).all()
