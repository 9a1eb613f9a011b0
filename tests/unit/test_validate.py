"""validate finds what a worker would reject, by line and reason, and counts everything."""

from collections import Counter
from pathlib import Path

import pytest

from streams.commands.show import show_findings
from streams.files.columns import Columns
from streams.files.event_files import read_rows
from streams.files.validate import Counts, validate
from streams.settings import StateSettings

DAY_MS = 86_400_000
MAY_MS = 1_748_000_000_000


def event(timestamp: object = MAY_MS, kind: str = "click", user: str = '"u1"') -> str:
    return f'{{"event_id":"e","user_id":{user},"item_id":"i1","type":"{kind}","timestamp":{timestamp}}}'


LINES = [
    event(), "no json", event(kind="glance"), event(user="true"), event('"yesterday"'), event(9_999_999_999_999),
    event(MAY_MS - 31 * DAY_MS), event(MAY_MS - 29 * DAY_MS), '{"user_id":"u1"}',
]  # fmt: skip


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "events.jsonl"
    file.write_text("\n".join(LINES))
    return file


def test_each_broken_line_is_named_with_its_reason(path: Path) -> None:
    counts = Counts()
    found = [(r.line, r.reason) for r in validate(read_rows(path, Columns()), StateSettings(), counts)]
    assert found == [
        (2, "undecodable"), (3, "unknown_type"), (4, "missing_field"), (5, "wrong_type"), (6, "timestamp_out_of_range"),
        (7, "too_late"), (9, "missing_field"),
    ]  # fmt: skip
    assert (counts.rows, counts.rejected, counts.types) == (9, 7, Counter(click=2))


def test_the_report_stops_at_its_limit_and_still_counts_all(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert show_findings(path, Columns(), StateSettings(), limit=1) == 1
    printed = capsys.readouterr().out
    assert "events.jsonl:2: undecodable" in printed
    assert "and 6 more" in printed
    assert "9 rows: 2 would be accepted" in printed


def test_a_clean_file_ends_with_0(tmp_path: Path) -> None:
    path = tmp_path / "clean.jsonl"
    path.write_text(event())
    assert show_findings(path, Columns(), StateSettings(), limit=20) == 0
