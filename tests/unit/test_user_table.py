"""The table writes what the changelog brings batch by batch: Faust's own buffer of 1000 would hold gigabytes."""

from pathlib import Path

import faust
from prometheus_client import CollectorRegistry

from streams.instruments import WorkerInstruments
from streams.state.table import UserTable


def test_few_batches_wait_in_memory_and_none_of_a_standby(tmp_path: Path) -> None:
    app = faust.App("workers", store="rocksdb://", datadir=str(tmp_path), topic_partitions=1)
    table = UserTable(app, instruments=WorkerInstruments(CollectorRegistry()), name="histories", partitions=1)
    # With 1 for the active partitions, Faust reads on in what the worker itself writes.
    assert (table.recovery_buffer_size, table.standby_buffer_size) == (2, 1)
