"""Roles that die are started again after a pause, a wrong setting ends all, and stopping leaves nothing."""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from streams.errors import StartError
from streams.local import supervisor as module
from streams.local.supervisor import Role, Supervisor

Start = Callable[..., Supervisor]


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Roles run a shell script instead of `headrace ROLE`."""
    started: list[Supervisor] = []

    def begin(*scripts: str) -> Supervisor:
        shell = tmp_path / "shell"
        shell.write_text('#!/bin/sh\nshift 3\nexec /bin/sh -c "$1"\n')  # python -m streams ROLE script
        shell.chmod(0o755)
        monkeypatch.setattr("sys.executable", str(shell))

        def role(number: int, script: str) -> Role:
            ready = tmp_path / f"ready{number}"
            return Role(f"role{number}", "", ready.exists, (script.replace("READY", str(ready)),))

        roles = tuple(role(number, script) for number, script in enumerate(scripts))
        supervisor = Supervisor(roles, dict(os.environ), tmp_path / "logs")
        started.append(supervisor)
        supervisor.start()
        return supervisor

    yield begin
    for supervisor in started:
        supervisor.stop()


def wait_until(happened: Callable[[], bool], supervisor: Supervisor) -> None:
    deadline = time.monotonic() + 10
    while not happened():
        assert time.monotonic() < deadline
        supervisor.check()
        time.sleep(0.01)


def test_a_role_that_dies_is_started_again_after_a_growing_pause(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_FIRST_PAUSE_SECONDS", 0.05)
    supervisor = start("exit 1")
    supervisor._running["role0"].pause_seconds = 0.05
    wait_until(lambda: supervisor.restarts >= 3, supervisor)
    assert supervisor._running["role0"].pause_seconds == pytest.approx(0.4)


def test_a_wrong_setting_ends_everything_with_its_sentence(start: Start) -> None:
    supervisor = start("sleep 60", "echo 'headrace: Setting HEADRACE_X is wrong.' >&2; exit 2")
    with pytest.raises(StartError, match="role1 cannot start: Setting HEADRACE_X is wrong"):
        wait_until(lambda: False, supervisor)


def test_ready_roles_are_timed_and_a_late_one_is_named(start: Start) -> None:
    supervisor = start("touch READY; sleep 60", "echo thinking; sleep 60")
    assert supervisor.wait_until_ready(["role0"], 10)["role0"] < 10
    with pytest.raises(StartError, match=r"role1 was not ready after 0.3 s: thinking"):
        supervisor.wait_until_ready(["role1"], 0.3)


def test_stopping_leaves_no_process(start: Start) -> None:
    others = set(psutil.Process().children(recursive=True))  # the session's broker and Triton may be up
    supervisor = start("sleep 60 & sleep 60", "trap '' TERM; touch READY; while :; do sleep 0.1; done")
    supervisor.wait_until_ready(["role1"], 10)
    children = set(psutil.Process().children(recursive=True)) - others
    assert len(children) >= 2
    began = time.monotonic()
    supervisor.stop()
    assert time.monotonic() - began < 10
    _, alive = psutil.wait_procs(children, timeout=5)
    assert not [child for child in alive if child.status() != psutil.STATUS_ZOMBIE]
