"""What `up` and `demo` need is looked for before anything is fetched (issue 10, E: the folder came last)."""

from pathlib import Path

import pytest

from streams.errors import StartError
from streams.local import kafka_jars, local_broker
from streams.local.local_broker import LocalBroker
from streams.local.processes import free_port
from streams.local.up import plan, prepare
from streams.settings import Settings


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Path]:
    """The caches that Kafka would have been fetched into."""
    asked: list[Path] = []

    def fetch(cache: Path) -> Path:
        asked.append(cache)
        return tmp_path

    monkeypatch.setattr(kafka_jars, "kafka_jars", fetch)
    monkeypatch.setattr(local_broker, "kafka_jars", fetch)
    return asked


def settings(data_dir: Path) -> Settings:
    return Settings(data_dir=data_dir, broker=f"127.0.0.1:{free_port()}")


def test_a_folder_that_cannot_be_made_is_named_before_kafka_is_fetched(tmp_path: Path, fetched: list[Path]) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StartError, match=r"Folder .*/file/data cannot be written .* HEADRACE_DATA_DIR"):
        prepare(plan(settings(tmp_path / "file" / "data")))
    assert fetched == []


def test_a_full_disk_is_named_before_kafka_is_fetched(
    tmp_path: Path, fetched: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_broker, "MIN_FREE_BYTES", 2**60)
    with pytest.raises(StartError, match="is full"):
        prepare(plan(settings(tmp_path)))
    assert fetched == []


def test_a_local_broker_takes_its_folder_before_kafka_is_fetched(tmp_path: Path, fetched: list[Path]) -> None:
    (tmp_path / "kafka").write_text("")
    with pytest.raises(StartError, match="cannot be written"):
        LocalBroker(tmp_path / "kafka", free_port()).start()
    assert fetched == []


def test_a_machine_that_has_all_of_it_goes_on_to_fetch(tmp_path: Path, fetched: list[Path]) -> None:
    prepare(plan(settings(tmp_path / "new" / "data")))
    assert len(fetched) == 1
