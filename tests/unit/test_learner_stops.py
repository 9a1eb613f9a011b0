"""A learner that cannot start or go on says why in one sentence."""

from pathlib import Path

import pytest
from confluent_kafka import KafkaError, KafkaException
from kafka.errors import KafkaTimeoutError

from streams.errors import StartError
from streams.files.columns import Columns
from streams.folder_lock import take_lock
from streams.learner import _told, backfill, run_learner
from streams.settings import Settings


def test_a_second_learner_on_a_folder_is_refused_and_named(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    assert take_lock(tmp_path / "learner" / "learner.lock") is not None
    with pytest.raises(StartError, match=f"A learner is already running on {tmp_path}/learner; stop it"):
        run_learner(settings)
    with pytest.raises(StartError, match="already running"):
        backfill(settings, tmp_path / "past.csv", Columns())


@pytest.mark.parametrize(
    "failure", [KafkaTimeoutError("no bootstrap"), KafkaException(KafkaError(KafkaError._TRANSPORT))]
)
def test_a_kafka_that_goes_away_is_no_defect(failure: Exception) -> None:
    with (
        pytest.raises(
            StartError, match=r"^Kafka at 127\.0\.0\.1:9092 does not answer .* goes on from its checkpoint\.$"
        ),
        _told(Settings()),
    ):
        raise failure
