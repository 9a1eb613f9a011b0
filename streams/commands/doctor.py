"""this machine and what runs on it -> findings, each with what to do about it."""

import platform
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.markup import escape

from streams.errors import StartError
from streams.extras import FOR, MODULES
from streams.local.processes import is_listening
from streams.settings import Settings

_MIN_DISK_BYTES: Final = 2 * 2**30
_MIN_SHM_BYTES: Final = 256 * 2**20
_SECONDS: Final = 3.0
_OPEN_SECONDS: Final = 10.0
"""A transaction that is open for so long holds up whoever reads behind it."""
_PACKAGES: Final = (
    "headrace",
    "faust-streaming",
    "confluent-kafka",
    "cramjam",
    "kafka-python",
    "rocksdict",
    "tritonclient",
)
_KEYED_BY_USER: Final = ("interactions", "impressions", "requests")
_LOCAL_HOSTS: Final = ("127.0.0.1", "localhost", "::1")


class State(Enum):
    """How a finding is to be read."""

    OK = "green"
    IDLE = "yellow"
    """Does not run here now, which may be as it should be."""
    PROBLEM = "red"


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's."""

    name: str
    state: State
    found: str
    remedy: str = ""


def show_checks(settings: Settings) -> int:
    """Print every finding as it is made; return 1 when there is a problem."""
    console = Console(highlight=False, soft_wrap=True)
    worst = 0
    for finding in examine(settings):
        word = f"[{finding.state.value}]{finding.state.name.lower():8}[/]"
        remedy = f"\n{'':18}→ {finding.remedy}" if finding.remedy else ""
        console.print(f"{word} {finding.name:8} {escape(finding.found + remedy)}")
        worst |= finding.state is State.PROBLEM
    return worst


def examine(settings: Settings) -> Iterator[Finding]:
    """Yield the findings: this machine first, then what it runs or reaches."""
    yield _python()
    yield _packages()
    yield _extras()
    yield _java()
    yield _disk(settings.data_dir)
    yield _shared_memory()
    kafka = _kafka(settings)
    yield kafka
    if kafka.state is State.OK:
        yield _topics(settings)
        yield _transactions(settings)
        yield _producers(settings)
    yield _triton(settings)
    yield _worker(settings)
    yield _learner(settings)


def _python() -> Finding:
    found = f"Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    return Finding("python", State.OK, found)


def _packages() -> Finding:
    found, missing = [], []
    for name in _PACKAGES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            missing.append(name)
    if missing:
        return Finding("packages", State.PROBLEM, f"{', '.join(missing)} missing", "run `make install`.")
    return Finding("packages", State.OK, ", ".join(found))


def _extras() -> Finding:
    """Look for what only a learner, and only local servers need: a machine of workers has none of it."""
    absent = [extra for extra, modules in MODULES.items() if not all(map(find_spec, modules))]
    if absent:
        remedy = "; ".join(f"`pip install 'headrace[{extra}]'` to run {FOR[extra]} here" for extra in absent)
        return Finding("extras", State.IDLE, f"{' and '.join(absent)} not installed", f"{remedy}.")
    return Finding("extras", State.OK, ", ".join(MODULES))


def _java() -> Finding:
    from streams.local.java import find_java

    try:
        return Finding("java", State.OK, str(find_java()))
    except StartError as exc:
        return Finding("java", State.IDLE, str(exc), "it is needed for the local Kafka only.")


def _disk(folder: Path) -> Finding:
    there = next(parent for parent in (folder, *folder.parents) if parent.exists())
    free = shutil.disk_usage(there).free
    found = f"{free / 2**30:.1f} GB free for {folder}"
    if free < _MIN_DISK_BYTES:
        return Finding("disk", State.PROBLEM, found, "make room, or set HEADRACE_DATA_DIR to another disk.")
    return Finding("disk", State.OK, found)


def _shared_memory() -> Finding:
    folder = Path("/dev/shm")  # noqa: S108 - looked at, not written
    if not folder.is_dir():
        return Finding("shm", State.PROBLEM, "no /dev/shm", "Triton's python backend needs it; mount a tmpfs there.")
    free = shutil.disk_usage(folder).free
    found = f"{free / 2**20:,.0f} MB free in {folder}"
    if free < _MIN_SHM_BYTES:
        return Finding("shm", State.PROBLEM, found, "give it more: in a container, --shm-size=1g.")
    return Finding("shm", State.OK, found)


def _kafka(settings: Settings) -> Finding:
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import AdminClient

    from streams.kafka.clients import librdkafka_config

    if not any(_listens(address) for address in settings.broker.split(",")):
        return _silent("kafka", settings.broker, "`headrace broker` starts one here, HEADRACE_BROKER names another.")
    try:
        cluster = AdminClient(librdkafka_config(settings)).list_topics(timeout=_SECONDS)
    except KafkaException as exc:
        remedy = "it listens, but is it Kafka? Check HEADRACE_BROKER and the HEADRACE_KAFKA__… security settings."
        return Finding("kafka", State.PROBLEM, f"{settings.broker}: {exc.args[0].str()}", remedy)
    return Finding("kafka", State.OK, f"{settings.broker}: {len(cluster.brokers)} broker(s)")


