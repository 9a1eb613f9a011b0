"""The worker: a Faust app that folds events into user states, asks Triton, sends recommendations and serves HTTP.

create_app wires the parts, once; streams.worker runs the app.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import faust
import structlog
from faust.types import TP
from prometheus_client import CollectorRegistry, ProcessCollector
from yarl import URL

from streams.agents.add_items import AddItems
from streams.agents.answer_requests import AnswerRequests
from streams.agents.completion import Completion
from streams.agents.expire_users import REST_SECONDS, ExpireUsers
from streams.agents.folding import Folding
from streams.agents.join_impressions import JoinImpressions
from streams.agents.keep_histories import KeepHistories
from streams.agents.ownership import Ownership
from streams.agents.periodic import periodic
from streams.agents.pipeline import Pipeline
from streams.agents.recommender import Recommender
from streams.agents.review_changelog import LOOK_SECONDS, Ends, ReviewChangelog
from streams.agents.under_way import UnderWay
from streams.api.api_server import ApiServer
from streams.api.http import create_api
from streams.api.worker_serving import WorkerServing
from streams.catalogue.catalogue import Catalogue
from streams.followers.catalogue import CatalogueFollower
from streams.followers.decisions import DecisionFollower
from streams.followers.neighbours import NeighbourFollower
from streams.instruments import WorkerInstruments
from streams.kafka.clients import faust_credentials, librdkafka_config
from streams.kafka.dead_letters import DeadLetters
from streams.kafka.lease import Lease
from streams.kafka.membership import member_name
from streams.kafka.outputs import Outputs
from streams.kafka.range_reader import read_range
from streams.kafka.unnamed import Unnamed
from streams.lists.ladder import Ladder
from streams.metrics_port import serve_metrics
from streams.pseudonyms import pseudonyms
from streams.settings import Settings
from streams.state.batch_fold import BatchFold
from streams.state.foreign_writes import ForeignWrites
from streams.state.progress import Progress
from streams.state.table import DeclaredTables, UserTable
from streams.state.user_states import UserStates
from streams.triton.credentials import credentials
from streams.triton.scorer import TritonScorer

_log = structlog.get_logger()

LEASE_SHARE: Final = 0.6
"""Of the session timeout: a worker frozen for longer, or a record not acknowledged by then, stops the worker."""
_HEARTBEATS: Final = 20
"""A session. With the next one a worker hears that it is to take over from another: after .3 s, and not after 1 s."""
_BUFFERED_BATCHES: Final = 2
_FETCH_BYTES: Final = 2 * 1024 * 1024
"""Of one partition: the larger a batch, the more events of one user share a changelog record and a write."""
_MEASURE_SECONDS: Final = 5.0
_CHECK_SECONDS: Final = 1.0
_READ_AGAIN_SECONDS: Final = 30.0
"""For a batch that could not be folded; reading its 2 MB takes .1 s."""
_LAST_BATCHES_SECONDS: Final = 2.0


@dataclass(frozen=True)
class Worker:
    """The parts of a worker that have a life: started, measured and stopped together."""

    app: faust.App
    serving: WorkerServing
    table: UserTable
    states: UserStates
    pipeline: Pipeline
    lease: Lease
    outputs: Outputs
    catalogue: CatalogueFollower
    neighbours: NeighbourFollower
    decisions: DecisionFollower
    scorer: TritonScorer
    server: ApiServer
    instruments: WorkerInstruments
    serve_metrics: Callable[[], object]

    async def start(self) -> None:
        """Take the ports, follow what the lists need, then open the API."""
        self.server.bind()
        self.serve_metrics()
        # Not one of the app's tasks: they begin when it is in the group, which can take longer than the lease.
        self.app.add_future(self.lease.keep())
        self.table.prepare()
        await asyncio.to_thread(self.outputs.read_limits, self.table.changelog_topic_name)
        await asyncio.to_thread(self.catalogue.start)
        self.neighbours.start()
        self.decisions.start()
        await self.server.start()
        self.app.conf.canonical_url = URL(f"http://{self.server.reachable}")  # before the group is told of it
        _log.info("worker_listening", address=self.server.address)

    async def stop(self) -> None:
        """Close the API, finish what is under way, let go of the topics."""
        await self.server.stop()
        await self.pipeline.wind_up(_LAST_BATCHES_SECONDS)
        await self.scorer.close()
        for close in (self.outputs.close, self.catalogue.stop, self.neighbours.stop, self.decisions.stop):
            await asyncio.to_thread(close)

    async def watch(self) -> None:
        """Wait for a follower whose thread has ended: lists would be made of what was true then, for ever.

        Raises:
            StartError: which one, and why.
        """
        while True:
            for follower in (self.catalogue, self.neighbours, self.decisions):
                follower.check()
            await asyncio.sleep(_CHECK_SECONDS)

    async def on_revoked(self, _app: faust.App, revoked: set[TP], **_: Any) -> None:  # noqa: ANN401 - faust's signal
        """Evict the users of partitions that another worker may own from now on."""
        topic = self.table.changelog_topic_name
        await self.pipeline.on_revoked([tp.partition for tp in revoked if tp.topic == topic])

    async def on_assigned(self, _app: faust.App, _assigned: set[TP], **_: Any) -> None:  # noqa: ANN401
        """Begin with the partitions that were given to this worker."""
        self.table.take()
        self.pipeline.on_assigned()

    async def measure(self) -> None:
        """Set the gauges."""
        known = self.catalogue.catalogue
        self.instruments.catalogue_items.set(len(known.rows))
        self.instruments.retired_items.set(known.unavailable)
        self.instruments.cached_users.set(len(self.states))
        self.instruments.owned_partitions.set(len(self.serving.settled_partitions()))
        for partition, size in self.table.size_bytes().items():
            self.instruments.table_bytes.labels(str(partition)).set(size)
        self.instruments.lag.clear()  # of partitions that are another worker's by now
        for tp, behind in self.app.consumer.behind().items():
            self.instruments.lag.labels(tp.topic, str(tp.partition)).set(behind)


def create_app(settings: Settings, partitions: int) -> Worker:
    """Return a worker wired from settings; to be called in the loop that it will run in.

    Args:
        settings: all of them.
        partitions: how many the topics keyed by user have.
    """
    settings = _as_created(settings, partitions)
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    instruments = WorkerInstruments(registry)
    app = _faust_app(settings, partitions)
    table = UserTable(app, instruments=instruments, name="histories", partitions=partitions)
    app.tables.add(table)

    lease = Lease(settings.kafka.session_timeout_seconds * LEASE_SHARE)
    outputs = Outputs(settings, lease.seconds)
    catalogue = Catalogue()
    neighbours = NeighbourFollower(librdkafka_config(settings), settings.topics.weights, instruments)
    decisions = DecisionFollower(librdkafka_config(settings), settings.topics.decisions)
    scorer = TritonScorer(settings.triton.url, settings.triton.batch_users, credentials(settings.triton))
    ladder = Ladder(scorer, neighbours, catalogue, settings, instruments, decisions.slot_of)
    progress = Progress(settings.topics.interactions)
    states = UserStates(table, settings.state.cache_users)
    instruments.dead_letters.labels(
        table.changelog_topic_name, "broken_state"
    )  # so that the first is seen to be one more
    dead_letters = DeadLetters(settings.topics.dead_letters, outputs, instruments, _unnamed(settings))
    ownership = Ownership(lease, lambda: app.consumer_generation_id)
    foreign_writes = ForeignWrites(settings, table, states, outputs, instruments)
    by_user = [settings.topics.interactions, settings.topics.impressions]
    under_way = UnderWay(folder_of(settings) / "under-way", by_user, partitions)
    read_again = partial(read_range, librdkafka_config(settings), seconds=_READ_AGAIN_SECONDS)
    folding = Folding(table, states, outputs, ownership, under_way, read_again)
    completion = Completion(table, states, outputs, foreign_writes, ownership, progress, under_way, instruments)
    pipeline = Pipeline(
        table, states, outputs, dead_letters, foreign_writes, folding, completion, ownership, progress, instruments
    )
    recommender = Recommender(settings, outputs, ladder, dead_letters, instruments)
    agents = {
        "interactions": KeepHistories(pipeline, BatchFold(settings, states, catalogue.rows), recommender),
        "impressions": JoinImpressions(settings, states, pipeline, recommender),
        "requests": AnswerRequests(settings, states, outputs, ladder, dead_letters, ownership, instruments),
        "items": AddItems(settings, outputs, catalogue, dead_letters),
    }
    for name, agent in agents.items():
        raw = app.topic(settings.topics.named(name), key_serializer="raw", value_serializer="raw")
        app.agent(raw, name=f"{type(agent).__name__}")(agent)

    serving = WorkerServing(settings, app, table, states, outputs, catalogue, ladder, progress, partitions, instruments)
    server = ApiServer(create_api(serving, settings, instruments, registry), settings.http)
    worker = Worker(
        app, serving, table, states, pipeline, lease, outputs, CatalogueFollower(settings, catalogue), neighbours,
        decisions, scorer, server, instruments, lambda: _serve_metrics(settings, registry),
    )  # fmt: skip
    app.task(completion.watch)
    app.task(worker.watch)
    expire = ExpireUsers(settings, table, pipeline, serving.settled_partitions, instruments)
    review = ReviewChangelog(table, pipeline, serving.settled_partitions, _changelog_ends(app, table))
    for name, seconds, work in (
        ("expire-users", REST_SECONDS, expire.run),
        ("review-changelog", LOOK_SECONDS, review.look),
        ("measure", _MEASURE_SECONDS, worker.measure),
    ):
        app.task(periodic(name, seconds, work, instruments))
    app.on_partitions_revoked.connect(worker.on_revoked)
    app.on_partitions_assigned.connect(worker.on_assigned)
    app.on_start = _both(worker.start, app.on_start)
    app.on_stop = _both(worker.stop, app.on_stop)
    return worker


def _faust_app(settings: Settings, partitions: int) -> faust.App:
    kafka = settings.kafka
    url = f"http://{settings.http.advertised or settings.http.local_address}"
    return faust.App(
        settings.topics.workers,
        broker=[f"batches://{address}" for address in settings.broker.split(",")],
        broker_credentials=faust_credentials(settings),
        broker_session_timeout=kafka.session_timeout_seconds,
        broker_heartbeat_interval=kafka.session_timeout_seconds / _HEARTBEATS,
        broker_request_timeout=20.0,
        broker_commit_interval=0.3,
        broker_max_poll_interval=60.0,
        consumer_auto_offset_reset="earliest",
        consumer_group_instance_id=member_name(folder_of(settings), settings.worker_id, url),
        consumer_max_fetch_size=_FETCH_BYTES,
        stream_buffer_maxsize=_BUFFERED_BATCHES,
        stream_wait_empty=False,
        store="rocksdb://",
        TableManager=DeclaredTables,
        datadir=str(folder_of(settings)),
        table_standby_replicas=settings.state.standbys,
        topic_partitions=partitions,
        topic_replication_factor=kafka.replication_factor,
        topic_disable_leader=True,
        canonical_url=url,
        web_enabled=False,
        autodiscover=False,
        version=1,
    )


def _as_created(settings: Settings, partitions: int) -> Settings:
    """Return settings with the partitions that the topics have, rather than those they were to be created with."""
    return settings.model_copy(update={"kafka": settings.kafka.model_copy(update={"partitions": partitions})})


def _unnamed(settings: Settings) -> Unnamed | None:
    if settings.pseudonym_key is None:
        return None
    topics = settings.topics
    hide = pseudonyms(settings.pseudonym_key, settings.kafka.partitions)
    return Unnamed(hide, {topics.interactions, topics.impressions, topics.requests})


def _serve_metrics(settings: Settings, registry: CollectorRegistry) -> None:
    if settings.worker_metrics_port is not None:
        serve_metrics(settings.metrics_host, settings.worker_metrics_port, registry, "HEADRACE_WORKER_METRICS_PORT")


def _changelog_ends(app: faust.App, table: UserTable) -> Ends:
    async def ends(partitions: Collection[int]) -> Mapping[int, int]:
        topic = table.changelog_topic_name
        found = await app.consumer.highwaters(*(TP(topic, partition) for partition in partitions))
        return {tp.partition: end for tp, end in found.items()}

    return ends


def folder_of(settings: Settings) -> Path:
    """Return where a worker keeps its tables and its name."""
    return settings.data_dir / settings.worker_id


Hook = Callable[[], Awaitable[None]]


def _both(first: Hook, second: Hook) -> Hook:
    async def both() -> None:
        await first()
        await second()

    return both
