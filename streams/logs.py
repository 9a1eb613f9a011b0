"""Logs: an event and its fields on stderr, as text for people or JSON for machines."""

import logging
import math
import re
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final, TextIO, cast

import stamina
import structlog

from streams.errors import HeadraceError
from streams.settings import LogSettings

_log = structlog.get_logger()

_CLIENTS: Final = ("aiokafka", "kafka")
_AWAY: Final = re.compile(
    r"connect|metadata|bootstrap|not ready|marking (the )?coordinator dead|not started or not valid|KafkaStorageError",
    re.IGNORECASE,
)
"""What they say, in some twenty ways, while a broker is away, or its disk is full."""
_ROUTINE: Final = re.compile(r"^Heartbeat failed .* because it is rebalancing$")
"""Whenever a worker joins or leaves."""
_AWAY_SECONDS: Final = 30.0


def configure_logs(settings: LogSettings) -> None:
    """Send structlog and the libraries' own logging to stderr in the form that the settings name."""
    level = logging.getLevelNamesMapping()[settings.level.upper()]
    render = (
        structlog.processors.JSONRenderer()
        if settings.format == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    prepare: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso"),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*prepare, render],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(cast("TextIO", Lossy(sys.stderr))),
        cache_logger_on_first_use=True,
    )
    # The libraries speak of their own affairs at info; an operator wants what may need an action.
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(KafkaChatter())
    handler.addFilter(_is_news)
    named: list[structlog.types.Processor] = [structlog.stdlib.add_logger_name, *prepare]
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=named, processor=render))
    logging.basicConfig(level=max(level, logging.WARNING), handlers=[handler])
    # At warning uvicorn tells what strangers send, line by line, and Faust that the machine is busy.
    for name in ("uvicorn.error", "mode.timers"):
        logging.getLogger(name).setLevel(logging.ERROR)
    stamina.instrumentation.set_on_retry_hooks([_tell_retry])


class Lossy:
    """A stream whose disk may be full: a line that cannot be written is lost, and not the role that writes it."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        """Write what can be written."""
        with suppress(OSError):
            self._stream.write(text)

    def flush(self) -> None:
        """Flush, or keep it for the next time."""
        with suppress(OSError):
            self._stream.flush()


class KafkaChatter(logging.Filter):
    """One line now and then for a broker that is away: the Kafka clients write seventy a second.

    Args:
        clock: seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._next = -math.inf

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the line is of something else; the first in a while is written as an event of ours."""
        client, said = record.name.partition(".")[0], record.getMessage()
        if client not in _CLIENTS:
            return True
        if _AWAY.search(said) is None:
            return _ROUTINE.search(said) is None
        if self._clock() >= self._next:
            self._next = self._clock() + _AWAY_SECONDS
            _log.warning("kafka_away", why=said, client=client, said_again_after_seconds=_AWAY_SECONDS)
        return False


def _is_news(record: logging.LogRecord) -> bool:
    """Whether a line does not tell, with a traceback, of an error of ours that stops the role and is its last line."""
    told = record.args if isinstance(record.args, tuple) else ()
    failure = record.exc_info[1] if record.exc_info else None
    return not any(isinstance(one, HeadraceError) for one in (failure, *told))


def _tell_retry(details: stamina.instrumentation.RetryDetails) -> None:
    """At debug: what is tried again is expected, like the moment in which a topic was created and has no leader."""
    _log.debug("retry", why=repr(details.caused_by), waited_seconds=round(details.waited_so_far, 2))
