"""Whatever a file holds, a cell has one value or a reason; a time is the same moment in every unit."""

from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from streams.files.cells import identifier, moment, number, text

CELLS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20), st.binary(max_size=20), st.decimals(),
    st.dates(), st.datetimes(), st.datetimes(timezones=st.just(timezone(timedelta(hours=5)))), st.lists(st.integers()),
    st.integers().map(str), st.floats().map(str), st.dates().map(str), st.datetimes().map(str),
)  # fmt: skip
MOMENTS_MS = st.integers(100_000_000_000, 9_000_000_000_000)


@given(CELLS)
def test_every_cell_has_a_value_or_a_reason(cell: object) -> None:
    found, _ = identifier(cell)
    assert found is None or (found and found.encode())
    at, why = moment(cell)
    assert at is None or (at > 0 and why)
    assert number(cell)[0] is None or isinstance(number(cell)[0], float)
    assert isinstance(text(cell)[0].encode(), bytes)


@given(MOMENTS_MS)
def test_a_time_is_the_same_in_every_unit(ms: int) -> None:
    whole = ms // 1000 * 1000
    stamp = datetime.fromtimestamp(whole / 1000, UTC)
    same = [whole // 1000, whole, whole * 1000, whole * 1_000_000, float(whole), Decimal(whole), stamp]
    same += [
        str(whole),
        f"{whole}.0",
        str(whole // 1000),
        stamp.isoformat(),
        str(stamp),
        f"{stamp:%Y-%m-%d %H:%M:%S} UTC",
    ]
    assert {moment(cell)[0] for cell in same} == {whole}


@given(st.dates(date(1970, 1, 2), date(2100, 12, 31)))
def test_a_day_is_its_midnight_however_it_is_written(day: date) -> None:
    midnight = datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp() * 1000
    for cell in (day, day.isoformat(), f"{day:%Y%m%d}", int(f"{day:%Y%m%d}")):
        assert moment(cell)[0] == midnight


@given(st.integers(-(2**40), 2**40))
def test_an_id_is_the_same_from_every_type(value: int) -> None:
    for cell in (value, float(value), Decimal(value), str(value), str(value).encode(), f"{value}.0"):
        assert identifier(cell)[0] == str(value)
