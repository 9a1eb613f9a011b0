"""The table of continual methods is written method by method, all from one first fit, on the same cases."""

import json
import time
from pathlib import Path

import numpy as np
import pytest

from tests.bench.continual import COLUMNS, NOTHING, Limits, compare


@pytest.fixture
def periods(tmp_path: Path) -> Path:
    """Walks round a ring of 12 items, from the second period on two at a time."""
    folder = tmp_path / "periods"
    folder.mkdir()
    for period in range(4):
        starts = np.random.default_rng(period).integers(0, 12, 60)
        walks = (
            (f"{period}-{n}", (start + step * min(period + 1, 2)) % 12)
            for n, start in enumerate(starts)
            for step in range(4)
        )
        (folder / f"p{period}.txt").write_text("".join(f"{session} i{item}\n" for session, item in walks))
    return folder


def test_methods_differ_in_what_they_change_and_nothing_changes_nothing(periods: Path, tmp_path: Path) -> None:
    wanted = (NOTHING, "finetune", "rows+replay", "adapter+replay")
    report = tmp_path / "r.json"
    found = compare(periods, wanted, Limits(3, 50, 0.3), time.process_time, report)["methods"]
    assert json.loads(report.read_text())["methods"].keys() == set(wanted)
    assert all(set(COLUMNS) <= figures.keys() and len(figures["updates"]) == 2 for figures in found.values())
    assert found[NOTHING]["parameters_changed"] == found[NOTHING]["plasticity"] == 0
    assert found["finetune"]["parameters_changed"] > found["adapter+replay"]["parameters_changed"] > 0
    assert found["finetune"]["parameters_changed"] > found["rows+replay"]["parameters_changed"] > 0


def test_a_run_that_is_stopped_has_written_the_methods_before(periods: Path, tmp_path: Path) -> None:
    report = tmp_path / "r.json"
    with pytest.raises(ValueError, match="nonsense"):
        compare(periods, (NOTHING, "nonsense"), Limits(2, 20, 0.3), time.process_time, report)
    assert list(json.loads(report.read_text())["methods"]) == [NOTHING]
