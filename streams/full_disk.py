"""A write that found no room -> one sentence that names the folder, whoever wrote."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from streams.errors import StartError

_FULL: Final = ("No space left on device", "Disk quota exceeded", "File too large")
"""By words: RocksDB's errors are bare exceptions, and an OSError of a write names no file."""


@contextmanager
def named_when_full(folder: Path) -> Iterator[None]:
    """Stop a role whose disk is full. What it had not stored it reads from Kafka again, so that nothing is lost.

    Raises:
        StartError: there is no room for what the block wrote.
    """
    try:
        yield
    except Exception as exc:
        if not any(words in str(exc) for words in _FULL):
            raise
        raise StartError(
            f"The disk of {folder} is full; make room, and it goes on where it was when it is started again."
        ) from exc
