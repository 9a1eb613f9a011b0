"""A file's rows become wire records in file order, whatever its format; what is odd is passed on to be rejected."""

import gzip
import json
from datetime import datetime
from pathlib import Path

import polars as pl
import pytest

from streams.errors import RejectedEventError, SettingsError, StartError
from streams.files.columns import Columns
from streams.files.event_files import EventFile, FileRow, open_events, read_rows
from streams.files.readers import count_rows, known_mark
from streams.files.validate import Acceptance, accepted
from streams.records import Item
from streams.settings import StateSettings

COLUMNS = Columns.parse("user_id=who,item_id=what,timestamp=at,type==purchase,value=paid,quantity=n,title=name")
HEADER = "who,what,at,paid,n,name\n"


def wire(row: FileRow) -> dict[str, object]:
    assert row.value is not None
    found: dict[str, object] = json.loads(row.value)
    return found


def rows_of(path: Path, columns: Columns = COLUMNS) -> list[FileRow]:
    return list(read_rows(path, columns))


def test_a_csv_row_is_mapped_to_an_interaction_and_its_item(tmp_path: Path) -> None:
    path = tmp_path / "sales.csv"
    path.write_text(HEADER + "17850,85123A,2010-12-01 08:26:00,2.55,6,WHITE HEART\n")
    [row] = rows_of(path)
    assert wire(row) == {
        "event_id": row.mark, "user_id": "17850", "item_id": "85123A", "type": "purchase",
        "timestamp": 1_291_191_960_000, "value": 2.55,
    }  # fmt: skip
    assert (row.line, row.user_id, row.timestamp) == (2, "17850", 1_291_191_960_000)
    assert row.item == Item("85123A", title="WHITE HEART")


