"""examples -> batches: read on from where a checkpoint stands, each outcome once, in slices of bounded size."""

import time
from collections import defaultdict, deque
from typing import Any, Final

import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from streams.catalogue.row_log import RowLog
from streams.decoding import decode_example
from streams.errors import RejectedEventError, StartError
from streams.instruments import LearnerInstruments
from streams.kafka.clients import librdkafka_config
from streams.kafka.failures import is_damage, is_passing
from streams.learning.examples import ExampleBatch
from streams.learning.exposures import Exposures
from streams.learning.ledger import Ledger
from streams.learning.rejections import Rejections
from streams.learning.slices import Slices
from streams.learning.suspects import Suspects
from streams.settings import Settings

log = structlog.get_logger()

_SECONDS: Final = 20.0
_FETCHED: Final = 1000
_AHEAD_KILOBYTES: Final = 16 * 1024
_LAG_SECONDS: Final = 3.0


class ExampleSource:
    """The topic `examples`, and which of its outcomes were taken."""

    def __init__(
        self,
        settings: Settings,
        rows: RowLog,
        instruments: LearnerInstruments,
        rejections: Rejections,
        suspects: Suspects,
    ) -> None:
        self._settings = settings
        self._rows = rows
        self._instruments = instruments
        self._rejections = rejections
        self._suspects = suspects
        self._topic = settings.topics.examples
        self._consumer: Consumer | None = None
        self._fetched: deque[Message] = deque()
        self._slices: Slices | None = None
        """Of the first record of `fetched`."""
        self._positions: dict[int, int] = {}
        """Next offset of `examples`, by partition."""
        self._skips: defaultdict[int, int] = defaultdict(int)
        """How far the last jump over damaged records was, by partition."""
        self._measured = 0.0
        self.ledgers: defaultdict[int, Ledger] = defaultdict(Ledger)
        """Offsets of `interactions` that were taken, by partition."""
        self._exposures = Exposures()

    def begin(self) -> None:
        """Connect, and read on from the positions.

        Raises:
            StartError: the topic ends before the checkpoint's position.
            KafkaException: Kafka does not answer, or refuses.
        """
        self._consumer = Consumer(
            librdkafka_config(
                self._settings,
                group_id=self._settings.topics.named("learner"),  # librdkafka wants one; nothing is committed under it
                enable_auto_commit=False,
                auto_offset_reset="error",
                isolation_level="read_committed",
                fetch_min_bytes=64 * 1024,  # a fetch an example would cost the learner and Kafka a sixth of a core each
                fetch_wait_max_ms=100,
                queued_max_messages_kbytes=_AHEAD_KILOBYTES,
            )
        )
        self._assign()

    def collect(self, batch: ExampleBatch, wait_seconds: float) -> bool:
        """Put what has come in into a batch, or wait a moment for it; tell whether it is to be learned now.

        It is when it is full. A record on which learning has failed before comes alone.
        """
        self._measure_lag()
        if not self._fetched:
            self._fetch(wait_seconds)
        while self._fetched and not batch.full:
            record = self._fetched[0]
            suspect = self._suspects.hold(record.partition(), record.offset())
            if suspect and batch.records and not batch.holds_only(record.partition(), record.offset()):
                return True
            self._put(record, batch)
            if suspect and not batch.empty:
                return True
        return batch.full

    @property
    def reached(self) -> dict[int, int]:
        """Newest offset taken, by partition of `interactions`."""
        return {partition: ledger.newest for partition, ledger in self.ledgers.items()}

    @property
    def positions(self) -> dict[int, int]:
        """Next offset of `examples` that is not taken as a whole, by partition."""
        return dict(self._positions)

    def leave_out(self, batch: ExampleBatch) -> None:
        """Count what a batch holds as taken."""
        for partition, offset in batch.sources:
            self.ledgers[partition].take(offset)
        for exposure in batch.late:
            self._exposures.take(exposure)

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint holds; positions run ahead of what is learned while a batch is being collected."""
        ledgers = {partition: ledger.state() for partition, ledger in self.ledgers.items()}
        return {"positions": dict(self._positions), "learned": ledgers, "exposures": self._exposures.state()}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what `state` returned; what was read since is read again."""
        self._positions = dict(state["positions"])
        self.ledgers.clear()
        self.ledgers.update({partition: Ledger.restored(ledger) for partition, ledger in state["learned"].items()})
        self._exposures.restore(state["exposures"])
        if self._consumer:
            self._assign()

    def close(self) -> None:
        """Let go of the connection."""
        if self._consumer:
            self._consumer.close()

    def _assign(self) -> None:
        """Read on from the positions; what was fetched and not taken is fetched again."""
        assert self._consumer
        self._fetched.clear()
        self._slices = None
        found = self._consumer.list_topics(self._topic, _SECONDS).topics[self._topic]
        if found.error:
            raise KafkaException(found.error)
        self._consumer.assign([self._place(number) for number in sorted(found.partitions)])

    def _place(self, number: int) -> TopicPartition:
        """Return where to read on; what Kafka no longer holds is counted and passed over."""
        assert self._consumer
        place = TopicPartition(self._topic, number)
        begin, end = self._consumer.get_watermark_offsets(place, _SECONDS)
        wanted = self._positions.get(number, begin)
        if wanted > end:
            raise StartError(
                f"{self._topic}, partition {number}, ends at offset {end}, and the learner has read up to {wanted}: "
                "the topic was made anew or has lost records. Move the learner's folder away to begin anew, or bring "
                "the topic back."
            )
        if wanted < begin:
            self._instruments.rejected.labels("expired").inc(begin - wanted)
            log.error("examples-expired", partition=number, first=wanted, records=begin - wanted)
        self._positions[number] = place.offset = max(wanted, begin)
        self._instruments.lag.labels(str(number)).set(end - place.offset)
        return place

    def _fetch(self, wait_seconds: float) -> None:
        assert self._consumer
        first = self._consumer.poll(wait_seconds)  # consume() alone would wait for a whole batch
        for record in [] if first is None else [first, *self._consumer.consume(_FETCHED, 0)]:  # a tombstone is false
            error = record.error()
            if error is None:
                self._skips.pop(record.partition(), None)
                self._fetched.append(record)
            elif error.code() == KafkaError._AUTO_OFFSET_RESET:  # noqa: SLF001 - retention was faster
                self._assign()
            elif is_damage(error):
                self._pass_over(record, error)
            elif not is_passing(error):
                raise KafkaException(error)

    def _pass_over(self, record: Message, error: KafkaError) -> None:
        """Go on after records that cannot be read; each time twice as far, because nobody knows how many they are."""
        number, offset = record.partition(), record.offset()
        self._skips[number] = 2 * self._skips[number] + 1
        self._instruments.rejected.labels("damaged").inc()
        log.error("examples-damaged", partition=number, offset=offset, why=error.str(), passed=self._skips[number])
        self._positions[number] = max(offset, self._positions[number]) + self._skips[number]
        self._assign()

    def _put(self, record: Message, batch: ExampleBatch) -> None:
        """Put the first record into a batch, as far as there is room, and drop it when nothing of it is left."""
        partition, offset = record.partition(), record.offset()
        try:
            self._suspects.refuse_condemned(partition, offset)
            if self._slices is None:
                self._slices = Slices(decode_example(record.value()), self._rows)
            skipped = self._slices.put(batch, self.ledgers, self._exposures)
        except RejectedEventError as why:
            self._rejections.send(record, why)
        except (ArithmeticError, LookupError, TypeError, ValueError) as exc:  # a defect must not stop the learner
            self._rejections.send(record, RejectedEventError("unlearnable", repr(exc)))
        else:
            self._instruments.skipped.inc(skipped)
            if not batch.empty:
                batch.note(partition, offset)
            if not self._slices.done:
                return
        self._fetched.popleft()
        self._slices = None
        self._positions[partition] = offset + 1

    def _measure_lag(self) -> None:
        """Say how far behind the end of each partition the learner is, as the last fetch told."""
        if self._consumer and (now := time.monotonic()) > self._measured + _LAG_SECONDS:
            self._measured = now
            for number, position in self._positions.items():
                _, end = self._consumer.get_watermark_offsets(TopicPartition(self._topic, number), cached=True)
                if end >= 0:
                    self._instruments.lag.labels(str(number)).set(max(0, end - position))
