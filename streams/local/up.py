"""All four roles on this machine: which of them run here, on which ports, and until when."""

import time
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from tempfile import TemporaryFile
from typing import Final

from rich.console import Console

from streams.errors import StartError
from streams.extras import require
from streams.local.processes import free_port, is_listening, stop_signals
from streams.local.supervisor import Role, Supervisor, child_environment
from streams.settings import Settings, TritonSettings

_LOCAL: Final = ("127.0.0.1", "localhost")
_READY_SECONDS: Final = 120.0
_CHECK_SECONDS: Final = 0.25


@dataclass(frozen=True)
class Plan:
    """What `up` runs."""

    settings: Settings
    """With the ports that were found."""
    roles: tuple[Role, ...]

    @property
    def api(self) -> str:
        """Base URL of the worker."""
        return f"http://{self.settings.http.host}:{self.settings.http.port}"

    @property
    def metrics(self) -> dict[str, str]:
        """Where each role's metrics are."""
        return {
            "worker": f"{self.api}/metrics",
            "learner": f"http://{self.settings.metrics_host}:{self.settings.learner_metrics_port}/metrics",
        }

    def supervisor(self) -> Supervisor:
        """Return what runs the plan."""
        s = self.settings
        environment = {
            "HEADRACE_BROKER": s.broker,
            "HEADRACE_TRITON__URL": s.triton.url,
            "HEADRACE_TRITON__METRICS_PORT": str(s.triton.metrics_port),
            "HEADRACE_HTTP__PORT": str(s.http.port),
            "HEADRACE_LEARNER_METRICS_PORT": str(s.learner_metrics_port),
            "HEADRACE_DATA_DIR": str(s.data_dir),
        }
        return Supervisor(self.roles, child_environment(environment), s.data_dir / "logs")


def plan(settings: Settings, *, learner_arguments: tuple[str, ...] = (), own_servers: bool = False) -> Plan:
    """Return which roles run here and where they listen.

    A Kafka or Triton that is elsewhere, or runs here already, is used as it is. Another taken port is replaced.

    Args:
        settings: as the user made them.
        learner_arguments: of the command `headrace learner`.
        own_servers: run a Kafka and a Triton of our own on free ports, whatever runs already.
    """
    broker, broker_here = _server(settings.broker, own=own_servers)
    triton, triton_here = _server(settings.triton.url, own=own_servers)
    settings = settings.model_copy(
        update={
            "broker": broker,
            "triton": settings.triton.model_copy(
                update={"url": triton, "metrics_port": _port("127.0.0.1", settings.triton.metrics_port)}
            ),
            "http": settings.http.model_copy(update={"port": _port(settings.http.host, settings.http.port)}),
            "learner_metrics_port": _port(settings.metrics_host, settings.learner_metrics_port),
        }
    )
    planned = Plan(settings, ())
    learner = planned.metrics["learner"]
    roles = [
        Role("broker", broker, lambda: _kafka_ready(settings), outlives=True) if broker_here else None,
        Role("triton", triton, lambda: _triton_ready(settings.triton)) if triton_here else None,
        Role("worker", planned.api, lambda: _answers(f"{planned.api}/readyz")),
        Role("learner", learner, lambda: _answers(learner), learner_arguments),
    ]
    return Plan(settings, tuple(role for role in roles if role))


def run_up(settings: Settings) -> int:
    """Run all roles until SIGTERM or SIGINT.

    Raises:
        StartError: a role cannot start, or the Kafka that was named does not answer.
    """
    planned = plan(settings)
    if not any(role.name == "broker" for role in planned.roles) and not _kafka_ready(planned.settings):
        raise StartError(
            f"Kafka at {settings.broker} does not answer; correct HEADRACE_BROKER and the HEADRACE_KAFKA__… security "
            "settings, or unset them to have a Kafka started here."
        )
    console = Console(highlight=False, soft_wrap=True)
    supervisor = planned.supervisor()
    with stop_signals() as stop:

        def stopped() -> None:
            if stop.is_set():
                raise _StoppedError

        try:
            prepare(planned)
            supervisor.start()
            began = time.monotonic()
            for role in planned.roles:
                supervisor.wait_until_ready([role.name], _READY_SECONDS, stopped)
                console.print(f"{role.name:8} {role.address:40} ready after {time.monotonic() - began:.1f} s")
            console.print(f"API      {planned.api}/docs\nlogs     {supervisor.logs}\nCtrl-C stops all of it.")
            while not stop.wait(_CHECK_SECONDS):
                supervisor.check()
        except _StoppedError:
            pass
        finally:
            began = time.monotonic()
            supervisor.stop()
            console.print(f"Stopped in {time.monotonic() - began:.1f} s.")
    return 0


def prepare(planned: Plan) -> None:
    """Check what the roles need, then fetch what the local Kafka needs, before anything waits for it.

    Raises:
        StartError: something is missing, or cannot be fetched.
    """
    require(role.name for role in planned.roles)
    _refuse_unwritable(planned.settings.data_dir)
    if any(role.name == "broker" for role in planned.roles):
        from streams.local.java import find_java
        from streams.local.kafka_jars import default_cache, kafka_jars
        from streams.local.local_broker import refuse_full_disk

        find_java()
        refuse_full_disk(planned.settings.data_dir)
        kafka_jars(default_cache())


def _refuse_unwritable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            pass
    except OSError as exc:
        raise StartError(
            f"Folder {folder} cannot be written ({exc.strerror}); correct its permissions, or set HEADRACE_DATA_DIR to "
            "another."
        ) from exc


class _StoppedError(Exception):
    """The user has seen enough while roles were starting."""


def _server(address: str, *, own: bool) -> tuple[str, bool]:
    """Return the address to use and whether the server is ours to start."""
    host, _, port = address.rpartition(":")
    if own:
        return f"127.0.0.1:{free_port()}", True
    return address, host in _LOCAL and not is_listening(host, int(port))


def _port(host: str, port: int) -> int:
    return free_port(host) if port == 0 or is_listening(host, port) else port


def _kafka_ready(settings: Settings) -> bool:
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import AdminClient

    from streams.kafka.clients import librdkafka_config

    if not any(is_listening(*_split(address)) for address in settings.broker.split(",")):
        return False
    try:
        return bool(AdminClient(librdkafka_config(settings)).list_topics(timeout=2).brokers)
    except KafkaException:
        return False


def _triton_ready(triton: TritonSettings) -> bool:
    from tritonclient.grpc import InferenceServerClient
    from tritonclient.utils import InferenceServerException

    from streams.triton.credentials import credentials
    from streams.triton.scorer import channel_options

    if not is_listening(*_split(triton.url)):
        return False
    try:
        with InferenceServerClient(triton.url, creds=credentials(triton), channel_args=channel_options()) as client:
            return bool(client.is_model_ready("sequence", client_timeout=2.0))
    except InferenceServerException:
        return False


def _answers(url: str) -> bool:
    # Not httpx: it reads the certificates of the whole world for each client, and this is asked again and again.
    host, port = _split(url.removeprefix("http://").partition("/")[0])
    connection = HTTPConnection(host, port, timeout=2.0)
    try:
        connection.request("GET", f"/{url.split('/', 3)[3]}")
        return connection.getresponse().status == HTTPStatus.OK
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


def _split(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host, int(port)
