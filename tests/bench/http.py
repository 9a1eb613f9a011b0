"""HTTP: requests/s and latency of history and recommendations, under wrk (Debian's package `wrk`)."""

import json
import re
import shutil
import subprocess
import time
import urllib.request
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from streams.kafka.topic_setup import ensure_topics
from tests.bench.latency import NO_MODEL, send
from tests.bench.load import Watch
from tests.bench.stack import Stack, running

CONNECTIONS = (1, 8, 32)
ITEMS = 4000
USERS = 1000
EVENTS = 20_000
RATES = {"history": 1500, "recommend_triton": 300, "recommend_covisit": 1000}
"""Requests a second at which the latency is aimed at."""
RATE_CONNECTIONS = 32
SCRIPT = """
local n = 0
{delay}
request = function()
  n = (n + 7919) % {users}
  return wrk.format("GET", "/v1/users/u" .. n .. "/{what}")
end
done = function(summary, latency, requests)
  io.write(string.format("P50 %d P90 %d P99 %d N %d S %d E %d\\n", latency:percentile(50), latency:percentile(90),
    latency:percentile(99), summary.requests, summary.duration, summary.errors.status + summary.errors.timeout))
end
"""


DELAY = """
local ffi = require("ffi")
ffi.cdef("typedef struct {{ long s; long ns; }} moment; int clock_gettime(int, moment *);")
local now, due = ffi.new("moment"), 0
delay = function()
  ffi.C.clock_gettime(1, now)
  local ms = tonumber(now.s) * 1e3 + tonumber(now.ns) / 1e6
  due = math.max(due + {interval}, ms - 100)
  return math.max(0, math.floor(due - ms))
end
"""
"""wrk has no rate: each request takes the next place in a schedule of the thread, whichever connection sends it."""


def run(seconds: int) -> dict[str, Any]:
    """Measure history, recommendations by Triton and by the co-visit rung."""
    if not shutil.which("wrk"):
        raise SystemExit("wrk is missing: apt-get install wrk")
    found: dict[str, Any] = {}
    paths = {"recommend_triton": "recommendations", "history": "history", "recommend_covisit": "recommendations"}
    with running(ITEMS) as stack:
        ensure_topics(stack.settings())
        stack.start("learner")
        stack.start("worker")
        _fill(stack)
        _until_learned(stack)
        for name, what in paths.items():
            if name == "history":  # it needs no model, and the rung after it must have none
                stack.stop("learner")
                stack.stop("worker")
                stack.start("worker", NO_MODEL)
                _until_learned(stack)
            found[name] = _all(stack, what, seconds)
            found[name][f"at_{RATES[name]}"] = _wrk(stack.port, what, RATE_CONNECTIONS, seconds, RATES[name])
    return found


def _until_learned(stack: Stack) -> None:
    """Wait until the worker's lists have neighbours in them: the co-visit rung is empty before the first generation."""
    deadline = time.monotonic() + 60
    url = f"http://127.0.0.1:{stack.port}/v1/items/i1/similar"
    while time.monotonic() < deadline:
        with suppress(OSError), urllib.request.urlopen(url, timeout=2) as answer:
            if json.load(answer)["items"]:
                return
        time.sleep(0.2)
    raise SystemExit("no neighbours were learned")


def _fill(stack: Stack) -> None:
    settings = stack.settings()
    send(settings, EVENTS, USERS, ITEMS)
    watch = Watch(settings.broker, settings.topics.workers, settings.topics.interactions, 4)
    deadline = time.monotonic() + 120
    while watch.committed() < EVENTS and time.monotonic() < deadline:
        time.sleep(0.2)
    watch.close()


def _all(stack: Stack, what: str, seconds: int) -> dict[str, Any]:
    return {str(connections): _wrk(stack.port, what, connections, seconds) for connections in CONNECTIONS}


def _wrk(port: int, what: str, connections: int, seconds: int, rate: int = 0) -> dict[str, float]:
    delay = DELAY.format(interval=1000 / rate) if rate else ""
    with TemporaryDirectory() as folder:
        script = Path(folder) / "load.lua"
        script.write_text(SCRIPT.format(users=USERS, what=what, delay=delay))
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
