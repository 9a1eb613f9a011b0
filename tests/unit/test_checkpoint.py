"""A checkpoint is whole or refused, and a crash while writing leaves one that is whole."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from engine.online.checkpoint import CheckpointError, newest_checkpoint, previous, read_checkpoint, write_checkpoint

STATE = {
    "array": np.array([1, 2], np.int32),
    "scalar": np.array(3.5),
    "tensor": torch.tensor([[1.5]]),
    "by number": {0: {"step": torch.tensor(2.0)}},
    "list": [1, "two", None, 2**120],
    "empty": np.zeros((0, 4), np.float32),
}


def test_what_was_written_is_read(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "state", STATE)
    found = read_checkpoint(tmp_path / "state")
    assert found["array"].tolist() == [1, 2]
    assert found["array"].dtype == np.int32
    assert float(found["scalar"]) == 3.5
    assert torch.equal(found["tensor"], torch.tensor([[1.5]]))
    assert found["by number"][0]["step"] == 2
    assert found["list"] == [1, "two", None, 2**120]
    assert found["empty"].shape == (0, 4)


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "foreign"])
def test_a_damaged_file_is_refused_and_the_one_before_is_taken(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "state"
    write_checkpoint(path, {"number": 1})
    write_checkpoint(path, {"number": 2})
    content = bytearray(path.read_bytes())
    content[-1] ^= damage == "flip"
    path.write_bytes({"cut": content[:-3], "flip": content, "empty": b"", "foreign": b"x" * 200}[damage])
    with pytest.raises(CheckpointError):
        read_checkpoint(path)
    state, problems = newest_checkpoint(path)
    assert state == {"number": 1}
    assert len(problems) == 1


@pytest.mark.parametrize("step", ["fsync", "first rename", "second rename"])
def test_a_crash_between_any_two_steps_leaves_a_whole_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    path = tmp_path / "state"
    write_checkpoint(path, {"number": 1})
    renamed = []

    def rename(self: Path, target: Path) -> None:
        renamed.append(target)
        if step == ("first rename", "second rename")[len(renamed) - 1]:
            raise KeyboardInterrupt
        os.rename(self, target)  # noqa: PTH104 - Path.rename is what is replaced

    def fsync(_: int) -> None:
        if step == "fsync":
            raise KeyboardInterrupt

    monkeypatch.setattr(Path, "rename", rename)
    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(KeyboardInterrupt):
        write_checkpoint(path, {"number": 2})
    monkeypatch.undo()
    assert newest_checkpoint(path) == ({"number": 1}, [])


def test_there_is_none_at_first(tmp_path: Path) -> None:
    assert newest_checkpoint(tmp_path / "state") == (None, [])
    assert previous(tmp_path / "state").name == "state.previous"
