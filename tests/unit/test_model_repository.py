"""A version's number is never used twice, and Triton never sees half a version."""

from pathlib import Path

import numpy as np
import pytest

from engine.weights import Weights, load
from streams.triton import model_repository
from streams.triton.model_repository import ModelRepository, model_config, write_seed_version

CHECKED_IN = Path(model_repository.__file__).parents[2] / "model_repo" / "sequence" / "config.pbtxt"


def weights() -> Weights:
    return Weights({}, {"item_vectors": np.zeros((3, 2), np.float32)}, {})


def test_the_checked_in_config_is_the_generated_one() -> None:
    assert CHECKED_IN.read_text(encoding="utf-8") == model_config()


def test_only_the_kind_of_instance_depends_on_the_device() -> None:
    assert model_config("gpu") == model_config("cpu").replace("KIND_CPU", "KIND_GPU")


def test_numbers_rise_and_the_oldest_versions_go(tmp_path: Path) -> None:
    repository = ModelRepository(tmp_path)
    assert [repository.write_version(weights(), generation) for generation in range(5)] == [1, 2, 3, 4, 5]
    assert repository.versions() == [3, 4, 5]
    assert repository.metadata(5) == {"config": "{}", "generation": "4", "version": "5"}


def test_the_number_of_a_version_that_was_set_aside_is_not_used_again(tmp_path: Path) -> None:
    repository = ModelRepository(tmp_path)
    repository.write_version(weights(), 0)
    repository.set_aside(repository.write_version(weights(), 1))
    assert repository.newest() == 1
    assert repository.write_version(weights(), 2) == 3


def test_a_version_that_could_not_be_written_is_not_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    repository = ModelRepository(tmp_path)
    monkeypatch.setattr("engine.weights.os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        repository.write_version(weights(), 0)
    assert repository.versions() == []


def test_the_seed_is_a_whole_model_that_knows_nothing(tmp_path: Path) -> None:
    repository = ModelRepository(tmp_path)
    seed = load(repository.file(write_seed_version(repository, "tiny", rows=5)))
    assert seed.rows == 5
    assert not seed.tables["popularity"].any()
