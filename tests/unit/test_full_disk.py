"""A full disk is told with the folder's name, whatever words the writer has; other failures stay what they are."""

import errno
import os
from pathlib import Path

import pytest

from streams.errors import StartError
from streams.full_disk import named_when_full


@pytest.mark.parametrize(
    "failure",
    [
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
        OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)),
        Exception("IO error: No space left on device: While appending to file: 000004.log: No space left on device"),
    ],
)
def test_a_full_disk_is_named_by_its_folder(failure: Exception) -> None:
    with (
        pytest.raises(StartError, match=r"^The disk of /data/w1 is full; make room"),
        named_when_full(Path("/data/w1")),
    ):
        raise failure


def test_another_failure_is_left_as_it_is() -> None:
    with pytest.raises(OSError, match="Read-only"), named_when_full(Path("/data/w1")):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))
