"""a Kafka client's error -> one sentence that names who is to blame, and what to do."""

from typing import Final

from confluent_kafka import KafkaException

from streams.errors import StartError
from streams.settings import Settings

_SECURITY: Final = "correct the HEADRACE_KAFKA__… security settings."
_START: Final = "start it (`headrace broker`) or correct HEADRACE_BROKER and the HEADRACE_KAFKA__… security settings."
_MAKE: Final = "make it with `headrace topics`."
_DISKS: Final = "check the disks of its brokers."
_NO_ANSWER: Final = frozenset({"_TIMED_OUT", "_TRANSPORT", "_ALL_BROKERS_DOWN", "_RESOLVE", "REQUEST_TIMED_OUT"})
_STRANGER: Final = frozenset({"_AUTHENTICATION", "_SSL", "SASL_AUTHENTICATION_FAILED", "UNSUPPORTED_SASL_MECHANISM"})
_REMEDIES: Final = {
    "_INVALID_ARG": ("cannot be spoken to", _SECURITY),
    "INVALID_REPLICATION_FACTOR": (
        "makes no topic",
        "set HEADRACE_KAFKA__REPLICATION_FACTOR to the number of its brokers at most.",
    ),
    "POLICY_VIOLATION": (
        "makes no topic",
        "its policy asks for other topics: create them as docs/architecture.md says.",
    ),
    "NON_EMPTY_GROUP": ("keeps the workers' group", "stop all workers first."),
    "TOPIC_DELETION_DISABLED": ("deletes no topic", "set delete.topic.enable, or delete the topic by other means."),
    "MSG_SIZE_TOO_LARGE": ("takes no record so large", "raise the topic's max.message.bytes."),
    "UNKNOWN_TOPIC_OR_PART": ("has no such topic", _MAKE),
    "_UNKNOWN_TOPIC": ("has no such topic", _MAKE),
    "_UNKNOWN_PARTITION": ("has no such partition", _MAKE),
    "_BAD_MSG": ("gives records that cannot be read", _DISKS),
    "_BAD_COMPRESSION": ("gives records that cannot be read", _DISKS),
    "INVALID_MSG": ("gives records that cannot be read", _DISKS),
    "NOT_ENOUGH_REPLICAS": ("has too few replicas in sync", "start its other brokers, or lower min.insync.replicas."),
    "UNSUPPORTED_COMPRESSION_TYPE": ("sends a compression that is not known here", "set the topic's compression.type."),
}


def refusal(settings: Settings, exc: KafkaException) -> StartError:
    """Return what an operator reads: a Kafka that answers and says no is not one that does not answer.

    Args:
        settings: of the connection.
        exc: of confluent-kafka.
    """
    error = exc.args[0]
    name = error.name()
    if name in _NO_ANSWER:
        found, remedy = "does not answer", _START
    elif name in _STRANGER:
        found, remedy = "does not let Headrace in", _SECURITY
    elif name.endswith("_AUTHORIZATION_FAILED"):
        found, remedy = "does not allow this", "give the user of HEADRACE_KAFKA__SASL_USERNAME the right."
    else:
        found, remedy = _REMEDIES.get(name, ("refuses", "see the broker's log."))
    return StartError(f"Kafka at {settings.broker} {found} ({error.str()}); {remedy}")
