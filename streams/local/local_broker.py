"""A real Apache Kafka on this machine: one node in KRaft mode, its data in a folder, no Docker and no Java needed."""

import os
import shutil
import signal
import subprocess
from base64 import urlsafe_b64encode
from contextlib import suppress
from pathlib import Path
from typing import Self

import psutil
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from streams.errors import StartError
from streams.folder_lock import take_lock
from streams.local.java import find_java
from streams.local.kafka_jars import default_cache, kafka_jars
from streams.local.processes import GRACE_SECONDS, Child, free_port, is_listening, keep_running, stop_signals

HOST = "127.0.0.1"
MIN_FREE_BYTES = 512 * 2**20
# Measured on 2 cores: the serial collector starts sooner and holds less than G1.
JVM = ("-Xms64m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:-UsePerfData", "-XX:+ExitOnOutOfMemoryError")

# Kafka's own defaults, so that what runs here meets the limits that it meets elsewhere (a record of 1 MiB, above all),
# but for three things. One node: the replication factors. A start in seconds: no delay of the first rebalance; 4
# partitions of the internal topics, not 50, for which the first group and the first transaction would wait; a killed
# broker may register again when the session of the one before has ended, 9 s by default and 2 here; small buffers and
# few threads. And no topic is made by being asked for: a name that is wrong is then seen to be wrong.
PROPERTIES = """\
process.roles=broker,controller
node.id=1
listeners=PLAINTEXT://{host}:{port},CONTROLLER://{host}:{controller_port}
controller.listener.names=CONTROLLER
controller.quorum.voters=1@{host}:{controller_port}
log.dirs={data}
auto.create.topics.enable=false
group.initial.rebalance.delay.ms=0
offsets.topic.num.partitions=4
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
log.cleaner.dedupe.buffer.size=16777216
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=400
num.network.threads=2
num.io.threads=4
"""


