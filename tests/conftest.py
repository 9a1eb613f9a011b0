"""Real parts for the integration tests: started by the first test that asks, shared by all, stopped at the end."""

from collections.abc import Iterator

import pytest

from streams.local_broker import LocalBroker
from streams.processes import free_port


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalBroker]:
    with LocalBroker(tmp_path_factory.mktemp("kafka"), free_port()) as server:
        yield server
