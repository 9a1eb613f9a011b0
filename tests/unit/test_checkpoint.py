"""A checkpoint is whole or refused, and a crash while writing leaves one that is whole, with its own part."""

import contextlib
import errno
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load, save

from engine.online import checkpoint
from engine.online.checkpoint import (
    Apart,
    CheckpointError,
    newest_checkpoint,
    previous,
    read_checkpoint,
    write_checkpoint,
)

STATE = {
    "array": np.array([1, 2], np.int32),
    "scalar": np.array(3.5),
    "tensor": torch.tensor([[1.5]]),
    "by number": {0: {"step": torch.tensor(2.0)}},
    "list": [1, "two", None, 2**120],
    "empty": np.zeros((0, 4), np.float32),
    "every other": np.arange(6).reshape(2, 3)[:, ::2],
    "bytes": np.array([True, False, True]),
}


class Crash(BaseException):
    """What no clearing away sees."""


def part(number: int) -> Apart:
    return Apart({"number": number, "array": np.full(3, number)})


def numbers(path: Path) -> tuple[int, int, list[str]]:
    """Number of the newest state and of its part, and what was wrong."""
    state, problems = newest_checkpoint(path)
    assert state
    apart = state["learner"]["anchor"]
    return state["number"], apart.value["number"] if apart else 0, problems


def write(path: Path, number: int, anchor: Apart) -> None:
    write_checkpoint(path, {"number": number, "learner": {"anchor": anchor}})


def parts(path: Path) -> list[Path]:
    return sorted(path.parent.glob("*.part-*"))


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
    assert found["every other"].tolist() == [[0, 2], [3, 5]]
    assert found["bytes"].tolist() == [True, False, True]


def test_after_the_head_it_is_safetensors(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "state", STATE)
    tensors = load((tmp_path / "state").read_bytes()[len(checkpoint._MAGIC) + 64 :])
    assert tensors["/by number/0/step"] == 2
    assert tensors["/array"].tolist() == [1, 2]


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


def test_a_part_is_written_once_and_goes_with_the_last_state_that_names_it(tmp_path: Path) -> None:
    path, first, second = tmp_path / "state", part(10), part(20)
    write(path, 1, first)
    [file] = parts(path)
    written = file.stat().st_ino
    write(path, 2, first)
    state, _ = newest_checkpoint(path)
    assert state
    write(path, 3, state["learner"]["anchor"])  # by whoever goes on from it
    assert [found.stat().st_ino for found in parts(path)] == [written]
    write(path, 4, second)
    assert len(parts(path)) == 2
    write(path, 5, second)
    assert len(parts(path)) == 1
    assert numbers(path) == (5, 20, [])


@pytest.mark.parametrize("damage", ["flip", "gone", "another's"])
def test_a_state_whose_part_is_not_its_own_is_refused_and_the_one_before_is_taken(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "state"
    write(path, 1, part(10))
    [old] = parts(path)
    write(path, 2, part(20))
    [new] = set(parts(path)) - {old}
    content = bytearray(new.read_bytes())
    content[-1] ^= 1
    new.write_bytes(old.read_bytes() if damage == "another's" else content)
    if damage == "gone":
        new.unlink()
    number, anchor, problems = numbers(path)
    assert (number, anchor) == (1, 10)
    assert len(problems) == 1
    old.unlink()
    number, anchor, problems = numbers(path)
    assert (number, anchor) == (2, 0)  # what was learned is worth more than its anchor
    assert len(problems) == 2


def test_a_file_of_an_older_release_is_read(tmp_path: Path) -> None:
    structure = {"dict": [["number", {"plain": 1}], ["learner", {"dict": [["anchor", {"array": "a"}]]}]]}
    body = save({"a": torch.tensor([1, 2])}, {"structure": json.dumps(structure)})
    path = tmp_path / "state"
    path.write_bytes(b"headrace-checkpoint-1\n" + hashlib.sha256(body).digest() + body)
    state, problems = newest_checkpoint(path)
    assert state
    assert (state["number"], state["learner"]["anchor"].tolist(), problems) == (1, [1, 2], [])
    write(path, 2, part(20))
    assert numbers(path) == (2, 20, [])
    assert read_checkpoint(previous(path))["number"] == 1


def test_a_crash_before_any_step_leaves_a_whole_checkpoint_with_its_own_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each crash leaves what the next one begins with."""
    path, anchor = tmp_path / "state", part(0)
    steps, fatal, outcomes = 0, 0, []

    def step(action: Any) -> Any:
        def tried(*args: Any, **kwargs: Any) -> Any:
            nonlocal steps
            steps += 1
            if steps == fatal:
                raise Crash
            return action(*args, **kwargs)

        return tried

    write(path, 0, anchor)
    before = numbers(path)
    for number in range(1, 100):
        if number % 3:
            anchor = part(number)
        steps, fatal = 0, number // 3
        with monkeypatch.context() as patch, contextlib.suppress(Crash):
            for owner, name in ((Path, "rename"), (Path, "unlink"), (Path, "open"), (os, "fsync"), (os, "open")):
                patch.setattr(owner, name, step(getattr(owner, name)))
            write(path, number, anchor)
            assert steps < fatal or not fatal
        after, new = numbers(path), (number, anchor.value["number"], [])
        assert after in (before, new)
        outcomes.append(after == new)
        before = after
    assert outcomes.count(True) > outcomes.count(False) > 20
    assert outcomes[-30:] == [True] * 30  # all steps have been crashed before
    assert len(parts(path)) <= 2


def test_on_a_full_disk_neither_half_a_file_nor_a_part_without_a_state_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, anchor = tmp_path / "state", part(20)
    write(path, 1, part(10))
    before = sorted(tmp_path.iterdir())
    for room in range(3):  # fsync of the part, of its folder, of the state
        left = iter([None] * room)

        def full(_: int, left: Any = left) -> None:
            if next(left, "none") == "none":
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            with pytest.raises(OSError, match="No space left"):
                write(path, 2, anchor)
        assert sorted(tmp_path.iterdir()) == before
        assert numbers(path) == (1, 10, [])
    write(path, 2, anchor)
    assert numbers(path) == (2, 20, [])


def test_there_is_none_at_first(tmp_path: Path) -> None:
    assert newest_checkpoint(tmp_path / "state") == (None, [])
    assert previous(tmp_path / "state").name == "state.previous"
