"""Real parts for the integration tests: started by the first test that asks, shared by all, stopped at the end."""

import os
from collections.abc import Iterator

# Before torch is imported: its threads wait for each other by spinning, and beside Kafka, Triton and a worker on two
# cores the same learning test took 17 s for 0.6.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from hypothesis import settings

from streams.local.local_broker import LocalBroker
from streams.local.local_triton import LocalTriton
from streams.local.processes import free_port
from streams.triton.model_repository import ModelRepository, write_seed_version
from tests.integration.secure_broker import SecureBroker

settings.register_profile("long", max_examples=4000)
"""Of `make fuzz`."""


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalBroker]:
    with LocalBroker(tmp_path_factory.mktemp("kafka"), free_port()) as server:
        yield server


@pytest.fixture(scope="session")
def secure_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureBroker]:
    """Another Kafka, with a listener for each security protocol."""
    with SecureBroker(tmp_path_factory.mktemp("secure")) as server:
        yield server


@pytest.fixture(scope="session")
def triton(tmp_path_factory: pytest.TempPathFactory, broker: LocalBroker) -> Iterator[LocalTriton]:
    """A seed model of 1,024 rows that follows the champion on topic `weights` of the shared broker."""
    folder = tmp_path_factory.mktemp("triton")
    repository = ModelRepository(folder / "models")
    write_seed_version(repository, "tiny")
    backend = {"consumer": {"bootstrap.servers": broker.address, "log_level": 2}, "topic": "weights"}
    with LocalTriton(folder / "server", repository, free_port(), backend=backend) as server:
        yield server
