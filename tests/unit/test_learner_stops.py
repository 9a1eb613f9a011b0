"""A learner that cannot start or go on says why in one sentence."""

from pathlib import Path

import pytest
from confluent_kafka import KafkaError, KafkaException

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
    ("code", "sentence"),
    [
        (KafkaError._TRANSPORT, "does not answer (down)"),
        (KafkaError._TIMED_OUT, "does not answer (down)"),
        (KafkaError._AUTHENTICATION, "does not let Headrace in (down)"),
        (KafkaError.TOPIC_AUTHORIZATION_FAILED, "does not allow this (down)"),
        (KafkaError.UNKNOWN_TOPIC_OR_PART, "has no such topic (down); make it with `headrace topics`."),
        (KafkaError._BAD_COMPRESSION, "gives records that cannot be read (down); check the disks"),
        (KafkaError.NOT_ENOUGH_REPLICAS, "has too few replicas in sync (down)"),
        (KafkaError.MSG_SIZE_TOO_LARGE, "takes no record so large (down); raise the topic's max.message.bytes"),
        (KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER, "refuses (down)"),
    ],
)
def test_what_stops_a_learner_is_named_for_what_it_is(code: int, sentence: str) -> None:
    """A.5: a codec that was missing was told as "Kafka does not answer"."""
    with pytest.raises(StartError) as told, _told(Settings()):
        raise KafkaException(KafkaError(code, "down"))
    assert f"Kafka at 127.0.0.1:9092 {sentence}" in str(told.value)
    assert str(told.value).endswith(". Then start the learner again: it goes on from its checkpoint.")
