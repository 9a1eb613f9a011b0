"""The jars of Apache Kafka, locked by coordinate and SHA-256 in kafka_jars.lock, fetched once into the user's cache.

The list is org.apache.kafka:kafka_2.13 with all it depends on, and slf4j-simple, which brings its warnings to stderr.
A lock spares the walk through 45 POMs at the first start (14 of 22 s measured) and pins the bytes that run.
"""

import hashlib
import os
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import requests
import structlog

from streams.errors import StartError

log = structlog.get_logger()

VERSION = "4.3.0"
LOCK = Path(__file__).with_suffix(".lock")
DOWNLOADS = 8


def default_cache() -> Path:
    """Return the user's cache folder of Headrace."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "headrace"


def kafka_jars(cache: Path) -> Path:
    """Return the folder with Kafka's jars, downloaded when it is not there.

    Raises:
        StartError: the jars cannot be fetched or written, or are not what they should be.
    """
    folder = cache / f"kafka-{VERSION}"
    if folder.is_dir():
        return folder
    log.info("kafka-downloading", version=VERSION, folder=str(folder))
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as scratch:
            _download(Path(scratch))
            with suppress(FileExistsError, shutil.Error):  # another process was quicker
                (Path(scratch) / "jars").rename(folder)
    except (requests.RequestException, RuntimeError) as exc:
        raise StartError(
            f"Kafka's jars cannot be downloaded ({_short(exc)}); check the network, or name a running Kafka in "
            "HEADRACE_BROKER."
        ) from exc
    except OSError as exc:
        raise StartError(f"Kafka's jars cannot be written to {cache} ({exc.strerror}); make room there.") from exc
    return folder


def _download(scratch: Path) -> None:
    from jgo.maven import MavenContext

    maven = MavenContext(repo_cache=scratch / "maven")
    jars = scratch / "jars"
    jars.mkdir(mode=0o755)
    locked = [line.split() for line in LOCK.read_text(encoding="utf-8").splitlines()]

    def fetch(coordinate: str, sha256: str) -> None:
        group, artifact, version = coordinate.split(":")
        path = maven.project(group, artifact).at_version(version).artifact().resolve()
        if hashlib.sha256(path.read_bytes()).hexdigest() != sha256:
            raise RuntimeError(f"{coordinate} is not the file that was locked")
        path.rename(jars / path.name)

    with ThreadPoolExecutor(DOWNLOADS) as pool:
        list(pool.map(fetch, *zip(*locked, strict=True)))


def _short(exc: Exception) -> str:
    return type(exc).__name__ if isinstance(exc, requests.RequestException) else str(exc)
