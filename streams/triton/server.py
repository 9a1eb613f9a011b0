"""settings -> what every Triton of ours is started with, here and in a container."""

from typing import Any, Final

from streams.kafka.clients import librdkafka_config
from streams.settings import Settings

CONTROL_KEY: Final = "headrace-control"
RESTRICTED: Final = "model-repository,shared-memory,trace,logging"
"""Loading models, mapping memory, and naming files for traces and logs are not for strangers."""


def backend_settings(settings: Settings) -> dict[str, Any]:
    """Return what HEADRACE_BACKEND tells the backend: how to reach Kafka, with its secrets, and the topic to follow."""
    return {"consumer": librdkafka_config(settings), "topic": settings.topics.weights}
