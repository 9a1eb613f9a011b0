"""A worker has the same name in its group as long as it has its disk, its address and its release."""

from pathlib import Path

import pytest

from streams.errors import StartError
from streams.kafka import membership
from streams.kafka.membership import member_name, take_folder

HERE = "http://127.0.0.1:8080"


def test_a_worker_on_its_disk_keeps_its_name_which_begins_with_its_id(tmp_path: Path) -> None:
    name = member_name(tmp_path, "worker-1", HERE)
    assert name.startswith("worker-1-")
    assert member_name(tmp_path, "worker-1", HERE) == name


def test_another_disk_address_or_release_is_another_member(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = tmp_path / "other"
    other.mkdir()
    names = [member_name(tmp_path, "w", HERE), member_name(other, "w", HERE), member_name(tmp_path, "w", "http://b:1")]
    monkeypatch.setattr(membership, "version", lambda _: "99")
    names.append(member_name(tmp_path, "w", HERE))
    assert len(set(names)) == 4


def test_two_workers_do_not_share_a_folder(tmp_path: Path) -> None:
    take_folder(tmp_path / "a" / "worker-1")
    with pytest.raises(StartError, match="HEADRACE_WORKER_ID"):
        take_folder(tmp_path / "a" / "worker-1")
    take_folder(tmp_path / "a" / "worker-2")


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StartError, match=r"file/worker-1 cannot be made: Not a directory; set HEADRACE_DATA_DIR"):
        take_folder(tmp_path / "file" / "worker-1")
