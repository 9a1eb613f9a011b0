"""the worker's folder -> its name in the consumer group: a worker that comes back on its disk is the same member.

Kafka then gives it its partitions back at once: nobody waits until the dead one's session times out, and the partitions
of the others stay where they are. A worker with an empty disk is another member, because by the time that it has
recovered from the changelog a standby has long taken over.
"""

from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from uuid import uuid4

from streams.errors import StartError
from streams.folder_lock import take_lock


def take_folder(folder: Path) -> None:
    """Make the worker's folder, and hold it until the process ends: two members of one name would throw each other out.

    Raises:
        StartError: it cannot be made, or another worker has it.
    """
    try:
        lock = take_lock(folder / "worker.lock")
    except OSError as exc:
        raise StartError(
            f"The worker's folder {folder} cannot be made: {exc.strerror}; set HEADRACE_DATA_DIR."
        ) from exc
    if lock is None:
        raise StartError(
            f"A worker is already running on {folder}; stop it, or give this one a HEADRACE_WORKER_ID of its own."
        )


def member_name(folder: Path, worker_id: str, url: str) -> str:
    """Return what Kafka calls group.instance.id.

    A member of the same name gets what the group's leader had told the one before it, which names the address of every
    worker: one that has moved, or is of another release, is another member.

    Args:
        folder: of the worker's tables.
        worker_id: for people.
        url: where other workers reach this one.
    """
    path = folder / "member"
    if not path.exists():
        scratch = path.with_suffix(".new")
        scratch.write_text(uuid4().hex, encoding="utf-8")
        scratch.rename(path)
    identity = f"{path.read_text(encoding='utf-8')} {url} {version('headrace')}"
    return f"{worker_id}-{sha256(identity.encode()).hexdigest()[:16]}"
