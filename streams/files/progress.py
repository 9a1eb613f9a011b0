"""replays -> how far each came, in a small file of its own: what --resume goes on from.

A file is known by its content (see readers), so progress is found again under another name, and in a file that has
grown since. Nothing of it is in the events: files with their own ids are resumed as well.
"""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from streams.files.readers import known_mark

_KEPT: Final = 200
"""Files of progress; older ones are removed."""


class Progress(msgspec.Struct, frozen=True):
    """How far one replay came."""

    target: str
    """Cluster and topic."""
    plan: str
    """How the file was read: another mapping, order or span of time makes other events of it."""
    mark: str
    """Of the last row that was read."""
    points: dict[int, tuple[int, int]]
    """Partition to the place among the rows of the last one that it acknowledged, and that one's offset."""
    partitions: int
    finished: bool
    at: int = 0
    """When it was written, epoch milliseconds."""
    name: str = ""
    """Of the file that holds it; one that was gone on from keeps its own."""


_DECODER: Final = msgspec.json.Decoder(Progress, strict=False)


class ProgressLog:
    """The files of progress in one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def find(self, path: Path, target: str, plan: str) -> Progress | None:
        """Return the progress of a file whatever its name, the farthest one; None when nothing is known.

        Raises:
            StartError: the file cannot be read.
        """
        known = {found.mark: found for found in self._all() if (found.target, found.plan) == (target, plan)}
        return known.get(known_mark(path, known))

    def save(self, progress: Progress) -> Progress:
        """Write it, whole or not at all; return it as it was written."""
        now = time.time_ns()
        progress = msgspec.structs.replace(progress, at=now // 1_000_000, name=progress.name or f"{now}.json")
        self._folder.mkdir(parents=True, exist_ok=True)
        scratch = self._folder / f"{progress.name}.new"
        with scratch.open("wb") as file:
            file.write(msgspec.json.encode(progress))
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(self._folder / progress.name)
        return progress

    def tidy(self) -> None:
        """Remove what is older than the newest few."""
        for path in sorted(self._folder.glob("*.json"))[:-_KEPT]:
            path.unlink(missing_ok=True)

    def _all(self) -> Iterator[Progress]:
        for path in sorted(self._folder.glob("*.json")):
            try:
                yield _DECODER.decode(path.read_bytes())
            except (OSError, msgspec.MsgspecError):
                continue  # removed meanwhile, or of another release
