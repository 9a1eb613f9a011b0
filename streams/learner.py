"""examples, items -> weights: predict, score, learn, and publish what was learned about every second.

Each outcome is learned once: the checkpoint holds how far every partition of `examples` was read and, for each
partition of `interactions`, which offsets were learned. What comes after the checkpoint is learned again by
whoever goes on from it, under generations with higher numbers.
"""

import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import structlog
import torch
from confluent_kafka import KafkaException
from kafka.errors import KafkaError
from prometheus_client import CollectorRegistry

from engine.online.checkpoint import newest_checkpoint, write_checkpoint
from engine.online.config import online_config
from engine.online.examples import Examples
from engine.online.guards import SpoiledError
from engine.online.prequential import OnlineLearner
from engine.online.quality import Quality
from engine.text import text_encoder
from streams.catalogue.row_log import RowLog
from streams.errors import StartError
from streams.files.backfill import file_batches, read_past
from streams.files.columns import Columns
from streams.folder_lock import take_lock
from streams.full_disk import named_when_full
from streams.instruments import LearnerInstruments
from streams.kafka.topic_setup import check_topics, ensure_topics
from streams.learning.commands import CommandLog
from streams.learning.example_source import ExampleSource
from streams.learning.examples import ExampleBatch
from streams.learning.item_texts import ItemTexts
from streams.learning.publisher import FencedError
from streams.learning.releases import Releases
from streams.local.processes import stop_signals
from streams.metrics_port import serve_metrics
from streams.settings import Settings

log = structlog.get_logger()

_POLL_SECONDS: Final = 0.1
_CHECKPOINT_SHARE: Final = 1 / 20
"""Of the time at most: one of 50,000 items is 300 MB, and a second of a core that serving may need."""
_NICENESS: Final = 5
"""Serving goes first where learner and worker share a core."""


class LearnerRole:
    """An OnlineLearner between Kafka and the model repository."""

    def __init__(self, settings: Settings, instruments: LearnerInstruments) -> None:
        self._settings = settings
        self._instruments = instruments
        wanted = settings.learner
        encoder = text_encoder(wanted.text)
        width = encoder.width if encoder else 0
        self._learner = OnlineLearner(online_config(wanted.preset, wanted.policy, wanted.canary_share, width))
        self._rows = RowLog(settings)
        self._texts = ItemTexts(settings, self._rows, encoder) if encoder else None
        if self._texts:
            self._learner.describe(*self._texts.all())  # before a checkpoint's anchor is made of it
        self._source = ExampleSource(settings, self._rows, instruments)
        self._releases = Releases(settings, self._learner, instruments)
        self._backfilled: list[str] = []
        """Marks of the files that were learned; see streams.files.readers."""
        self._commands = CommandLog(settings, self._restored())
        self._writer = ThreadPoolExecutor(1, "checkpoint")
        self._written: Future[float] = Future()
        """When the next checkpoint is due, as soon as the one before is on disk."""
        self._written.set_result(time.monotonic() + wanted.checkpoint_seconds)

    def run(self, stop: threading.Event) -> None:
        """Learn until told to stop, then leave a checkpoint."""
        self._source.begin()
        clock = self._settings.learner
        for offset, command, done in self._commands.waiting():
            self._releases.obey(command, offset, done=done)
        self._releases.begin()
        self._releases.publish(self._source.reached)
        published = versioned = time.monotonic()
        batch = self._batch()
        while not stop.is_set():
            due = published + clock.generation_seconds
            self._source.collect(batch, max(0.0, min(_POLL_SECONDS, due - time.monotonic())))
            for offset, command in self._commands.poll():
                self._releases.obey(command, offset)
            self._describe()
            now = time.monotonic()
            if batch.outcomes >= clock.micro_batch or now >= due:
                batch = self._learned_batch(batch)
            if now >= due:
                published = now
                self._releases.publish(self._source.reached)
            # Positions run ahead of what is learned while a batch is being collected.
            if self._written.done() and now >= self._written.result() and batch.empty:
                self._checkpoint()
            if now >= versioned + clock.version_seconds:
                self._releases.write_version()
                versioned = now
        self._learned_batch(batch)
        self._checkpoint().result()

    def backfill(self, path: Path, columns: Columns, until_line: int | None) -> int:
        """Learn from a file of older interactions, each row once; return how many were new.

        Leaves a checkpoint, a version and a generation.
        """
        past = read_past(path, columns, self._settings.state, until_line=until_line, learned=self._backfilled)
        log.info("backfill", file=str(path), new=past.new, known=len(past.interactions) - past.new, bad=past.rejected)
        if not past.new:
            return 0
        outcomes = 0
        for batch in file_batches(past, self._rows, self._learner.config.model.length):
            self._describe()
            outcomes += batch.outcomes
            self._observe(batch.examples())
        self._backfilled.append(past.mark)
        self._releases.write_version()
        self._learner.quality = Quality(self._learner.config.window)  # what is told from now on is of the stream
        self._checkpoint().result()
        self._releases.publish(self._source.reached)
        return outcomes

    def close(self) -> None:
        """Wait for a checkpoint that is being written, and let go of all connections."""
        self._writer.shutdown()
        if self._texts:
            self._texts.close()
        self._rows.close()
        self._source.close()
        self._commands.close()

    def _restored(self) -> int:
        """Go on from the newest checkpoint; return the offset of the first command that it does not hold."""
        state, problems = newest_checkpoint(self._path)
        for problem in problems:
            log.warning("checkpoint-refused", why=problem)
        if state is None:
            return 0
        try:
            self._learner.resume(state["learner"])
            self._source.restore(state)
            self._releases.restore(state["releases"])
            commands = int(state["commands"])
            self._backfilled = list(state.get("backfilled", ()))
        except (KeyError, RuntimeError, ValueError) as exc:
            raise StartError(
                f"The checkpoint {self._path} is of another model or release ({exc}); move it away to begin anew, or "
                "set HEADRACE_LEARNER__PRESET and __TEXT back."
            ) from exc
        log.info("checkpoint-restored", outcomes=self._learner.outcomes, generation=self._releases.generation)
        return commands

    def _checkpoint(self) -> Future[float]:
        """Copy what a checkpoint holds, and have it written while learning goes on; the result is when the next is due.

        Raises:
            OSError: from the result; there is no room.
        """
        with self._instruments.step_seconds.labels("snapshot").time():
            state = {
                "learner": self._learner.checkpoint(),
                **self._source.state(),
                "releases": self._releases.state(),
                "commands": self._commands.position,
                "backfilled": list(self._backfilled),
            }
        self._written = self._writer.submit(self._write, state)
        return self._written

    def _write(self, state: dict[str, Any]) -> float:
        begun = time.monotonic()
        with self._instruments.step_seconds.labels("checkpoint").time():
            write_checkpoint(self._path, state)
        now = time.monotonic()
        return now + max(self._settings.learner.checkpoint_seconds, (now - begun) / _CHECKPOINT_SHARE)

    @property
    def _path(self) -> Path:
        return self._settings.data_dir / "learner" / "checkpoint"

    def _batch(self) -> ExampleBatch:
        return ExampleBatch(self._learner.config.model.length)

    def _describe(self) -> None:
        """Take what has become known of items."""
        if self._texts:
            self._learner.describe(*self._texts.new())

    def _learned_batch(self, batch: ExampleBatch) -> ExampleBatch:
        """Learn a batch; return the next one, empty."""
        if batch.empty:
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
        self._written.result()  # it was taken before this batch
        state, _ = newest_checkpoint(self._path)
        if state is None:
            raise StartError(f"The weights are spoilt ({why}) and there is no checkpoint yet; start the learner again.")
        self._learner.resume(state["learner"])


