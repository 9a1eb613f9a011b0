"""One process a folder: a lock that ends with the process, however it ends."""

import fcntl
import os
from pathlib import Path


def take_lock(path: Path) -> int | None:
    """Make the folder of a lock file and take the lock; return what holds it while it is open, None when it is taken.

    Raises:
        OSError: the folder or the file cannot be made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = os.open(path, os.O_CREAT | os.O_RDWR, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        return None
    return lock
