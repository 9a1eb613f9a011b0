"""decisions -> commands: what people ask for, each once, also what was asked while no learner ran."""

from collections.abc import Iterator
from typing import Final

import structlog
from confluent_kafka import TopicPartition
from msgspec.json import Decoder

from streams.decoding import Record, decode_strictly, decoder
from streams.errors import RejectedEventError
from streams.kafka.clients import librdkafka_config
from streams.kafka.topic_reader import reader, to_the_end
from streams.learning.models_admin import COMMAND, LOG
from streams.records import Command, DecisionRecord
from streams.settings import Settings

log = structlog.get_logger()

_COMMAND: Final = decoder(Command)
_DECISION: Final = decoder(DecisionRecord)


class CommandLog:
    """Reads on from an offset; a command is known by its offset, which the decision that carries it out names.

    Args:
        settings: which Kafka and prefix.
        position: the next offset that is wanted.
    """

    def __init__(self, settings: Settings, position: int) -> None:
        self.position = position
        self._topic = settings.topics.decisions
        self._consumer = reader(librdkafka_config(settings), self._topic, position)

    def go_to(self, position: int) -> None:
        """Read on from another offset."""
        self.position = position
        self._consumer.assign([TopicPartition(self._topic, 0, position)])

    def waiting(self) -> Iterator[tuple[int, Command, bool]]:
        """Read to the end; yield offset, command and whether a decision says that it was carried out.

        One that was refused is not yielded: what was no version then may be one now.

        Raises:
            StartError: Kafka does not answer.
        """
        found: list[tuple[int, Command]] = []
        done: dict[int, str] = {}
        for message in to_the_end(self._consumer):
            key, value = message.key() or b"", message.value() or b""
            if key.startswith(LOG.encode()) and (decision := _decoded(_DECISION, value)):
                done[decision.command] = decision.action
            found += self._commands(message.offset(), key, value)
        for offset, command in found:
            if done.get(offset) != "refuse":
                yield offset, command, offset in done

    def poll(self) -> Iterator[tuple[int, Command]]:
        """Yield what has come since, without waiting."""
        while (message := self._consumer.poll(0)) is not None:
            if message.error() is None:
                yield from self._commands(message.offset(), message.key() or b"", message.value() or b"")

    def close(self) -> None:
        """Let go of the connection."""
        self._consumer.close()

    def _commands(self, offset: int, key: bytes, value: bytes) -> list[tuple[int, Command]]:
        self.position = offset + 1
        if not key.startswith(COMMAND.encode()):
            return []
        command = _decoded(_COMMAND, value)
        return [(offset, command)] if command else []


def _decoded(using: Decoder[Record], value: bytes) -> Record | None:
    try:
        return decode_strictly(using, value)
    except RejectedEventError as exc:
        log.warning("command-rejected", why=str(exc))
        return None