def run_learner(settings: Settings) -> int:
    """Run the learner until SIGTERM or SIGINT; return its exit code.

    Raises:
        StartError: Kafka or the checkpoint does not allow a start.
    """
    with _alone(settings.data_dir / "learner"), stop_signals() as stop:
        role = _role(settings, metrics=True)
        try:
            with _told(settings):
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
    with _alone(settings.data_dir / "learner"):
        role = _role(settings, metrics=False)
        try:
            with _told(settings):
                return role.backfill(path, columns, until_line)
        finally:
            role.close()


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the folder of the checkpoints: two learners would write theirs over each other's, and fence each other."""
    lock = take_lock(folder / "learner.lock")
    if lock is None:
        raise StartError(f"A learner is already running on {folder}; stop it, or set another HEADRACE_DATA_DIR.")
    try:
        yield
    finally:
        os.close(lock)


def _role(settings: Settings, *, metrics: bool) -> LearnerRole:
    torch.set_num_threads(settings.learner.threads)
    os.nice(max(0, _NICENESS - os.nice(0)))
    check_topics(ensure_topics(settings))
    registry = CollectorRegistry()
    if metrics:
        serve_metrics(settings.metrics_host, settings.learner_metrics_port, registry, "HEADRACE_LEARNER_METRICS_PORT")
    with _told(settings):
        return LearnerRole(settings, LearnerInstruments(registry))


@contextmanager
def _told(settings: Settings) -> Iterator[None]:
    """Say in our words what stops a learner that is no defect: a full disk, a Kafka that is away."""
    try:
        with named_when_full(settings.data_dir):
            yield
    except (KafkaError, KafkaException) as exc:
        raise StartError(
            f"Kafka at {settings.broker} does not answer ({exc}); when it is back, start the learner again: it goes on "
            "from its checkpoint."
        ) from exc
