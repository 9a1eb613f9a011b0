"""The demo measures a whole loop on real parts, loses nothing, and leaves no process and no shared memory behind."""

import json
import signal
import time
from pathlib import Path

import pytest

from tests.integration.whole_runs import assert_gone, begin, family, mapped_regions

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]


def test_a_short_demo_ends_by_itself_with_every_figure_measured(tmp_path: Path) -> None:
    demo = begin(tmp_path, "demo", "--past", "3000", "--events", "600", "--report", "report.json")
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
    demo = begin(tmp_path, "demo", "--past", "1000")
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
