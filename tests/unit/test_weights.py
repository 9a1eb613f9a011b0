"""What is saved is read again; what must not be served is refused."""

from pathlib import Path

import numpy as np
import pytest

from engine.weights import Weights, WeightsError, load, metadata, save


def weights(fill: float) -> Weights:
    return Weights(
        {"dim": 2}, {"item_vectors": np.full((320, 2), fill, np.float32)}, {"norm": np.full(2, fill, np.float32)}
    )


def test_a_saved_file_holds_what_was_saved(tmp_path: Path) -> None:
    path = tmp_path / "1" / "model.safetensors"
    save(weights(fill=1.5), path, {"generation": "7"})

    again = load(path)

    assert again.config == {"dim": 2}
    np.testing.assert_array_equal(again.tables["item_vectors"], weights(fill=1.5).tables["item_vectors"])
    np.testing.assert_array_equal(again.dense["norm"], [1.5, 1.5])
    assert metadata(path)["generation"] == "7"
    assert path.stat().st_mode & 0o777 == 0o644
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("content", [b"", b"garbage", b"\xff" * 100])
def test_a_damaged_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "f").write_bytes(content)
    with pytest.raises(WeightsError):
        load(tmp_path / "f")


def test_values_that_are_not_finite_are_not_read_from_a_file(tmp_path: Path) -> None:
    save(weights(fill=np.nan), tmp_path / "f")
    with pytest.raises(WeightsError, match="not finite"):
        load(tmp_path / "f")
