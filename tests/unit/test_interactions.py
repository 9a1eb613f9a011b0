"""The three file formats give the same arrays; what cannot be read says why."""

import gzip
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from streams.errors import StartError
from streams.files.columns import Columns
from streams.files.data_sets import read


def test_a_sequence_file_is_a_line_a_user(tmp_path: Path) -> None:
    (tmp_path / "s.txt").write_text("u1 a b c\n\nu2 b a\n")
    data = read(tmp_path / "s.txt")
    assert data.rows_N.tolist() == [1, 2, 3, 2, 1]
    assert data.users_N.tolist() == [0, 0, 0, 1, 1]
    assert list(data.items) == ["", "a", "b", "c"]
    assert not data.ordered


def test_a_period_folder_is_read_in_the_order_of_its_names(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "period_01.txt.gz", "wt") as lines:
        lines.write("9 c\n8 a\n")
    (tmp_path / "period_00.txt").write_text("8 a\n9 b\n8 c\n")
    data = read(tmp_path)
    assert data.periods_N.tolist() == [0, 0, 0, 1, 1]
    assert data.rows_N.tolist() == [1, 2, 3, 3, 1]
    histories, order = data.histories()
    assert histories.rows_T.tolist() == [1, 3, 1, 2, 3]
    assert order.tolist() == [0, 2, 4, 1, 3]


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_table_is_sorted_by_time_and_loses_only_what_it_says(tmp_path: Path, kind: str) -> None:
    table = pl.DataFrame(
        {
            "InvoiceNo": ["1", "C2", "3", "4"],
            "CustomerID": ["u", "u", None, "v"],
            "StockCode": ["a", "b", "c", "d"],
            "InvoiceDate": ["2011-01-02 10:00:00", "2011-01-01 10:00:00", "2011-01-01 10:00:00", "2011-01-01 10:00:00"],
        }
    )
    path = tmp_path / f"t.{kind}"
    table.write_csv(path) if kind == "csv" else table.write_parquet(path)
    data = read(path, exclude=[("InvoiceNo", "C")])
    assert [data.items[row] for row in data.rows_N] == ["d", "a"]
    assert np.diff(data.times_N).tolist() == [86_400]
    assert data.left_out == {"rows: InvoiceNo begins with C": 1, "without a user or an item": 1}
    guessed, lost = data.notes
    assert "user_id=CustomerID,item_id=StockCode,timestamp=InvoiceDate" in guessed
    assert lost.startswith("line 3" if kind == "parquet" else "line 4")


def test_types_are_mapped_and_get_the_callers_codes(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("user,item,type\nu,a,cart\nu,b,odd\nu,c,add\nu,d,scroll\n")
    columns = Columns.parse("", "add=cart,scroll=")
    assert read(tmp_path / "t.csv", columns, types={"cart": 3}).types_N.tolist() == [3, 0, 3]


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("who,item\nu,a\n")
    with pytest.raises(StartError, match="no column user_id; it has who, item"):
        read(tmp_path / "t.csv")
    assert len(read(tmp_path / "t.csv", Columns.parse("user_id=who"))) == 1


def test_an_unknown_format_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.xlsx").write_text("")
    with pytest.raises(StartError, match="of no known kind"):
        read(tmp_path / "t.xlsx")


def test_numbers_that_are_no_times_are_an_order(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("user,item,position\nu,a,2\nu,b,1\n")
    data = read(tmp_path / "t.csv", Columns.parse("timestamp=position"))
    assert [data.items[row] for row in data.rows_N] == ["b", "a"]
    assert data.notes[-1] == "position holds no times, but numbers: taken as an order."


def test_a_header_is_no_data_and_a_bad_line_is_left_out(tmp_path: Path) -> None:
    """C.3: the header of a file with an ending of its own was taken for a user with three items."""
    (tmp_path / "s.txt").write_bytes(b"user_id item_id\nu a b\ncaf\xe9 c\n")
    data = read(tmp_path / "s.txt")
    assert list(data.items) == ["", "a", "b"]
    assert data.left_out == {"headers": 1, "lines that are not UTF-8": 1}
    (tmp_path / "blanks.txt").write_text("user_id item_id time\nu a 1760000000\n")
    with pytest.raises(StartError, match="separated by blanks"):
        read(tmp_path / "blanks.txt")
    (tmp_path / "r.inter").write_text("user_id:token\titem_id:token\ttimestamp:float\nu\ta\t1760000000\n")
    assert read(tmp_path / "r.inter").times_N.tolist() == [1_760_000_000]


def test_the_limit_counts_interactions_that_were_kept(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("user,item,timestamp\n,a,1\nu,b,2\nu,c,3\nu,d,4\n")
    data = read(tmp_path / "t.csv", limit=2)
    assert [data.items[row] for row in data.rows_N] == ["b", "c"]


def test_an_items_title_is_the_first_that_a_line_has(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("user,item,Description,timestamp\nu,a,,1\nu,b,lamp,2\nv,a,bag,3\nv,a,sack,4\n")
    assert list(read(tmp_path / "t.csv").titles) == ["", "bag", "lamp"]
    assert list(read(tmp_path / "t.csv", Columns.parse("title=item")).titles) == ["", "a", "b"]
