"""`headrace up`: all roles on this machine, restarted when they die, gone with Ctrl-C."""

import re
import signal
import time
from pathlib import Path

import httpx
import psutil
import pytest

from streams.records import encode
from tests.builders import interaction
from tests.integration.real_worker import until
from tests.integration.whole_runs import assert_gone, begin, family, mapped_regions

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]


def role_of(process: psutil.Process) -> str:
    command = process.cmdline()
    return command[3] if command[1:3] == ["-m", "streams"] else ""


def answer(url: str) -> httpx.Response | None:
    try:
        found = httpx.get(url, timeout=5, trust_env=False)
    except httpx.TransportError:
        return None
    return found if found.is_success else None


def test_all_roles_answer_and_one_that_is_killed_comes_back_with_what_it_knew(tmp_path: Path) -> None:
    up = begin(tmp_path, "up", HEADRACE_LEARNER__PRESET="tiny")
    assert up.stdout
    line = ""
    while not (found := re.match(r"API +(http://\S+)/docs", line)):
        line = up.stdout.readline()
        assert line, "it ended"
    api = found[1]
    sent = httpx.post(
        f"{api}/v1/events",
        content=encode(interaction()),
        headers={"content-type": "application/json"},
        trust_env=False,
    )
    [position] = sent.json()["positions"]
    history = f"{api}/v1/users/u1/history"
    known = until(lambda: answer(f"{history}?after={position}"))
    children = family(up)
    [worker] = [child for child in children if role_of(child) == "worker"]
    worker.kill()
    assert until(lambda: (again := answer(history)) and again.json() == known.json(), 60)
    children = [*children, *family(up)]
    regions = mapped_regions(children)
    assert regions
    began = time.monotonic()
    up.send_signal(signal.SIGINT)
    output, _ = up.communicate(timeout=30)
    assert time.monotonic() - began < 10
    assert up.returncode == 0, output
    assert_gone(children)
    assert not [region for region in regions if Path(region).exists()]