class LocalBroker:
    """Starts and stops Kafka; what was written survives a restart.

    Args:
        folder: holds the data, the configuration and the log.
        port: of the listener on the loopback address.
        cache: holds the jars; the user's cache folder by default.
    """

    name = "Kafka"

    def __init__(self, folder: Path, port: int, cache: Path | None = None) -> None:
        self.folder = folder
        self.port = port
        self._cache = cache or default_cache()
        self._child: Child | None = None
        self._lock: int | None = None

    @property
    def address(self) -> str:
        """host:port for clients."""
        return f"{HOST}:{self.port}"

    @property
    def pid(self) -> int | None:
        """Of the broker's process, None when it was not started."""
        return self._child.pid if self._child else None

    def start(self, deadline_seconds: float = 60.0) -> None:
        """Return when the broker answers.

        Raises:
            StartError: no Java, no jars, no room, a busy port, a folder in use, or no answer in time.
        """
        self._take_folder()
        try:
            refuse_full_disk(self.folder)
            self._refuse_busy_port()
            java, jars = find_java(), kafka_jars(self._cache)  # which may take minutes, and so comes last
            properties = self._configure(java, jars)
            self._child = Child(
                self.name,
                [*_command(java, jars), "kafka.Kafka", str(properties)],
                log_file=self.folder / "broker.log",
            )
            self._remember(self._child.pid)
            self._child.wait_until(self._answers, deadline_seconds)
        except BaseException as exc:
            self._explain_full_disk(exc)
            self.stop()
            raise

    def stop(self, grace_seconds: float = GRACE_SECONDS) -> None:
        """End the broker cleanly."""
        if self._child:
            self._child.stop(grace_seconds)
            (self.folder / "broker.pid").unlink(missing_ok=True)
            self._child = None
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def healthy(self) -> bool:
        """Whether the process lives; a full disk ends it for good.

        Raises:
            StartError: the disk is full.
        """
        if self._child and self._child.running:
            return True
        self._explain_full_disk(None)
        return False

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _take_folder(self) -> None:
        """Lock the folder for as long as this process lives, and end a broker that a dead parent left in it."""
        if self._lock is not None:
            return
        try:
            lock = take_lock(self.folder / "broker.lock")
        except OSError as exc:
            raise StartError(f"Folder {self.folder} cannot be written ({exc.strerror}); choose another.") from exc
        if lock is None:
            raise StartError(
                f"A broker is already running on {self.folder}; use it, stop it, or choose another folder."
            )
        self._lock = lock
        self._end_leftover()

    def _end_leftover(self) -> None:
        with suppress(FileNotFoundError, ValueError, psutil.NoSuchProcess, ProcessLookupError):
            pid, started = (self.folder / "broker.pid").read_text().split()
            leftover = psutil.Process(int(pid))
            if leftover.create_time() == float(started):  # otherwise the number was given to a stranger
                os.killpg(leftover.pid, signal.SIGTERM)
                _, alive = psutil.wait_procs([leftover], timeout=10)
                if alive:
                    os.killpg(leftover.pid, signal.SIGKILL)
                    psutil.wait_procs(alive, timeout=10)

    def _remember(self, pid: int) -> None:
        with suppress(psutil.NoSuchProcess):
            (self.folder / "broker.pid").write_text(f"{pid} {psutil.Process(pid).create_time()}")

    def _refuse_busy_port(self) -> None:
        if is_listening(HOST, self.port):
            raise StartError(
                f"Port {self.port} is in use; stop what listens there (a Kafka that runs already can be used as it is) "
                "or set another port in HEADRACE_BROKER."
            )

    def _configure(self, java: Path, jars: Path) -> Path:
        """Write the properties; the first time, give the folder its cluster id."""
        data = self.folder / "data"
        properties = self.folder / "server.properties"
        properties.write_text(
            PROPERTIES.format(host=HOST, port=self.port, controller_port=free_port(HOST), data=data), encoding="utf-8"
        )
        if not (data / "meta.properties").exists():
            cluster_id = urlsafe_b64encode(b"headrace" + os.urandom(8)).decode().rstrip("=")  # never begins with "-"
            command = [
                *_command(java, jars),
                "kafka.tools.StorageTool",
                "format",
                "-t",
                cluster_id,
                "-c",
                str(properties),
            ]
            done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own command
            if done.returncode:
                last = next(reversed((done.stderr or done.stdout).strip().splitlines()), "")
                raise StartError(f"Kafka cannot prepare {data}: {last}; empty or change the folder.")
        return properties

    def _answers(self) -> bool:
        if not is_listening(HOST, self.port):
            return False
        with suppress(KafkaException):
            admin = AdminClient({"bootstrap.servers": self.address, "log_level": 0})
            return bool(admin.list_topics(timeout=5).brokers)
        return False

    def _explain_full_disk(self, cause: BaseException | None) -> None:
        if self._child and "No space left on device" in self._child.output():
            raise StartError(f"The disk of {self.folder} is full, so Kafka stopped; make room.") from cause


def run_broker(folder: Path, port: int) -> None:
    """Run the broker until SIGTERM or SIGINT, restarting it when it dies.

    Raises:
        StartError: it cannot run; one sentence.
    """
    with stop_signals() as stop:
        keep_running(LocalBroker(folder, port), stop)


def refuse_full_disk(folder: Path) -> None:
    """Look whether Kafka has room.

    Raises:
        StartError: it has not.
    """
    free = shutil.disk_usage(folder).free
    if free < MIN_FREE_BYTES:
        raise StartError(
            f"The disk of {folder} is full: {free >> 20} MB are free and Kafka wants {MIN_FREE_BYTES >> 20}; make room "
            "or set HEADRACE_DATA_DIR to another disk."
        )


def _command(java: Path, jars: Path) -> list[str]:
    return [
        str(java),
        *JVM,
        "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
        "-cp",
        f"{jars}/*",
    ]
