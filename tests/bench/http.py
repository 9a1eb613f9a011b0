"""HTTP: requests/s and latency of history and recommendations, under wrk (Debian's package `wrk`)."""

import re
import shutil
import subprocess
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from streams.topics import ensure_topics
from tests.bench.latency import NO_MODEL, send
from tests.bench.load import Watch
from tests.bench.stack import Stack, running

CONNECTIONS = (1, 8, 32)
ITEMS = 4000
USERS = 1000
EVENTS = 20_000
SCRIPT = """
local n = 0
request = function()
  n = (n + 7919) % {users}
  return wrk.format("GET", "/v1/users/u" .. n .. "/{what}")
end
done = function(summary, latency, requests)
  io.write(string.format("P50 %d P90 %d P99 %d N %d S %d E %d\\n", latency:percentile(50), latency:percentile(90),
    latency:percentile(99), summary.requests, summary.duration, summary.errors.status + summary.errors.timeout))
end
"""


def run(seconds: int) -> dict[str, Any]:
    """Measure history, recommendations by Triton and by the co-visit rung."""
    if not shutil.which("wrk"):
        raise SystemExit("wrk is missing: apt-get install wrk")
    found: dict[str, Any] = {}
    with running(ITEMS) as stack:
        ensure_topics(stack.settings())
        stack.start("learner")
        stack.start("worker")
        _fill(stack)
        found["recommend_triton"] = _all(stack, "recommendations", seconds)
        stack.stop("worker")
        stack.start("worker", NO_MODEL)
        found["history"] = _all(stack, "history", seconds)
        found["recommend_covisit"] = _all(stack, "recommendations", seconds)
    return found


def _fill(stack: Stack) -> None:
    settings = stack.settings()
    send(settings, EVENTS, USERS)
    watch = Watch(settings.broker, f"{settings.prefix}workers", settings.prefix + "interactions", 4)
    deadline = time.monotonic() + 120
    while watch.committed() < EVENTS and time.monotonic() < deadline:
        time.sleep(0.2)
    watch.close()


def _all(stack: Stack, what: str, seconds: int) -> dict[str, Any]:
    return {str(connections): _wrk(stack.port, what, connections, seconds) for connections in CONNECTIONS}


def _wrk(port: int, what: str, connections: int, seconds: int) -> dict[str, float]:
    with TemporaryDirectory() as folder:
        script = Path(folder) / "load.lua"
        script.write_text(SCRIPT.format(users=USERS, what=what))
        command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "-s", str(script), f"http://127.0.0.1:{port}"]
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    numbers = re.search(r"P50 (\d+) P90 (\d+) P99 (\d+) N (\d+) S (\d+) E (\d+)", output)
    assert numbers, output
    p50, p90, p99, requests, micros, errors = map(int, numbers.groups())
    return {
        "rps": round(requests / micros * 1e6),
        "p50": p50 / 1000,
        "p90": p90 / 1000,
        "p99": p99 / 1000,
        "errors": errors,
    }
