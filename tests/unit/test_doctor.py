"""The doctor tells a part that does not run here from one that is out of reach, and says what to do."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from streams.commands.doctor import Finding, State, examine
from streams.local.processes import free_port
from streams.settings import HttpSettings, Settings, TritonSettings


@pytest.fixture
def stranger() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def findings(folder: Path, **changes: object) -> dict[str, Finding]:
    nobody = {
        "data_dir": folder / "data", "broker": f"127.0.0.1:{free_port()}", "learner_metrics_port": free_port(),
        "triton": TritonSettings(url=f"127.0.0.1:{free_port()}"), "http": HttpSettings(port=free_port()),
    }  # fmt: skip
    return {finding.name: finding for finding in examine(Settings(**(nobody | changes)))}  # type: ignore[arg-type]


def test_what_does_not_run_on_this_machine_is_idle_with_its_command(tmp_path: Path) -> None:
    found = findings(tmp_path)
    for name in ("kafka", "triton", "worker", "learner"):
        assert found[name].state is State.IDLE
        assert "`headrace" in found[name].remedy
    assert "topics" not in found
    for name in ("python", "packages", "extras", "java", "disk", "shm"):
        assert found[name].state is State.OK, found[name]


def test_an_external_kafka_out_of_reach_is_a_problem(tmp_path: Path) -> None:
    assert findings(tmp_path, broker="192.0.2.1:9")["kafka"].state is State.PROBLEM


@pytest.mark.timeout(60)
def test_a_stranger_on_a_port_is_a_problem(tmp_path: Path, stranger: int) -> None:
    found = findings(tmp_path, broker=f"127.0.0.1:{stranger}", learner_metrics_port=stranger)
    assert found["kafka"].state is State.PROBLEM
    assert "is it Kafka?" in found["kafka"].remedy
    assert found["learner"].state is State.PROBLEM
