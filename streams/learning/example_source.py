"""examples -> batches: read on from where a checkpoint stands, each outcome once."""

from collections import defaultdict
from typing import Any

import structlog
from kafka import KafkaConsumer, TopicPartition

from streams.catalogue.row_log import RowLog
from streams.errors import RejectedEventError
from streams.instruments import LearnerInstruments
from streams.kafka.clients import kafka_python_config
from streams.learning.examples import Choice, ExampleBatch
from streams.learning.exposures import Exposures
from streams.learning.ledger import Ledger
from streams.records import Exposure, decode_example
from streams.settings import Settings

log = structlog.get_logger()


class ExampleSource:
    """The topic `examples`, and which of its outcomes were taken."""

    def __init__(self, settings: Settings, rows: RowLog, instruments: LearnerInstruments) -> None:
        self._settings = settings
        self._rows = rows
        self._instruments = instruments
        self._consumer: KafkaConsumer | None = None
        self._positions: dict[int, int] = {}
        """Next offset of `examples`, by partition."""
        self.ledgers: defaultdict[int, Ledger] = defaultdict(Ledger)
        """Offsets of `interactions` that were taken, by partition."""
        self._exposures = Exposures()

    def begin(self) -> None:
        """Connect, and read on from the positions."""
        self._consumer = KafkaConsumer(
            **kafka_python_config(
                self._settings,
                enable_auto_commit=False,
                auto_offset_reset="earliest",
                check_crcs=False,  # 0.1 s a megabyte in Python; an example that was damaged does not decode
                fetch_min_bytes=64 * 1024,  # a fetch an example would cost the learner and Kafka a sixth of a core each
                fetch_max_wait_ms=100,
                max_poll_records=self._settings.learner.micro_batch,
            )
        )
        topic = self._settings.topics.examples
        partitions = [TopicPartition(topic, number) for number in sorted(self._consumer.partitions_for_topic(topic))]
        self._consumer.assign(partitions)
        for partition in partitions:
            if partition.partition in self._positions:
                self._consumer.seek(partition, self._positions[partition.partition])
            else:
                self._consumer.seek_to_beginning(partition)

    def collect(self, batch: ExampleBatch, wait_seconds: float) -> None:
        """Put into a batch what has come in the meantime, or wait a moment for it."""
        assert self._consumer
        for records in self._consumer.poll(timeout_ms=int(wait_seconds * 1000)).values():
            for record in records:
                self._take(batch, record.value)
                self._positions[record.partition] = record.offset + 1

    @property
    def reached(self) -> dict[int, int]:
        """Newest offset taken, by partition of `interactions`."""
        return {partition: ledger.newest for partition, ledger in self.ledgers.items()}

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint holds; positions run ahead of what is learned while a batch is being collected."""
        ledgers = {partition: ledger.state() for partition, ledger in self.ledgers.items()}
        return {"positions": dict(self._positions), "learned": ledgers, "exposures": self._exposures.state()}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what `state` returned."""
        self._positions = dict(state["positions"])
        self.ledgers.update({partition: Ledger.restored(ledger) for partition, ledger in state["learned"].items()})
        self._exposures.restore(state["exposures"])

    def close(self) -> None:
        """Let go of the connection."""
        if self._consumer:
            self._consumer.close()

    def _take(self, batch: ExampleBatch, value: bytes) -> None:
        try:
            example = decode_example(value)
        except RejectedEventError as exc:
            self._instruments.rejected.labels("undecodable").inc()
            log.warning("example-rejected", why=str(exc))
            return
        ledger = self.ledgers[example.partition]
        is_new = [ledger.take(outcome.offset) for outcome in example.outcomes]
        self._instruments.skipped.inc(len(is_new) - sum(is_new))
        exposures = [exposure for exposure in example.shown if self._exposures.take(exposure)]
        late = [exposure for exposure in exposures if exposure.offset < 0]
        if not any(is_new) and not late:
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
        for exposure in late:  # its history is the one before it was shown, which the user's other examples have left
            batch.choose(example.user_id, entries[: len(history.items)], self._choice(exposure))
        if not any(is_new):
            return
        first = len(history.items) + is_new.index(True)
        new = [entry for entry, wanted in zip(entries[len(history.items) :], is_new, strict=True) if wanted]
        offsets = [outcome.offset for outcome, wanted in zip(example.outcomes, is_new, strict=True) if wanted]
        choices = {
            offsets.index(exposure.offset): self._choice(exposure)
            for exposure in exposures
            if exposure.offset in offsets
        }
        batch.extend(example.user_id, entries[:first], new, choices)

    def _choice(self, exposure: Exposure) -> Choice:
        taken, *passed = self._rows.of(shown.item_id for shown in (exposure.taken, *exposure.passed))
        return taken, [(row, shown.propensity) for row, shown in zip(passed, exposure.passed, strict=True)]
