"""examples -> weights: predict, score, learn, and publish what was learned about every second.

Each outcome is learned once: the checkpoint holds how far every partition of `examples` was read and, for each
partition of `interactions`, which offsets were learned. What comes after the checkpoint is learned again by
whoever goes on from it, under generations with higher numbers.
"""

import os
import threading
import time
from collections import defaultdict
from itertools import takewhile
from pathlib import Path
from typing import Final

import msgspec
import structlog
import torch
from kafka import KafkaConsumer, TopicPartition
from prometheus_client import CollectorRegistry, start_http_server

from engine.online.checkpoint import newest_checkpoint, write_checkpoint
from engine.online.config import online_config
from engine.online.examples import Examples
from engine.online.guards import SpoiledError
from engine.online.prequential import OnlineLearner
from engine.online.quality import Quality
from streams.commands.event_files import Columns, accepted
from streams.errors import StartError
from streams.instruments import LearnerInstruments
from streams.kafka import kafka_python_config
from streams.learning.examples import ExampleBatch
from streams.learning.ledger import Ledger
from streams.learning.models_admin import COMMAND
from streams.learning.publisher import FencedError
from streams.learning.releases import Releases
from streams.learning.row_log import RowLog
from streams.local.processes import stop_signals
from streams.records import TYPE_CODES, Command, decode_example
from streams.settings import Settings
from streams.topics import check_topics, ensure_topics

log = structlog.get_logger()

_POLL_SECONDS: Final = 0.05
_BACKFILL_BATCH: Final = 256
_NICENESS: Final = 5
"""Serving goes first where learner and worker share a core."""


