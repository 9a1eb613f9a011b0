"""The table writes what the changelog brings batch by batch, and a crash leaves it no offset without its states."""

import asyncio
import inspect
import os
import time
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import AsyncMock

import faust
import pytest
from faust.tables.manager import TableManager
from prometheus_client import CollectorRegistry

from streams.instruments import WorkerInstruments
from streams.state.table import DeclaredTables, UserTable, _folder_bytes
from streams.state.user_state import UserState, source_offset


def user_table(folder: Path) -> UserTable:
    app = faust.App("workers", store="rocksdb://", datadir=str(folder), topic_partitions=1)
    table = UserTable(app, instruments=WorkerInstruments(CollectorRegistry()), name="histories", partitions=1)
    table.prepare()
    return table


def test_few_batches_wait_in_memory_and_none_of_a_standby(tmp_path: Path) -> None:
    table = user_table(tmp_path)
    # With 1 for the active partitions, Faust reads on in what the worker itself writes.
    assert (table.recovery_buffer_size, table.standby_buffer_size) == (2, 1)


def recover_and_die(folder: Path, *, then_written: bool) -> None:
    table = user_table(folder)
    for first in range(0, 3000, 1000):  # less than a write buffer: nothing is on the disk yet
        states = [(b"u%d" % number, b"state") for number in range(first, first + 1000)]
        table.write(0, states, first + 999, logged=False)
    if then_written:
        table.write(0, [(b"u0", b"newer")], 3000)
    os._exit(0)


@pytest.mark.parametrize("then_written", [False, True])
def test_a_crash_takes_recovered_states_with_their_offset_and_none_that_something_was_written_over(
    tmp_path: Path, *, then_written: bool
) -> None:
    dying = get_context("spawn").Process(
        target=recover_and_die, args=(tmp_path,), kwargs={"then_written": then_written}
    )
    dying.start()
    dying.join(60)
    table = user_table(tmp_path)
    held = dict(table.scan(0, b"", 5000))
    if then_written:
        assert (table.changelog_offset(0), len(held), held[b"u0"], held[b"u2999"]) == (3000, 3000, b"newer", b"state")
    else:
        assert (table.changelog_offset(0), held) == (None, {})


def test_a_finished_recovery_is_on_the_disk(tmp_path: Path) -> None:
    table = user_table(tmp_path)
    table.write(0, [(b"u1", b"state")], 7, logged=False)
    assert not list(tmp_path.rglob("*.sst"))
    asyncio.run(table.on_recovery_completed(set(), set()))
    assert list(tmp_path.rglob("*.sst"))


class Recovered:
    """A fetched batch of the changelog as Faust hands it on; each call reads it once."""

    def __init__(self, table: UserTable) -> None:
        self._table = table
        self._offset = -1

    def __call__(self, **offsets: int) -> None:
        records = []
        for user, offset in offsets.items():
            self._offset += 1
            value = UserState(offset=offset).encode()
            records.append(SimpleNamespace(key=user.encode(), value=value, offset=self._offset, headers=()))
        message = SimpleNamespace(partition=0, offset=self._offset, value=iter(records))
        self._table.apply_changelog_batch([SimpleNamespace(message=message)])  # type: ignore[list-item]


def held(table: UserTable) -> dict[str, int]:
    return {key.decode(): source_offset(value) for key, value in table.scan(0, b"", 100)}


def test_a_late_write_loses_in_a_store_that_was_empty_as_in_one_that_was_not(tmp_path: Path) -> None:
    table = user_table(tmp_path)
    table.app.in_recovery = True
    recovered = Recovered(table)
    recovered(u1=9, u2=3)
    recovered(u1=7, u3=1)  # of a former owner
    assert (held(table), table.set_back[0]) == ({"u1": 9, "u2": 3, "u3": 1}, {b"u1"})
    table.write(0, [(b"u4", UserState(offset=8).encode())], 4)  # ours, without a look
    recovered(u4=5, u1=10)
    assert (held(table), table.set_back[0]) == ({"u1": 10, "u2": 3, "u3": 1, "u4": 8}, {b"u4"})
    asyncio.run(table.on_recovery_completed(set(), set()))
    table.app.in_recovery = False
    recovered(u5=6)  # as a standby, which remembers nothing
    table.app.in_recovery = True
    recovered(u5=2, u2=1)
    assert (held(table)["u5"], table.set_back[0]) == (6, {b"u2", b"u4", b"u5"})


def test_an_empty_store_is_filled_with_few_compactions_and_then_left_as_rocksdb_wants_it(tmp_path: Path) -> None:
    table = user_table(tmp_path)
    table.app.in_recovery = True
    recovered, files = Recovered(table), []
    for number in range(6):
        recovered(**{f"u{number}": number})
        table._database(0).flush()
        files.append(len(list(tmp_path.rglob("*.sst"))))
    assert files == [1, 2, 3, 4, 5, 6]
    recovered(u7=7)
    asyncio.run(table.on_recovery_completed(set(), set()))
    deadline = time.monotonic() + 20
    while len(list(tmp_path.rglob("*.sst"))) > 1 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert len(list(tmp_path.rglob("*.sst"))) == 1
    assert held(table) == {f"u{number}": number for number in (0, 1, 2, 3, 4, 5, 7)}


async def test_tables_begin_without_the_second_that_faust_waits(tmp_path: Path) -> None:
    app = faust.App("workers", datadir=str(tmp_path), TableManager=DeclaredTables)
    tables = app.tables
    tables.sleep, tables._update_channels, tables._recovery = AsyncMock(), AsyncMock(), AsyncMock()
    await tables.on_start()
    tables.sleep.assert_not_awaited()
    tables._update_channels.assert_awaited_once()
    tables._recovery.start.assert_awaited_once()
    theirs = [line.strip() for line in inspect.getsource(TableManager.on_start).splitlines() if "await" in line]
    assert theirs == ["await self.sleep(1.0)", "await self._update_channels()", "await self.recovery.start()"]


def test_a_file_that_is_deleted_while_the_folder_is_measured_counts_nothing() -> None:
    """A.8: RocksDB deletes files at any time; it ended the worker."""
    present, gone = SimpleNamespace(stat=lambda: SimpleNamespace(st_size=7)), Path("/nonexistent/000123.sst")
    folder = SimpleNamespace(glob=lambda _: [present, gone])
    assert _folder_bytes(folder) == 7  # type: ignore[arg-type]