def test_the_same_rows_come_from_csv_gzip_jsonl_and_parquet(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(HEADER + "1,i1,1291191960000,2.5,6,x\n2,i2,1291191961000,,1,\n")
    with gzip.open(tmp_path / "b.csv.gz", "wb") as file:
        file.write((tmp_path / "a.csv").read_bytes())
    table = pl.DataFrame({
        "who": [1, 2], "what": ["i1", "i2"], "paid": [2.5, None], "n": [6, 1], "name": ["x", None],
        "at": [datetime(2010, 12, 1, 8, 26, 0), datetime(2010, 12, 1, 8, 26, 1)],  # noqa: DTZ001 - files have no zone
    })  # fmt: skip
    table.write_parquet(tmp_path / "c.parquet")
    with (tmp_path / "d.jsonl").open("w") as lines:
        for row in table.with_columns(pl.col("at").dt.epoch("ms")).iter_rows(named=True):
            lines.write(json.dumps(row) + "\n")

    def seen(name: str) -> list[object]:
        return [(wire(r) | {"event_id": ""}, r.user_id, r.timestamp, r.item) for r in rows_of(tmp_path / name)]

    assert seen("a.csv") == seen("b.csv.gz") == seen("c.parquet") == seen("d.jsonl")
    assert [count_rows(tmp_path / name) for name in ("a.csv", "b.csv.gz", "c.parquet", "d.jsonl")] == [3, 3, 2, 2]


def test_a_negative_quantity_is_a_removal(tmp_path: Path) -> None:
    path = tmp_path / "s.csv"
    path.write_text(HEADER + "1,i1,1291191960000,2.5,-6,x\n1,i1,1291191960000,2.5,many,x\n")
    assert [wire(row)["type"] for row in rows_of(path)] == ["remove", "purchase"]


def test_made_event_ids_are_the_contents_and_given_ones_are_kept(tmp_path: Path) -> None:
    """B.3: by the file's name, day 2 had the ids of day 1, and a copy under another name had others."""
    first, copy, other = (tmp_path / name for name in ("shop.day1.jsonl", "copy.jsonl", "shop.day2.jsonl"))
    for path in (first, copy):
        path.write_text('{"user_id":"u"}\n\n{"event_id":"mine","user_id":"u"}\n{"user_id":"u"}\n')
    other.write_text('{"user_id":"v"}\n')
    ids = [wire(row)["event_id"] for row in rows_of(first, Columns())]
    assert ids[1] == "mine"
    assert ids == [wire(row)["event_id"] for row in rows_of(copy, Columns())]
    assert len({ids[0], ids[2], wire(rows_of(other, Columns())[0])["event_id"]}) == 3


def test_the_same_line_after_other_lines_is_another_event(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.jsonl").write_text(f'{{"user_id":"{name}"}}\n{{"user_id":"u"}}\n')
    first, second = (rows_of(tmp_path / f"{name}.jsonl", Columns())[1].mark for name in ("a", "b"))
    assert first != second


@pytest.mark.parametrize(("header", "user"), [
    ("session_id,item_id", "session_id"), ("session_id,CustomerID,item_id", "CustomerID"),
    ("session_id,Customer ID,user_id,item_id", "user_id"), ("user_pseudo_id,session_id,item_id", "user_pseudo_id"),
])  # fmt: skip
def test_a_session_stands_for_the_user_only_where_nothing_else_does(tmp_path: Path, header: str, user: str) -> None:
    """C.3: session_id was taken before user_id; what is guessed is told."""
    (tmp_path / "s.csv").write_text(f"{header},type,timestamp\n")
    found = EventFile(tmp_path / "s.csv", Columns()).layout
    assert found.column["user_id"] == user
    assert (f"user_id={user}" in found.sentence) == (user != "user_id")


def test_a_text_of_json_that_looks_like_a_number_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "s.jsonl").write_text('{"user_id":"5.0","item_id":5.0}\n')
    [row] = rows_of(tmp_path / "s.jsonl", Columns())
    assert (row.user_id, row.item_id) == ("5.0", "5")
    assert row.notes == ("user_id '5.0' is taken for an id; it looks like a number",)


def test_a_file_that_has_grown_keeps_the_ids_of_what_it_held(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text('{"user_id":"a"}\n{"user_id":"b"}')
    before = [row.mark for row in rows_of(path, Columns())]
    with path.open("a") as file:
        file.write('\n{"user_id":"c"}\n')
    after = [row.mark for row in rows_of(path, Columns())]
    assert after[:2] == before
    assert [known_mark(path, marks) for marks in ([before[1]], before, after, ["0123-2"], [])] == [
        before[1], before[1], after[2], "", "",
    ]  # fmt: skip


def test_wire_records_of_a_jsonl_file_pass_byte_for_byte(tmp_path: Path) -> None:
    event = b'{"event_id": "e",  "user_id":"u","item_id":"i", "type":"view","timestamp":1760000000000, "extra": [1]}'
    lines = [event, b"\xfe\xfe", b"[1]", b"{"]
    path = tmp_path / "s.jsonl"
    path.write_bytes(b"\n".join(lines))
    assert [row.value for row in rows_of(path, Columns())] == lines


def test_an_id_that_is_no_utf8_is_rejected_not_repaired(tmp_path: Path) -> None:
    path = tmp_path / "s.csv"
    path.write_bytes(HEADER.encode() + b"caf\xe9,i1,1291191960000,1,1,x\n")
    [row] = rows_of(path)
    with pytest.raises(RejectedEventError, match=r"user_id 'caf.*' is not UTF-8"):
        Acceptance(StateSettings()).accept(row)


def test_an_empty_field_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "s.csv"
    path.write_text(HEADER + ",i1,1291191960000,1,1,x\n")
    [row] = rows_of(path)
    assert row.user_id is None
    assert "user_id" not in wire(row)


def test_accepted_leaves_out_what_a_worker_would_reject(tmp_path: Path) -> None:
    path = tmp_path / "s.csv"
    path.write_text(HEADER + ",i1,1291191960000,1,1,x\nu,i1,soon,1,1,x\nu,i1,1291191960000,1,1,x\n")
    taken = accepted(read_rows(path, COLUMNS), StateSettings())
    assert [(row.line, event.user_id) for row, event in taken] == [(4, "u")]


@pytest.mark.parametrize("name", ["no.csv", "no.xlsx"])
def test_a_file_that_cannot_be_read_is_one_sentence(tmp_path: Path, name: str) -> None:
    if name.endswith("xlsx"):
        (tmp_path / name).touch()
    with pytest.raises(StartError, match=name):
        open_events(str(tmp_path / name))


def test_a_column_that_is_not_there_is_named_with_those_that_are(tmp_path: Path) -> None:
    path = tmp_path / "s.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(StartError, match="no column who, what, at, paid, n, name; it has a, b"):
        rows_of(path)


def test_a_file_that_lacks_a_column_is_not_rejected_row_by_row(tmp_path: Path) -> None:
    path = tmp_path / "s.csv"
    path.write_text("whoever,item_id,timestamp\n1,2,3\n")
    with pytest.raises(StartError, match=r"no column user_id, type; .* as in --columns user_id=whoever,"):
        rows_of(path, Columns())


def test_a_broken_parquet_or_gzip_file_is_one_sentence_to_who_counts_its_rows_too(tmp_path: Path) -> None:
    broken = {"s.parquet": b"nothing of the kind", "s.csv.gz": b"nothing of the kind"}
    broken["cut.csv.gz"] = gzip.compress(HEADER.encode() * 1000)[:-20]
    for name, content in broken.items():
        (tmp_path / name).write_bytes(content)
        for read in (rows_of, count_rows):
            with pytest.raises(StartError, match=name):
                read(tmp_path / name)


@pytest.mark.parametrize("text", ["user_id", "nobody=x", "user_id=", "=x"])
def test_a_mapping_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="is no field=column"):
        Columns.parse(text)


@pytest.mark.parametrize("text", ["add_to_cart", "add_to_cart=basket", "=cart"])
def test_event_names_are_mapped_to_types_that_there_are(text: str) -> None:
    with pytest.raises(SettingsError, match="is no name=type; types are view, click"):
        Columns.parse(None, text)


def test_the_shop_that_is_shipped_is_whole() -> None:
    path, columns = open_events("online-retail")
    assert path.stat().st_size < 3_000_000
    assert count_rows(path) == 541_909
    first = next(iter(read_rows(path, columns)))
    assert first.item is not None
    assert first.item.title == "WHITE HANGING HEART T-LIGHT HOLDER"
