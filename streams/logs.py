"""Logs: an event and its fields on stderr, as text for people or JSON for machines."""

import logging
import sys

import structlog

from streams.settings import LogSettings


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
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    # The libraries speak of their own affairs at info; an operator wants what may need an action.
    handler = logging.StreamHandler(sys.stderr)
    named: list[structlog.types.Processor] = [structlog.stdlib.add_logger_name, *prepare]
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=named, processor=render))
    logging.basicConfig(level=max(level, logging.WARNING), handlers=[handler])
