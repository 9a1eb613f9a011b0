"""Triton answers whatever happens to its model, and leaves nothing behind."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
import tritonclient.grpc as triton_client
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic
from tritonclient.utils import InferenceServerException

from engine.batch import HistoryBatch
from engine.blending.scoring import RecommenderModel, ScoringConfig
from engine.blending.serving import ServedModel
from engine.generations import encode_generation
from engine.network.model import ModelConfig, SequenceModel
from engine.weights import Weights, load
from streams.errors import ScorerUnavailableError, StartError
from streams.lists.ladder import Proposals
from streams.local.local_broker import LocalBroker
from streams.local.local_triton import CONTROL_KEY, SHARED_MEMORY, LocalTriton
from streams.local.processes import free_port, keep_running
from streams.triton.model_repository import MODEL, ModelRepository, write_seed_version
from streams.triton.scorer import TritonScorer
from tests.unit.test_processes import eventually, gone

pytestmark = pytest.mark.integration

HISTORY = HistoryBatch.of([([3, 4, 5], [1, 1, 1], [0, 60, 120])])
MEGABYTE = 2**20


def some_weights(seed: int) -> Weights:
    """As many rows as the seed has: other tests share the server."""
    sequence = SequenceModel(ModelConfig.preset("tiny"), 1024, torch.Generator().manual_seed(seed))
    return RecommenderModel(sequence, ScoringConfig()).weights()


def stub(server: LocalTriton) -> psutil.Process:
    assert server.pid
    return next(p for p in psutil.Process(server.pid).children() if "python_backend_stub" in p.name())


def ask(address: str, k: int = 10, seconds: float = 5) -> Proposals:
    async def once() -> Proposals:
        scorer = TritonScorer(address)
        try:
            return await scorer.top_k(HISTORY, k, seconds)
        finally:
            await scorer.close()

    return asyncio.run(once())


def answers(address: str, holds: Callable[[Proposals], bool] = lambda _: True) -> bool:
    try:
        return holds(ask(address))
    except ScorerUnavailableError:
        return False


def test_a_stranger_may_ask_for_lists_and_for_nothing_that_changes_the_server(
    triton: LocalTriton, tmp_path: Path
) -> None:
    assert answers(triton.address)
    stranger, written = triton_client.InferenceServerClient(triton.address), tmp_path / "written-by-a-stranger"
    for refused in (
        lambda: stranger.load_model(MODEL),
        lambda: stranger.unload_model(MODEL),
        lambda: stranger.load_model(MODEL, headers={f"triton-grpc-protocol-{CONTROL_KEY}": "guess"}),
        stranger.get_system_shared_memory_status,
        lambda: stranger.update_log_settings({"log_file": str(written)}),
        lambda: stranger.update_trace_settings(settings={"trace_file": str(written)}),
    ):
        with pytest.raises(InferenceServerException, match="restricted"):
            refused()
    assert not written.exists()
    assert answers(triton.address)
    stranger.close()


def test_the_token_that_opens_the_rest_is_in_no_list_of_processes(triton: LocalTriton) -> None:
    ours = {f"triton-grpc-protocol-{CONTROL_KEY}": triton._token}
    with triton_client.InferenceServerClient(triton.address) as client:
        assert client.get_model_repository_index(headers=ours).models
    shown = [" ".join(found.info["cmdline"] or ()) for found in psutil.process_iter(["cmdline"])]
    assert any(f"{CONTROL_KEY}=***" in arguments for arguments in shown)
    assert not [arguments for arguments in shown if triton._token in arguments]


@pytest.fixture
def own_triton(tmp_path: Path) -> Iterator[LocalTriton]:
    """A server to be harmed; it is looked after as `headrace triton` does."""
    repository = ModelRepository(tmp_path / "models")
    write_seed_version(repository, "tiny")
    server, stop = LocalTriton(tmp_path / "server", repository, free_port()), threading.Event()
    keeper = threading.Thread(target=keep_running, args=(server, stop, 0.05))
    keeper.start()
    assert eventually(lambda: answers(server.address), 60)
    yield server
    stop.set()
    keeper.join(30)
    assert not list(SHARED_MEMORY.glob(f"{server._region}*"))


def test_a_model_process_that_dies_is_replaced_by_a_restart(own_triton: LocalTriton) -> None:
    before = own_triton.pid
    stub(own_triton).kill()
    assert eventually(lambda: own_triton.pid != before and answers(own_triton.address), 60)


def test_a_new_version_is_served_and_a_broken_one_is_set_aside(own_triton: LocalTriton, tmp_path: Path) -> None:
    repository = ModelRepository(tmp_path / "models")
    assert repository.write_version(some_weights(seed=2), generation=5) == 2
    assert eventually(lambda: answers(own_triton.address, lambda got: (got.version, got.generation) == (2, 5)), 60)

    broken = repository.write_version(some_weights(seed=3), generation=6)
    whole = repository.file(broken).read_bytes() if repository.file(broken).exists() else b""
    assert eventually(lambda: answers(own_triton.address, lambda got: got.version == broken), 60)
    hidden = tmp_path / "models" / "sequence" / ".4.made"
    hidden.mkdir()
    (hidden / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    hidden.rename(tmp_path / "models" / "sequence" / "4")

    assert eventually(lambda: repository.newest() == broken, 60)
    assert ask(own_triton.address).version == broken


def test_the_model_process_stays_within_its_memory(own_triton: LocalTriton) -> None:
    for _ in range(20):
        ask(own_triton.address)
    assert stub(own_triton).memory_info().rss < 500 * MEGABYTE


def test_without_a_version_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="holds no version of the model"):
        LocalTriton(tmp_path / "server", ModelRepository(tmp_path / "models"), free_port()).start()


def test_a_busy_port_is_named(triton: LocalTriton, tmp_path: Path) -> None:
    with pytest.raises(StartError, match=f"Port {triton.port} is in use"):
        LocalTriton(tmp_path / "server", ModelRepository(tmp_path / "models"), triton.port).start()


def test_a_start_passes_over_versions_that_do_not_load(tmp_path: Path) -> None:
    repository = ModelRepository(tmp_path / "models")
    write_seed_version(repository, "tiny")
    repository.file(write_seed_version(repository, "tiny")).write_bytes(b"broken")
    with LocalTriton(tmp_path / "server", repository, free_port()) as server:
        assert ask(server.address).version == 1
    assert repository.versions() == [1]


def test_nothing_survives_a_parent_that_was_killed(tmp_path: Path) -> None:
    repository = ModelRepository(tmp_path / "models")
    write_seed_version(repository, "tiny")
    code = (
        "import sys, time, pathlib\n"
        "from streams.local.local_triton import LocalTriton\n"
        "from streams.triton.model_repository import ModelRepository\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        "server = LocalTriton(folder / 'server', ModelRepository(folder / 'models'), int(sys.argv[2]))\n"
        "server.start()\n"
        "print(server.pid, server._region, flush=True)\n"
        "time.sleep(60)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path), str(free_port())]
    parent = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert parent.stdout
    pid, region = parent.stdout.readline().split()
    family = [int(pid), *(child.pid for child in psutil.Process(int(pid)).children(recursive=True))]

    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()

    assert len(family) >= 3
    assert eventually(lambda: all(map(gone, family)), 15)
    assert not list(SHARED_MEMORY.glob(f"{region}*"))


def test_ctrl_c_leaves_no_process_and_no_shared_memory(tmp_path: Path) -> None:
    port = free_port()
    environment = {
        **os.environ,
        "HEADRACE_DATA_DIR": str(tmp_path),
        "HEADRACE_TRITON__URL": f"127.0.0.1:{port}",
        "HEADRACE_TRITON__METRICS_PORT": "0",
        "HEADRACE_BROKER": f"127.0.0.1:{free_port()}",
        "HEADRACE_LEARNER__PRESET": "tiny",
    }
    role = subprocess.Popen([sys.executable, "-m", "streams", "triton"], env=environment)
    assert eventually(lambda: role.poll() is not None or answers(f"127.0.0.1:{port}"), 60)
    family = [child.pid for child in psutil.Process(role.pid).children(recursive=True)]
    region = LocalTriton(tmp_path / "triton", ModelRepository(tmp_path), port)._region
    assert list(SHARED_MEMORY.glob(f"{region}*"))

    role.send_signal(signal.SIGINT)

    assert role.wait(10) == 0
    assert len(family) >= 3
    assert all(map(gone, family))
    assert not list(SHARED_MEMORY.glob(f"{region}*"))


class Publisher:
    """Writes generations to the topic that the shared Triton follows, one transaction each."""

    def __init__(self, address: str) -> None:
        client = {"bootstrap.servers": address, "log_level": 0}
        admin = AdminClient(client)
        if "weights" not in admin.list_topics(timeout=10).topics:
            admin.create_topics([NewTopic("weights", 1, config={"cleanup.policy": "compact"})])["weights"].result(10)
        self._producer = Producer({**client, "transactional.id": f"test-{time.time_ns()}", "message.max.bytes": 2**24})
        self._producer.init_transactions(20)

    def publish(self, log: list[tuple[str, bytes]], *, commit: bool = True) -> None:
        self._producer.begin_transaction()
        for key, value in log:
            self._producer.produce("weights", value, key)
        if commit:
            self._producer.commit_transaction(20)
        else:
            self._producer.flush(20)
            self._producer.abort_transaction(20)


def test_generations_are_applied_in_place_while_requests_run(broker: LocalBroker, triton: LocalTriton) -> None:
    seed = load(triton._repository.file(1))
    publisher = Publisher(broker.address)
    stages = {0: seed, 1: some_weights(seed=11), 2: some_weights(seed=12), 5: some_weights(seed=13)}
    expected = {number: ServedModel(of, 1, number).top_k(HISTORY, 10).rows_BK for number, of in stages.items()}

    async def run() -> tuple[list[Proposals], list[str]]:
        scorer, got, failed = TritonScorer(triton.address), list[Proposals](), list[str]()
        done = asyncio.Event()

        async def hammer() -> None:
            while not done.is_set():
                try:
                    got.append(await scorer.top_k(HISTORY, 10, 5))
                except ScorerUnavailableError as exc:
                    failed.append(str(exc))

        async def reaches(generation: int) -> None:
            async with asyncio.timeout(30):
                while not got or got[-1].generation != generation:  # noqa: ASYNC110 - the server tells nobody
                    await asyncio.sleep(0.01)

        async def say(log: list[tuple[str, bytes]], *, commit: bool = True) -> None:
            await asyncio.to_thread(publisher.publish, log, commit=commit)

        def whole(number: int, of: Weights, slot: str = "champion") -> list[tuple[str, bytes]]:
            return encode_generation(of, slot, number, 1)[0]

        clients = [asyncio.create_task(hammer()) for _ in range(4)]
        await say(whole(1, stages[1]))
        await reaches(1)
        await say(whole(2, stages[2]))
        await reaches(2)
        # Neither an aborted, nor a damaged, nor another slot's generation changes what is served.
        await say(whole(3, some_weights(seed=99)), commit=False)
        damaged = whole(4, some_weights(seed=98))
        await say([(damaged[0][0], damaged[0][1][:-1] + b"\x7f"), *damaged[1:]])
        await say(whole(9, some_weights(seed=97), "challenger"))
        await say(whole(5, stages[5]))
        await reaches(5)
        done.set()
        await asyncio.gather(*clients)
        await scorer.close()
        return got, failed

    got, failed = asyncio.run(run())

    assert failed == []
    assert {answer.generation for answer in got} == {0, 1, 2, 5}
    for answer in got:
        np.testing.assert_array_equal(answer.rows_BK, expected[answer.generation])