def _topics(settings: Settings) -> Finding:
    from streams.kafka.topic_check import risks
    from streams.kafka.topic_setup import ensure_topics

    try:
        states = ensure_topics(settings, create=False, timeout_seconds=_SECONDS)
    except StartError as exc:
        return Finding("topics", State.PROBLEM, str(exc))
    missing = [state.name for state in states if not state.partitions]
    wrong = [f"{state.name}: {state.problem}" for state in states if state.problem and state.partitions]
    if wrong:
        return Finding("topics", State.PROBLEM, " ".join(wrong))
    if missing:
        return Finding("topics", State.IDLE, f"{len(missing)} are missing", "`headrace topics` or any role makes them.")
    if told := risks(states):
        return Finding("topics", State.IDLE, " ".join(told))
    return Finding("topics", State.OK, f"{len(states)} as they should be")


def _transactions(settings: Settings) -> Finding:
    from streams.kafka.open_transactions import open_transactions

    try:
        held_up = open_transactions(settings, _OPEN_SECONDS)
    except StartError as exc:
        return Finding("held up", State.IDLE, str(exc))
    if held_up:
        remedy = "commit or abort them there; Kafka aborts each when its own timeout is over."
        return Finding("held up", State.PROBLEM, " ".join(map(str, held_up)), remedy)
    return Finding("held up", State.OK, f"no transaction has been open for {_OPEN_SECONDS:g} s")


def _producers(settings: Settings) -> Finding:
    from streams.kafka.misplaced import REMEDY, samples

    try:
        found = samples(settings, _KEYED_BY_USER)
    except StartError as exc:
        return Finding("keys", State.IDLE, str(exc))
    wrong = [f"{s.misplaced} of the newest {s.looked} records of {s.topic}" for s in found if s.misplaced]
    if wrong:
        told = f"{' and '.join(wrong)} lie in another partition than their user's, where nobody looks for them"
        return Finding("keys", State.PROBLEM, f"{told}.", REMEDY)
    return Finding("keys", State.OK, f"the newest {sum(s.looked for s in found)} records lie where their users are")


def _triton(settings: Settings) -> Finding:
    from tritonclient.grpc import InferenceServerClient
    from tritonclient.utils import InferenceServerException

    from streams.triton.credentials import credentials
    from streams.triton.scorer import channel_options

    url = settings.triton.url
    if not _listens(url):
        return _silent("triton", url, "`headrace triton` starts one here, HEADRACE_TRITON__URL names another.")
    try:
        with InferenceServerClient(url, creds=credentials(settings.triton), channel_args=channel_options()) as client:
            ready = client.is_model_ready("sequence", client_timeout=_SECONDS)
            server = client.get_server_metadata(client_timeout=_SECONDS).version
    except InferenceServerException as exc:
        remedy = "it listens, but is it Triton's gRPC port? Check HEADRACE_TRITON__URL and the __TLS_… settings."
        return Finding("triton", State.PROBLEM, f"{url}: {exc.message()}", remedy)
    except StartError as exc:
        return Finding("triton", State.PROBLEM, str(exc), "correct the path, or unset it.")
    if not ready:
        remedy = "its log says why; lists come from co-visits meanwhile."
        return Finding("triton", State.PROBLEM, f"{url}: Triton {server}, model `sequence` is not ready", remedy)
    return Finding("triton", State.OK, f"{url}: Triton {server}, model `sequence` ready")


def _worker(settings: Settings) -> Finding:
    from streams.commands.ask import worker_address

    address = worker_address(settings.http)
    return _http("worker", address, "/readyz", f"{settings.http.host}:{settings.http.port}", "HEADRACE_HTTP__PORT")


def _learner(settings: Settings) -> Finding:
    listener = f"{settings.metrics_host}:{settings.learner_metrics_port}"
    return _http("learner", f"http://{listener}", "/metrics", listener, "HEADRACE_LEARNER_METRICS_PORT")


def _http(role: str, address: str, path: str, listener: str, setting: str) -> Finding:
    import httpx

    if not _listens(listener):
        return Finding(role, State.IDLE, f"nothing listens on {listener}", f"`headrace {role}` starts one.")
    try:
        response = httpx.get(address + path, timeout=_SECONDS, trust_env=False, verify=False)  # noqa: S501 - no secret is sent
    except httpx.HTTPError as exc:
        return Finding(role, State.PROBLEM, f"{listener}: {exc}", f"a stranger has the port? Set {setting}.")
    if response.is_error:
        body = response.text[:200]
        ours = "detail" in body
        remedy = "wait, or see its log." if ours else f"a stranger has the port? Set {setting}."
        return Finding(role, State.PROBLEM, f"{address}{path}: {response.status_code} {body}", remedy)
    return Finding(role, State.OK, f"{address}{path} answers")


def _silent(name: str, address: str, remedy: str) -> Finding:
    here = address.rpartition(":")[0] in _LOCAL_HOSTS
    return Finding(name, State.IDLE if here else State.PROBLEM, f"nothing listens on {address}", remedy)


def _listens(address: str) -> bool:
    host, _, port = address.strip().rpartition(":")
    return port.isdigit() and is_listening(host.strip("[]"), int(port))
