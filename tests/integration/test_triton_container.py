"""What Triton's container runs: the server seeds itself, follows a learner of any size, and a dead model is noticed."""

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import torch
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from engine.blending.scoring import RecommenderModel, ScoringConfig
from engine.generations import encode_generation
from engine.network.model import ModelConfig, SequenceModel
from streams.local.local_broker import HOST, LocalBroker
from streams.local.local_triton import LocalTriton, _wheel
from streams.local.processes import Child, free_port
from streams.triton.model_repository import ModelRepository
from tests.integration.test_local_triton import answers
from tests.unit.test_processes import eventually

pytestmark = pytest.mark.integration

PREFIX = "contained."


@dataclass(frozen=True)
class Container:
    """The server as its image starts it, with the backends of this machine."""

    process: Child
    address: str
    probe_port: int

    def probe(self) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "streams.triton.probe", str(self.probe_port)]
        return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def container(tmp_path: Path, broker: LocalBroker) -> Iterator[Container]:
    laid_out = LocalTriton(tmp_path / "server", ModelRepository(tmp_path / "models"), free_port())
    laid_out._lay_out()
    environment = laid_out._environment()
    environment["PATH"] += f":{_wheel() / 'tritonserver' / 'bin'}"
    del environment["HEADRACE_BACKEND"]
    environment |= {
        "HEADRACE_DATA_DIR": str(tmp_path),
        "HEADRACE_BROKER": broker.address,
        "HEADRACE_PREFIX": PREFIX,
        "HEADRACE_LEARNER__PRESET": "tiny",
    }
    grpc_port, probe_port = free_port(), free_port()
    arguments = [
        *(f"--backend-directory={tmp_path / 'server' / 'backends'}", f"--metrics-port={free_port()}"),
        *(f"--grpc-address={HOST}", f"--grpc-port={grpc_port}", f"--http-port={probe_port}"),
        f"--backend-config=python,shm-region-prefix-name={laid_out._region}",
    ]
    command = [sys.executable, "-m", "streams.triton.container", *arguments]
    process = Child("Triton", command, log_file=tmp_path / "triton.log", environment=environment)
    try:
        yield Container(process, f"{HOST}:{grpc_port}", probe_port)
    finally:
        process.stop()
        laid_out._remove_regions()


def test_it_seeds_itself_takes_a_learner_of_another_preset_and_fails_its_probe_when_the_model_is_dead(
    container: Container, broker: LocalBroker
) -> None:
    """Issue 10, C.1 and E: a Triton with another preset than the learner's refused every generation."""
    container.process.wait_until(lambda: container.probe().returncode == 0, 60)
    assert answers(container.address, lambda of: of.generation == 0)

    publish(broker, preset="small", generation=5)
    assert eventually(lambda: answers(container.address, lambda of: of.generation == 5), 30)
    assert "Generation 5 is of another config: the model was made anew" in container.process.output()

    [stub] = [child for child in psutil.Process(container.process.pid).children() if "stub" in child.name()]
    stub.kill()
    assert eventually(lambda: container.probe().returncode == 1, 30)
    assert container.probe().stderr.startswith("Triton gives no list: ")


def publish(broker: LocalBroker, preset: str, generation: int) -> None:
    client = {"bootstrap.servers": broker.address, "log_level": 0}
    topic = f"{PREFIX}weights"
    admin = AdminClient(client)  # ends what it was asked when it is let go
    admin.create_topics([NewTopic(topic, 1)])[topic].result(10)
    sequence = SequenceModel(ModelConfig.preset(preset), 64, torch.Generator().manual_seed(1))
    weights = RecommenderModel(sequence, ScoringConfig()).weights()
    producer = Producer(client)
    for key, value in encode_generation(weights, "champion", generation, 1)[0]:
        producer.produce(topic, value, key)
    assert producer.flush(20) == 0