class LearnerRole:
    """An OnlineLearner between Kafka and the model repository."""

    def __init__(self, settings: Settings, instruments: LearnerInstruments) -> None:
        self._settings = settings
        self._instruments = instruments
        self._learner = OnlineLearner(online_config(settings.learner.preset, settings.learner.policy))
        self._rows = RowLog(settings)
        self._releases = Releases(settings, self._learner, instruments)
        self._consumer: KafkaConsumer | None = None
        self._positions: dict[int, int] = {}
        """Next offset of `examples`, by partition."""
        self._commands = TopicPartition(settings.prefix + "decisions", 0)
        self._learned: defaultdict[int, Ledger] = defaultdict(Ledger)
        """Offsets of `interactions` that were learned, by partition."""
        self._restore()

    def run(self, stop: threading.Event) -> None:
        """Learn until told to stop, then leave a checkpoint."""
        self._assign()
        clock = self._settings.learner
        self._releases.begin()
        self._releases.publish(self._reached)
        published = checkpointed = versioned = time.monotonic()
        batch = self._batch()
        while not stop.is_set():
            due = published + clock.generation_seconds
            self._collect(batch, due)
            now = time.monotonic()
            if batch.outcomes >= clock.micro_batch or now >= due:
                batch = self._learned_batch(batch)
            if now >= due:
                published = now
                self._releases.publish(self._reached)
            # Positions run ahead of what is learned while a batch is being collected.
            if now >= checkpointed + clock.checkpoint_seconds and not batch.outcomes:
                self._checkpoint()
                checkpointed = time.monotonic()
            if now >= versioned + clock.version_seconds:
                self._releases.write_version()
                versioned = now
        self._learned_batch(batch)
        self._checkpoint()

    def backfill(self, path: Path, columns: Columns, until_line: int | None) -> int:
        """Learn from a file of older interactions; return how many. Leaves a checkpoint, a version and a generation."""
        lines = takewhile(lambda found: until_line is None or found[0] <= until_line, accepted(path, columns))
        interactions = [interaction for _, interaction in lines]
        self._rows.append(interaction.item_id for interaction in interactions)
        histories: dict[str, list[tuple[int, int, int]]] = {}
        length = self._learner.config.model.length
        for begin in range(0, len(interactions), _BACKFILL_BATCH):
            some = interactions[begin : begin + _BACKFILL_BATCH]
            rows = self._rows.of(interaction.item_id for interaction in some)
            batch = self._batch()
            for interaction, row in zip(some, rows, strict=True):
                timestamp: int = interaction.timestamp  # type: ignore[assignment]  # decode_interaction made it an int
                entry = (row, TYPE_CODES[interaction.type], timestamp // 1000)
                history = histories.setdefault(interaction.user_id, [])
                batch.extend(interaction.user_id, history, [entry])
                history.append(entry)
                del history[:-length]
            self._observe(batch.examples())
        self._releases.write_version()
        self._learner.quality = Quality(self._learner.config.window)  # what is told from now on is of the stream
        self._checkpoint()
        self._releases.publish(self._reached)
        return len(interactions)

    def close(self) -> None:
        """Let go of all connections."""
        self._rows.close()
        if self._consumer:
            self._consumer.close()

    def _restore(self) -> None:
        state, problems = newest_checkpoint(self._path)
        for problem in problems:
            log.warning("checkpoint-refused", why=problem)
        if state is None:
            return
        try:
            self._learner.resume(state["learner"])
        except (KeyError, RuntimeError, ValueError) as exc:
            raise StartError(
                f"The checkpoint {self._path} is of another model ({exc}); move it away to begin anew, or set "
                "HEADRACE_LEARNER__PRESET back."
            ) from exc
        self._positions = dict(state["positions"])
        self._learned.update({partition: Ledger.restored(ledger) for partition, ledger in state["learned"].items()})
        self._releases.generation = max(self._releases.generation, state["generation"])
        log.info("checkpoint-restored", outcomes=self._learner.outcomes, generation=self._releases.generation)

    def _checkpoint(self) -> None:
        state = {
            "learner": self._learner.checkpoint(),
            "positions": self._positions,
            "learned": {partition: ledger.state() for partition, ledger in self._learned.items()},
            "generation": self._releases.generation,
        }
        with self._instruments.step_seconds.labels("checkpoint").time():
            write_checkpoint(self._path, state)

    @property
    def _path(self) -> Path:
        return self._settings.data_dir / "learner" / "checkpoint"

    def _assign(self) -> None:
        self._consumer = KafkaConsumer(
            **kafka_python_config(
                self._settings,
                enable_auto_commit=False,
                auto_offset_reset="earliest",
                check_crcs=False,  # 0.1 s a megabyte in Python; an example that was damaged does not decode
                fetch_max_wait_ms=20,
                max_poll_records=self._settings.learner.micro_batch,
            )
        )
        topic = self._settings.prefix + "examples"
        partitions = [TopicPartition(topic, number) for number in sorted(self._consumer.partitions_for_topic(topic))]
        self._consumer.assign([*partitions, self._commands])
        self._consumer.seek_to_end(self._commands)
        for partition in partitions:
            if partition.partition in self._positions:
                self._consumer.seek(partition, self._positions[partition.partition])
            else:
                self._consumer.seek_to_beginning(partition)

    def _batch(self) -> ExampleBatch:
        return ExampleBatch(self._learner.config.model.length)

    def _collect(self, batch: ExampleBatch, due: float) -> None:
        """Take what has come in the meantime, or wait a moment for it."""
        wait = max(0.0, min(_POLL_SECONDS, due - time.monotonic()))
        assert self._consumer
        for partition, records in self._consumer.poll(timeout_ms=int(wait * 1000)).items():
            for record in records:
                if partition == self._commands:
                    self._obey(record.key, record.value)
                    continue
                self._take(batch, record.value)
                self._positions[record.partition] = record.offset + 1

    def _obey(self, key: bytes | None, value: bytes | None) -> None:
        if key != COMMAND.encode() or value is None:
            return
        try:
            self._releases.obey(msgspec.json.decode(value, type=Command))
        except msgspec.DecodeError as exc:
            log.warning("command-rejected", why=str(exc))

    def _take(self, batch: ExampleBatch, value: bytes) -> None:
        try:
            example = decode_example(value)
        except msgspec.DecodeError as exc:
            self._instruments.rejected.labels("undecodable").inc()
            log.warning("example-rejected", why=str(exc))
            return
        ledger = self._learned[example.partition]
        is_new = [ledger.take(outcome.offset) for outcome in example.outcomes]
        self._instruments.skipped.inc(len(is_new) - sum(is_new))
        if not any(is_new):
            return
        history = example.history
        known = self._rows.of([*history.items, *(outcome.item_id for outcome in example.outcomes)])
        entries = [
            (row, type_, timestamp // 1000)
            for row, type_, timestamp in zip(
                known,
                [*history.types, *(outcome.type for outcome in example.outcomes)],
                [*history.timestamps, *(outcome.timestamp for outcome in example.outcomes)],
                strict=True,
            )
        ]
        first = len(history.items) + is_new.index(True)
        new = [entry for entry, wanted in zip(entries[len(history.items) :], is_new, strict=True) if wanted]
        batch.extend(example.user_id, entries[:first], new)

    @property
    def _reached(self) -> dict[int, int]:
        """Newest offset learned, by partition of `interactions`."""
        return {partition: ledger.newest for partition, ledger in self._learned.items()}

    def _learned_batch(self, batch: ExampleBatch) -> ExampleBatch:
        """Learn a batch; return the next one, empty."""
        if not batch.outcomes:
            return batch
        self._learner.grow(self._rows.rows)
        self._observe(batch.examples())
        for name, metrics in self._learner.quality.report().items():
            for metric, value in metrics.items():
                self._instruments.quality.labels(name, metric).set(value)
        return self._batch()

    def _observe(self, examples: Examples) -> None:
        instruments = self._instruments
        try:
            scored = self._learner.observe(examples)
        except SpoiledError as exc:
            self._recover(str(exc), int(examples.is_outcome_T.sum()))
            return
        instruments.examples.inc(scored.accepted)
        instruments.rejected.labels("made_up").inc(scored.offered - scored.accepted)
        instruments.loss.set(scored.loss)
        instruments.drifts.inc(scored.drift)
        for stage, seconds in scored.seconds.items():
            instruments.step_seconds.labels(stage).observe(seconds)
        for decision in scored.decisions:
            self._releases.decide(decision)

    def _recover(self, why: str, outcomes: int) -> None:
        """Go on from the newest checkpoint, without the outcomes that spoilt the weights."""
        log.error("weights-spoilt", why=why, outcomes=outcomes)
        self._instruments.rejected.labels("spoilt").inc(outcomes)
        state, _ = newest_checkpoint(self._path)
        if state is None:
            raise StartError(f"The weights are spoilt ({why}) and there is no checkpoint yet; start the learner again.")
        self._learner.resume(state["learner"])


def run_learner(settings: Settings) -> int:
    """Run the learner until SIGTERM or SIGINT; return its exit code.

    Raises:
        StartError: Kafka or the checkpoint does not allow a start.
    """
    with stop_signals() as stop:
        role = _role(settings, metrics=True)
        try:
            role.run(stop)
        except FencedError as exc:
            log.error("learner-fenced", why=str(exc))  # noqa: TRY400 - the sentence says it all
            return 1
        finally:
            role.close()
    return 0


def backfill(settings: Settings, path: Path, columns: Columns, *, until_line: int | None = None) -> int:
    """Learn from a file of older interactions; return how many.

    Raises:
        StartError: Kafka, the file or the checkpoint does not allow it.
    """
    role = _role(settings, metrics=False)
    try:
        return role.backfill(path, columns, until_line)
    finally:
        role.close()


def _role(settings: Settings, *, metrics: bool) -> LearnerRole:
    torch.set_num_threads(settings.learner.threads)
    os.nice(max(0, _NICENESS - os.nice(0)))
    check_topics(ensure_topics(settings))
    registry = CollectorRegistry()
    if metrics:
        _serve_metrics(settings, registry)
    return LearnerRole(settings, LearnerInstruments(registry))


def _serve_metrics(settings: Settings, registry: CollectorRegistry) -> None:
    try:
        server, _ = start_http_server(settings.learner_metrics_port, settings.metrics_host, registry)
    except OSError as exc:
        raise StartError(
            f"Port {settings.learner_metrics_port} is taken; set HEADRACE_LEARNER_METRICS_PORT to a free one, or to 0."
        ) from exc
    log.info("metrics", address=f"http://{settings.metrics_host}:{server.server_port}/metrics")
