"""The demo measures a whole loop on real parts, loses nothing, and leaves no process and no shared memory behind."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]


def begin(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HEADRACE_")}
    return subprocess.Popen(
        [sys.executable, "-m", "streams", "demo", *arguments],
        env=environment | {"HEADRACE_DATA_DIR": str(folder / "data")},
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def family(process: subprocess.Popen[str]) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


def mapped_regions(processes: list[psutil.Process]) -> set[str]:
    """Shared memory that these processes hold; others may run beside the test."""
    found = set()
    for process in processes:
        with suppress(psutil.Error):
            found |= {region.path for region in process.memory_maps() if region.path.startswith("/dev/shm/")}  # noqa: S108
    return found


def assert_gone(processes: list[psutil.Process]) -> None:
    _, alive = psutil.wait_procs(processes, timeout=5)
    assert not [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]


def test_a_short_demo_ends_by_itself_with_every_figure_measured(tmp_path: Path) -> None:
    demo = begin(tmp_path, "--past", "3000", "--events", "600", "--report", "report.json")
    output, _ = demo.communicate(timeout=200)
    assert demo.returncode == 0, output
    found = json.loads((tmp_path / "report.json").read_text())
    assert (found["lost"], found["doubled"], found["unanswered"]) == (0, 0, 0)
    assert found["events_in"] == 600
    assert found["recommendations_out"] > 0
    assert found["events_rejected"] == found["rejected_by_reason"].get("missing_field", 0)
    assert sum(found["rungs"].values()) == found["recommendations_out"]
    for percentile in ("p50", "p95", "p99"):
        assert found["latency_ms"][percentile] > 0
    assert set(found["quality"]) == {"model", "popularity", "item_knn"}
    assert "lost, 0 doubled" in output


def test_ctrl_c_stops_everything_within_ten_seconds(tmp_path: Path) -> None:
    demo = begin(tmp_path, "--past", "1000")
    deadline = time.monotonic() + 90
    log = tmp_path / "data" / "demo" / "logs" / "worker.log"
    while not (log.exists() and "worker_listening" in log.read_text()):
        assert time.monotonic() < deadline
        assert demo.poll() is None
        time.sleep(0.1)
    children = family(demo)
    assert len(children) >= 4
    regions = mapped_regions(children)
    assert regions
    began = time.monotonic()
    demo.send_signal(signal.SIGINT)
    demo.communicate(timeout=30)
    assert time.monotonic() - began < 10
    assert demo.returncode == 130
    assert_gone(children)
    assert not [region for region in regions if Path(region).exists()]
