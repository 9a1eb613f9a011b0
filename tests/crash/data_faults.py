"""What producers, the cluster and the disk do to a running deployment, each fault and what ends it."""

import os
import random
import shutil
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from streams.kafka.clients import librdkafka_config
from streams.settings import Settings
from tests.crash.feed import Feed

OPEN_SECONDS: Final = (3.0, 9.0)
FULL_SECONDS: Final = (3.0, 8.0)
CODECS: Final = ("zstd", "lz4", "snappy", "gzip", "uncompressed", "producer")
_SMALL_DISK_BYTES: Final = 2 * 1024**3
"""The local broker asks for a quarter of it before it starts."""
_CHANGED_TOPICS: Final = ("interactions", "examples", "recommendations", "items", "workers-histories-changelog")
_ADMIN_SECONDS: Final = 10.0

Later = Callable[[float, Callable[[], bool]], None]
"""Takes the seconds after which to begin trying, and what to try until it returns True."""


class DataFaults:
    """Faults by name: each method does one and says whether it applied."""

    def __init__(self, settings: Settings, feed: Feed, rng: random.Random, later: Later) -> None:
        self._settings = settings
        self._feed = feed
        self._rng = rng
        self._later = later
        self._filler = settings.data_dir / "filler"

    def hot_user(self) -> bool:
        """One user has fifteen thousand events in one fetch."""
        self._feed.hot_user()
        return True

    def oversized_record(self) -> bool:
        """An event of .9 MB that is right, and one of 1 MB that is not."""
        self._feed.large_records()
        return True

    def codec_change(self) -> bool:
        """A topic's compression changes; the broker compresses anew whatever is sent."""
        name, codec = self._rng.choice(_CHANGED_TOPICS), self._rng.choice(CODECS)
        entry = ConfigEntry("compression.type", codec, incremental_operation=AlterConfigOpType.SET)
        resource = ConfigResource(ResourceType.TOPIC, self._settings.topics.named(name), incremental_configs=[entry])
        try:
            admin = AdminClient(librdkafka_config(self._settings))
            for future in admin.incremental_alter_configs([resource]).values():
                future.result(_ADMIN_SECONDS)
        except (KafkaException, TimeoutError):  # it is away
            return False
        return True

    def aborted_transaction(self) -> bool:
        """Events are sent and taken back."""
        with suppress(KafkaException):
            self._feed.abort()
            return True
        return False

    def open_transaction(self) -> bool:
        """Events are sent, and for a while nobody knows whether they count."""
        try:
            transaction = self._feed.begin_open()
        except KafkaException:
            return False
        self._later(self._rng.uniform(*OPEN_SECONDS), transaction.commit)
        return True

    def full_disk(self) -> bool:
        """The disk under broker, worker, learner and their logs is full for a while; needs `small_disk`."""
        if not self._settings.data_dir.is_mount() or self._filler.exists():
            return False
        with self._filler.open("wb") as filler:
            while free := shutil.disk_usage(self._settings.data_dir).free:  # others write beside
                with suppress(OSError):
                    os.posix_fallocate(filler.fileno(), filler.tell(), free)
                filler.seek(0, os.SEEK_END)
        self._later(self._rng.uniform(*FULL_SECONDS), self._make_room)
        return True

    def _make_room(self) -> bool:
        self._filler.unlink(missing_ok=True)
        return True


def small_disk(folder: Path) -> bool:
    """Put a small disk in memory under a folder; return whether the machine allows it."""
    mount = shutil.which("mount")
    options = ["-t", "tmpfs", "-o", f"size={_SMALL_DISK_BYTES}", "tmpfs", str(folder)]
    return bool(mount) and not subprocess.run([str(mount), *options], capture_output=True, check=False).returncode


def take_disk_away(folder: Path) -> None:
    """Unmount what `small_disk` mounted."""
    if folder.is_mount():
        subprocess.run([str(shutil.which("umount")), "-l", str(folder)], capture_output=True, check=False)
