"""Each odd file gives its right value, the same by every command: C.3 and B.3 of the issue on strange inputs."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from streams.commands.show import show_findings
from streams.errors import StartError
from streams.files.columns import Columns
from streams.files.data_sets import read
from streams.files.event_files import EventFile, FileRow, open_events
from streams.files.order import in_event_order
from streams.files.validate import Counts, accepted, validate
from streams.settings import StateSettings

CASES = Path(__file__).parents[1] / "cases"
STATE = StateSettings()
OCTOBER_MS = 1_760_000_000_000
VIEW = "type==view"


@dataclass(frozen=True)
class Case:
    """What is right for one file."""

    file: str
    rows: int
    taken: int
    noted: int = 0
    columns: str = ""
    types: str = ""
    says: tuple[str, ...] = ()
    """Parts of what validate prints."""
    users: frozenset[str] | None = None
    first_ms: int | None = OCTOBER_MS
    """Event time of the first row; none is in January 1970."""


CASE_LIST = (
    Case("seconds.csv", 9, 9, says=("Times: 9 in seconds",), users=frozenset({"s0", "s1", "s2"})),
    Case("mixed_units.jsonl", 9, 9, says=("6 in milliseconds, 2 in seconds, 1 in microseconds",),
         first_ms=OCTOBER_MS + 1000),
    Case("time_int_s.parquet", 3, 3, says=("3 in seconds",)),
    Case("time_date.parquet", 3, 3, first_ms=1_761_436_800_000),
    Case("float_ids.csv", 6, 3, 2, VIEW, says=("csv:2: note: user_id '13085.0' is read as 13085",
         "'nan' stands for no value", "'NULL' stands for no value", "user_id=Customer ID"),
         users=frozenset({"13085"}), first_ms=1_259_653_500_000),
    Case("float_ids.parquet", 4, 2, users=frozenset({"17850", "12583"})),
    Case("stray_quote.csv", 6, 5, 1, says=("csv:3: undecodable: line 3 has a stray quote", "csv:6: note"),
         users=frozenset({"u1", "u3", "u4", "u5", "u6"})),
    Case("quoted_newlines.csv", 3, 3, users=frozenset({"u1", "u2", "u3"})),
    Case("latin1.csv", 2, 2, 2, says=("csv:2: note: title 'Caf", "csv:3: note")),
    Case("titled_history.jsonl", 24, 24),
    Case("money.csv", 4, 4, 3, says=("csv:2: note: value '1,299.00' is no plain number", "csv:4: note: value '12,99'")),
    Case("int_ids.jsonl", 10, 10, users=frozenset({"100", "101", "102"})),
    Case("one_bad_time.csv", 121, 120, columns=VIEW, says=("csv:122: wrong_type: timestamp 'n/a'",)),
    Case("mixed_iso.csv", 120, 120, columns=VIEW, first_ms=1_759_276_800_000),
    Case("decimal.parquet", 3, 3, says=("2 view, 1 remove",)),
    Case("binary_ids.parquet", 2, 2, columns=VIEW, users=frozenset({"u1", "u2"})),
    Case("bom.jsonl", 3, 3, first_ms=OCTOBER_MS + 1000),
    Case("semicolon.csv", 2, 2),
    Case("UPPER.CSV", 2, 2),
    Case("members.csv.gz", 3, 3),
    Case("date_before_timestamp.csv", 120, 120, columns=VIEW, first_ms=OCTOBER_MS + 50_000),
    Case("recbole.inter.txt", 100, 100, columns=VIEW, says=("user_id=user_id:token",)),
    Case("repeat_clicks.csv", 200, 200, columns=VIEW),
    Case("ga4.csv", 12, 6, columns="user_id=user_pseudo_id", types="view_item=view,add_to_cart=cart",
         says=("12 in microseconds", "item_id '(not set)' stands for no value"),
         users=frozenset({"1234567890.1760000000", "1234567891.1760000000", "1234567892.1760000000"})),
    Case("odd_ids.jsonl", 25, 23, 2, says=("user_id 'null' is taken for an id",)),
)  # fmt: skip


def rows_of(case: Case) -> list[FileRow]:
    path, columns = open_events(str(CASES / case.file), Columns.parse(case.columns, case.types))
    return list(EventFile(path, columns))


@pytest.mark.parametrize("case", CASE_LIST, ids=lambda case: case.file)
def test_validate_takes_what_is_right_and_tells_what_is_odd(case: Case, capsys: pytest.CaptureFixture[str]) -> None:
    counts = Counts()
    list(validate(rows_of(case), STATE, counts))
    assert (counts.rows, counts.rows - counts.rejected, counts.notes) == (case.rows, case.taken, case.noted)
    if case.users is not None:
        assert counts.users == case.users
    path, columns = open_events(str(CASES / case.file), Columns.parse(case.columns, case.types))
    assert show_findings(path, columns, STATE, 100) == int(case.taken < case.rows)
    printed = capsys.readouterr().out
    assert [says for says in case.says if says not in printed] == []


@pytest.mark.parametrize("case", CASE_LIST, ids=lambda case: case.file)
def test_no_time_is_taken_for_another_unit(case: Case) -> None:
    rows = rows_of(case)
    assert rows[0].timestamp == case.first_ms
    assert all(row.timestamp is None or row.timestamp > 1_000_000_000_000 for row in rows)


@pytest.mark.parametrize("case", CASE_LIST, ids=lambda case: case.file)
def test_evaluate_reads_what_a_worker_would_take(case: Case) -> None:
    """B.3, C.3: one bad time and one Latin-1 title were a traceback; the users and times are those of the others."""
    data = read(CASES / case.file, Columns.parse(case.columns, case.types))
    rows = [row for row, _ in accepted(rows_of(case), STATE)]
    assert len(data) >= len(rows)  # an id that is too long for a worker can be evaluated
    assert len(data) + sum(data.left_out.values()) == case.rows
    if case.users is not None:
        assert len(set(data.users_N.tolist())) == len(case.users)
    assert {(row.item_id, int(row.timestamp or 0) // 1000) for row in rows} <= {
        (data.items[row], time) for row, time in zip(data.rows_N.tolist(), data.times_N.tolist(), strict=True)
    }


def test_what_a_quote_could_swallow_is_read(tmp_path: Path) -> None:
    """C.3: a stray quote swallowed 89 of 100 rows with "all ok", whether it is closed by another one or by none."""
    for name, later in (("closed", 'u90,i90,view,1760000000090,24 inch"'), ("open", "u90,i90,view,1760000000090,x")):
        lines = [f"u{n},i{n},view,{OCTOBER_MS + n},Thing {n}" for n in range(100)]
        lines[10], lines[90] = f'u10,i10,"view,{OCTOBER_MS},Thing', later
        path = tmp_path / f"{name}.csv"
        path.write_text("user_id,item_id,type,timestamp,title\n" + "\n".join(lines) + "\n")
        counts = Counts()
        found = [(one.line, one.reason) for one in validate(EventFile(path, Columns()), STATE, counts)]
        assert found == [(12, "undecodable")]
        assert len(counts.users) == 99


@pytest.mark.parametrize(("content", "says"), [
    (b"", "is empty; its first line must name the columns"),
    ("user_id,item_id\n".encode("utf-16"), "is UTF-16; save it as UTF-8"),
    (b"user_id,user_id,item_id,type,timestamp\nu,v,i,view,1760000000000\n", "two columns named user_id"),
])  # fmt: skip
def test_a_file_that_cannot_be_taken_is_one_sentence(tmp_path: Path, content: bytes, says: str) -> None:
    (tmp_path / "f.csv").write_bytes(content)
    with pytest.raises(StartError, match=says):
        EventFile(tmp_path / "f.csv", Columns())


def test_a_header_alone_is_no_row(tmp_path: Path) -> None:
    (tmp_path / "f.csv").write_text("user_id,item_id,type,timestamp\n")
    assert list(EventFile(tmp_path / "f.csv", Columns())) == []


def test_a_row_with_other_fields_than_the_header_is_told_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "f.csv").write_text(
        f"user_id,item_id,title,type,timestamp\nu,i,Big, red,view,{OCTOBER_MS}\nu,i\nu,i,x,view,{OCTOBER_MS},,\n"
    )
    found = [row.problem.detail if row.problem else "" for row in EventFile(tmp_path / "f.csv", Columns())]
    assert found == ["6 fields where the header has 5", "2 fields where the header has 5", ""]


def test_names_of_an_analytics_export_are_told_and_can_be_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    """C.3: a mapping of event names for GA4 and its like; the error offers it."""
    path = CASES / "ga4.csv"
    assert show_findings(path, Columns.parse("user_id=user_pseudo_id"), STATE, 20) == 1
    assert "--types view_item=view" in capsys.readouterr().out
    assert show_findings(path, Columns.parse("user_id=user_pseudo_id", "view_item=,add_to_cart="), STATE, 20) == 0
    assert "left out: type view_item" in capsys.readouterr().out


def test_the_past_is_the_same_whichever_way_the_file_runs() -> None:
    """B.3: the same rows turned around, of some moments several: as history and as backfill they are one past."""
    forward = in_event_order(EventFile(CASES / "oldest_first.csv", Columns()))
    backward = in_event_order(EventFile(CASES / "newest_first.csv", Columns()))
    assert [row.item_id for row in forward] == [row.item_id for row in backward] == [f"i{n}" for n in range(89, -1, -1)]
    assert len(list(accepted(backward, STATE))) == 90
    same = [FileRow(n, None, "u", n // 3, item_id=f"i{n}") for n in range(9)]
    assert [row.line for row in in_event_order(same[::-1])] == list(range(9))


def test_the_rules_hold_for_a_parquet_file_of_texts(tmp_path: Path) -> None:
    """Siblings of the cases: pandas' texts of missing ids and of floats, a date as an integer, fractions of seconds."""
    import polars as pl

    path = tmp_path / "t.parquet"
    pl.DataFrame({
        "user_id": ["nan", "5.0", "u", "v"], "item_id": [1.0, 2.0, 3.0, 4.5], "type": "view",
        "timestamp": ["1760000000", "20251009", "1760000000.25", "1760000000"],
    }).write_parquet(path)  # fmt: skip
    rows = list(EventFile(path, Columns()))
    assert [row.user_id for row in rows] == [None, "5", "u", "v"]
    assert [row.item_id for row in rows] == ["1", "2", "3", None]
    assert [row.timestamp for row in rows] == [OCTOBER_MS, 1_759_968_000_000, OCTOBER_MS + 250, OCTOBER_MS]
