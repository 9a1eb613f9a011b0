"""A child ends with its parent, whatever ends the parent, and so does all that the child started."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from streams.errors import StartError
from streams.local.processes import Child, free_port, is_listening

# Prints the number of a grandchild, which ignores polite requests as the child does.
STUBBORN = "trap '' TERM; (trap '' TERM; exec sleep 60) & echo $!; wait"

PARENT = """
import sys, time, pathlib
from streams.local.processes import Child
child = Child("stubborn", ["/bin/sh", "-c", sys.argv[1]], log_file=pathlib.Path(sys.argv[2]))
child.wait_until(lambda: child.output().strip() != "", 10)
print(child.pid, child.output().strip(), flush=True)
time.sleep(60)
"""


def eventually(holds: Callable[[], bool], seconds: float = 15) -> bool:
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_a_child_that_ignores_the_request_is_killed_with_its_own_children(tmp_path: Path) -> None:
    child = Child("stubborn", ["/bin/sh", "-c", STUBBORN], log_file=tmp_path / "log")
    child.wait_until(lambda: child.output().strip() != "", 10)
    grandchild = int(child.output())

    child.stop(grace_seconds=0.1)

    assert not child.running
    assert eventually(lambda: gone(grandchild), seconds=1)


def test_nothing_survives_a_parent_that_was_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-c", PARENT, STUBBORN, str(tmp_path / "log")]
    parent = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert parent.stdout
    child, grandchild = map(int, parent.stdout.readline().split())

    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()

    assert eventually(lambda: gone(child) and gone(grandchild))


def test_a_child_that_ends_at_once_is_reported_with_its_last_words(tmp_path: Path) -> None:
    child = Child("Kafka", ["/bin/sh", "-c", "echo no room >&2; exit 3"], log_file=tmp_path / "log")
    with pytest.raises(StartError, match="Kafka ended with exit code 3: no room"):
        child.wait_until(lambda: False, 10)


def test_a_child_that_never_gets_ready_is_stopped_at_the_deadline(tmp_path: Path) -> None:
    child = Child("Kafka", ["sleep", "60"], log_file=tmp_path / "log")
    with pytest.raises(StartError, match=r"Kafka was not ready after 0\.1 s"):
        child.wait_until(lambda: False, 0.1)
    assert gone(child.pid)


def test_the_output_of_an_earlier_run_is_not_taken_for_this_one(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("No space left on device\n")
    child = Child("Kafka", ["true"], log_file=tmp_path / "log")
    assert eventually(lambda: not child.running)
    assert child.output() == ""
    child.stop()


def test_a_free_port_has_no_listener() -> None:
    assert not is_listening("127.0.0.1", free_port())
