"""settings -> a learner that runs: alone on its folder, and with a sentence where it cannot start or go on."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import structlog
import torch
from confluent_kafka import KafkaException
from prometheus_client import CollectorRegistry

from streams.errors import StartError
from streams.files.backfill import file_batches, read_past
from streams.files.columns import Columns
from streams.folder_lock import take_lock
from streams.full_disk import named_when_full
from streams.instruments import LearnerInstruments
from streams.kafka.refusals import refusal
from streams.kafka.topic_setup import check_topics, ensure_topics
from streams.learning.publisher import FencedError
from streams.learning.role import LearnerRole
from streams.local.processes import stop_signals
from streams.metrics_port import serve_metrics
from streams.settings import Settings

log = structlog.get_logger()

_NICENESS: Final = 5
"""Serving goes first where learner and worker share a core."""


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
    """Learn from a file of older interactions, each row once; return how many were new.

    Raises:
        StartError: Kafka, the file or the checkpoint does not allow it.
    """
    with _alone(settings.data_dir / "learner"):
        role = _role(settings, metrics=False)
        try:
            with _told(settings):
                return learn_past(role, settings, path, columns, until_line)
        finally:
            role.close()


def learn_past(role: LearnerRole, settings: Settings, path: Path, columns: Columns, until_line: int | None) -> int:
    """Let a learner learn the rows of a file that it has not learned before; return how many they are."""
    past = read_past(path, columns, settings.state, until_line=until_line, learned=role.backfilled)
    log.info("backfill", file=str(path), new=past.new, known=len(past.interactions) - past.new, bad=past.rejected)
    return role.backfill(file_batches(past, role.rows, role.length), past.mark) if past.new else 0


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
    """Say in our words what stops a learner that is no defect: a full disk, a Kafka that is away or refuses."""
    try:
        with named_when_full(settings.data_dir):
            yield
    except KafkaException as exc:
        why = refusal(settings, exc)
        raise StartError(f"{why} Then start the learner again: it goes on from its checkpoint.") from exc
