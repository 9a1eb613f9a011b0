"""The worker: a Faust app that folds events into user states, asks Triton, sends recommendations and serves HTTP.

create_app wires the parts, once; run_worker runs the app until it is told to stop.
"""

import asyncio
import os
import signal
import sys
from dataclasses import dataclass
from typing import Any, Final

import faust
import structlog
import uvloop
from faust.transport.drivers import TRANSPORTS
from prometheus_client import CollectorRegistry, ProcessCollector

from streams.add_items import AddItems
from streams.answer_requests import AnswerRequests
from streams.api_server import ApiServer
from streams.catalogue import Catalogue, CatalogueFollower
from streams.errors import StartError
from streams.http import create_api
from streams.instruments import WorkerInstruments
from streams.kafka import faust_credentials
from streams.keep_histories import KeepHistories
from streams.ladder import Ladder
from streams.lease import Lease
from streams.outputs import Outputs
from streams.progress import Progress
from streams.scorer import TritonScorer
from streams.serving import WorkerServing
from streams.settings import Settings
from streams.table import UserTable
from streams.topics import BY_USER, SPECS, check_topics, ensure_topics
from streams.weights_follower import WeightsFollower

_log = structlog.get_logger()

LEASE_SHARE: Final = 0.6
"""Of the session timeout: a worker frozen for longer, or a record not acknowledged by then, stops the worker."""
_BUFFERED_BATCHES: Final = 4
_MEASURE_SECONDS: Final = 5.0


@dataclass(frozen=True)
class WorkerApp:
    """A wired worker."""

    app: faust.App
    serving: WorkerServing
    instruments: WorkerInstruments


def create_app(settings: Settings, partitions: int) -> WorkerApp:
    """Return a worker wired from settings; nothing runs yet.

    Args:
        settings: all of them.
        partitions: how many the topics keyed by user have.
    """
    TRANSPORTS.aliases.setdefault("batches", "streams.transport:Transport")
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    instruments = WorkerInstruments(registry)
    app = _faust_app(settings, partitions)
    table = UserTable(app, instruments=instruments, name="histories", partitions=partitions)
    app.tables.add(table)

    lease = Lease(settings.kafka.session_timeout_seconds * LEASE_SHARE)
    outputs = Outputs(settings, lease.seconds)
    catalogue = Catalogue()
    follower = CatalogueFollower(settings, catalogue)
    weights = WeightsFollower(settings)
    scorer = TritonScorer(settings.triton)
    ladder = Ladder(scorer, weights, catalogue, settings, instruments)
    progress = Progress()
    keep_histories = KeepHistories(
        settings, table, outputs, catalogue, ladder, lease, progress, instruments, lambda: app.consumer_generation_id
    )
    states = keep_histories.states

    def topic(name: str, count: int) -> Any:  # noqa: ANN401 - faust has no types here
        return app.topic(settings.prefix + name, partitions=count, key_serializer="raw", value_serializer="raw")

    app.agent(topic("interactions", partitions), name="keep-histories")(keep_histories)
    app.agent(topic("requests", partitions), name="answer-requests")(
        AnswerRequests(settings, states, outputs, ladder, instruments)
    )
    app.agent(topic("items", 1), name="add-items")(AddItems(settings, outputs, catalogue, instruments))

    serving = WorkerServing(settings, app, table, states, outputs, catalogue, ladder, progress, partitions)
    server = ApiServer(create_api(serving, settings, instruments, registry), settings.http)

    async def start() -> None:
        table.prepare()
        await asyncio.to_thread(follower.start)
        await asyncio.to_thread(weights.start)
        await server.start()
        _log.info("worker_listening", address=server.address)

    async def stop() -> None:
        await server.stop()
        await scorer.close()
        await asyncio.to_thread(outputs.close)
        await asyncio.to_thread(follower.stop)
        await asyncio.to_thread(weights.stop)

    @app.task
    async def hold_lease() -> None:
        await lease.keep()

    @app.task
    async def stop_on_failure() -> None:
        await keep_histories.watch()

    @app.timer(interval=_MEASURE_SECONDS)
    async def measure() -> None:
        instruments.catalogue_items.set(len(catalogue.rows))
        instruments.retired_items.set(len(catalogue.unavailable_rows))
        instruments.cached_users.set(len(states))
        if tables := weights.tables:
            instruments.generation.set(tables.generation)
        for partition, size in table.size_bytes().items():
            instruments.table_bytes.labels(str(partition)).set(size)
        for tp, end in app.monitor.tp_end_offsets.items():
            committed = app.monitor.tp_committed_offsets.get(tp, 0)
            instruments.lag.labels(tp.topic, str(tp.partition)).set(max(0, end - committed))

    @app.on_partitions_revoked.connect
    async def let_go(_app: faust.App, revoked: set[Any], **_: Any) -> None:  # noqa: ANN401
        await keep_histories.let_go([tp.partition for tp in revoked if tp.topic.endswith("interactions")])

    app.on_start = _before(app.on_start, start)
    app.on_stop = _before(app.on_stop, stop)
    return WorkerApp(app, serving, instruments)


def run_worker(settings: Settings) -> int:
    """Run a worker until SIGTERM or SIGINT; return its exit code.

    Raises:
        StartError: Kafka cannot be reached or its topics are not what Headrace needs.
    """
    states = ensure_topics(settings)
    check_topics(states)
    partitions = next(state.partitions for state, spec in zip(states, SPECS, strict=True) if spec.partitions == BY_USER)
    _make_folder(settings)
    uvloop.install()
    worker = create_app(settings, partitions)
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    return loop.run_until_complete(_run(worker.app, loop))


async def _run(app: faust.App, loop: asyncio.AbstractEventLoop) -> int:
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    await app.start()
    waiting = [asyncio.create_task(stopped.wait()), asyncio.create_task(app.wait_until_stopped())]
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    if reason := app.crash_reason:
        _log.error("worker_stopped", reason=str(reason))
        # Nothing may be sent or committed any more, so there is nothing to tidy up.
        sys.stderr.flush()
        os._exit(1)
    await app.stop()
    return 0


def _faust_app(settings: Settings, partitions: int) -> faust.App:
    kafka = settings.kafka
    return faust.App(
        f"{settings.prefix}workers",
        broker=[f"batches://{address}" for address in settings.broker.split(",")],
        broker_credentials=faust_credentials(settings),
        broker_session_timeout=kafka.session_timeout_seconds,
        broker_heartbeat_interval=kafka.session_timeout_seconds / 6,
        broker_request_timeout=20.0,
        broker_commit_interval=0.5,
        broker_max_poll_interval=60.0,
        consumer_auto_offset_reset="earliest",
        stream_buffer_maxsize=_BUFFERED_BATCHES,
        stream_wait_empty=False,
        store="rocksdb://",
        datadir=str(settings.data_dir / settings.worker_id),
        table_standby_replicas=settings.state.standbys,
        topic_partitions=partitions,
        topic_replication_factor=kafka.replication_factor,
        topic_disable_leader=True,
        canonical_url=f"http://{settings.http.advertised or f'{settings.http.host}:{settings.http.port}'}",
        web_enabled=False,
        autodiscover=False,
        version=1,
    )


def _make_folder(settings: Settings) -> None:
    folder = settings.data_dir / settings.worker_id
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise StartError(
            f"The worker's folder {folder} cannot be made: {exc.strerror}; set HEADRACE_DATA_DIR."
        ) from exc


def _before(hook: Any, part: Any) -> Any:  # noqa: ANN401 - faust's hooks
    async def both() -> None:
        await part()
        await hook()

    return both
