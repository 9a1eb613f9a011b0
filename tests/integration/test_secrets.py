"""No secret is in anything that a command or a role prints, logs, writes to its folder or answers."""

import json
import os
import subprocess
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path

import httpx
import pytest

from streams.local.processes import Child, free_port
from tests.integration.real_worker import COMMAND, now_ms, until
from tests.integration.secure_broker import PASSWORD, SecureBroker

pytestmark = pytest.mark.integration

TOKEN, KEY, CONTROL = (f"{name}-not-to-be-shown" for name in ("http-token", "pseudonym-key", "control-token"))
AUTHORISED = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture
def environment(secure_broker: SecureBroker, tmp_path: Path) -> dict[str, str]:
    kafka = secure_broker.kafka("SASL_SSL", "PLAIN")
    ports = ("HTTP__PORT", "WORKER_METRICS_PORT", "LEARNER_METRICS_PORT", "TRITON__METRICS_PORT")
    settings = {
        "BROKER": f"127.0.0.1:{secure_broker.ports['SASL_SSL']}",
        "PREFIX": f"{tmp_path.name}.",
        "DATA_DIR": str(tmp_path / "data"),
        "LOG__LEVEL": "debug",
        "LEARNER__PRESET": "tiny",
        "TRITON__URL": f"127.0.0.1:{free_port()}",
        "TRITON__CONTROL_TOKEN": CONTROL,
        "TRITON__SERVE_UNTRAINED": "true",
        "HTTP__TOKENS": json.dumps({TOKEN: ["admin"]}),
        "PSEUDONYM_KEY": KEY,
        **{name: str(free_port()) for name in ports},
        **{f"KAFKA__{name.upper()}": value for name, value in kafka.items()},
    }
    return os.environ | {f"HEADRACE_{name}": value for name, value in settings.items()}


def secrets_in(text: str) -> list[str]:
    return [secret for secret in (TOKEN, KEY, CONTROL, PASSWORD) if secret in text]


def answered(ask: Callable[[], httpx.Response]) -> httpx.Response | None:
    with suppress(httpx.HTTPError):
        return answer if (answer := ask()).is_success else None
    return None


def posted(worker: httpx.Client) -> httpx.Response | None:
    event = {"event_id": "e1", "user_id": "u1", "item_id": "i1", "type": "click", "timestamp": now_ms()}
    return answered(lambda: worker.post("/v1/events", json=event, headers=AUTHORISED))


@pytest.mark.parametrize("command", ["config", "doctor"])
def test_a_command_shows_none(environment: dict[str, str], command: str) -> None:
    done = subprocess.run([*COMMAND, command], env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert len(done.stdout) > 500
    assert secrets_in(done.stdout + done.stderr) == []


def test_the_roles_show_none(environment: dict[str, str], tmp_path: Path) -> None:
    worker = httpx.Client(
        base_url=f"http://127.0.0.1:{environment['HEADRACE_HTTP__PORT']}", timeout=10, trust_env=False
    )
    with ExitStack() as stack:
        stack.enter_context(worker)
        for role in ("triton", "worker", "learner"):
            child = Child(role, [*COMMAND, role], log_file=tmp_path / f"{role}.log", environment=environment)
            stack.callback(child.stop)
        answers = [until(lambda: posted(worker))]
        path, metrics = "/v1/users/u1/recommendations?k=1", environment["HEADRACE_LEARNER_METRICS_PORT"]
        until(lambda: worker.get(path, headers=AUTHORISED).json().get("rung") == "triton")
        answers += [worker.get(path), worker.get(path, headers=AUTHORISED), worker.get("/metrics", headers=AUTHORISED)]
        answers += [until(lambda: answered(lambda: httpx.get(f"http://127.0.0.1:{metrics}/metrics", trust_env=False)))]
        assert [answer.status_code for answer in answers] == [200, 401, 200, 200, 200]
    written = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert {"triton.log", "worker.log", "learner.log"} <= {file.name for file in written}
    for text in (*(answer.text for answer in answers), *(file.read_text(errors="replace") for file in written)):
        assert secrets_in(text) == []
