"""One set of Kafka settings, spelled for each of the three clients: librdkafka, kafka-python and Faust's aiokafka."""

import ssl
from typing import TYPE_CHECKING, Any

from streams.settings import KafkaSettings, Settings

if TYPE_CHECKING:
    from faust.types.auth import CredentialsT


def librdkafka_config(settings: Settings, **extra: Any) -> dict[str, Any]:  # noqa: ANN401 - librdkafka's own values
    """Return the configuration of a confluent-kafka client; extra keys have dots as underscores."""
    kafka = settings.kafka
    config: dict[str, Any] = {
        "bootstrap.servers": settings.broker,
        "security.protocol": kafka.security_protocol,
        "sasl.mechanism": kafka.sasl_mechanism,
        "sasl.username": kafka.sasl_username,
        "sasl.password": _password(kafka),
        "ssl.ca.location": _path(kafka.ssl_cafile),
        "ssl.certificate.location": _path(kafka.ssl_certfile),
        "ssl.key.location": _path(kafka.ssl_keyfile),
        # librdkafka prints broker disconnects by itself; Headrace logs what matters.
        "log_level": 2,
        # A broker that was restarted is found again at once, not after librdkafka's 10 s.
        "reconnect.backoff.ms": 50,
        "reconnect.backoff.max.ms": 500,
    }
    config |= {key.replace("_", "."): value for key, value in extra.items()}
    return {key: value for key, value in config.items() if value is not None}


def kafka_python_config(settings: Settings, **extra: Any) -> dict[str, Any]:  # noqa: ANN401 - kafka-python's own values
    """Return the keyword arguments of a kafka-python client."""
    kafka = settings.kafka
    config: dict[str, Any] = {
        "bootstrap_servers": settings.broker.split(","),
        "security_protocol": kafka.security_protocol,
        "sasl_mechanism": kafka.sasl_mechanism,
        "sasl_plain_username": kafka.sasl_username,
        "sasl_plain_password": _password(kafka),
        "ssl_cafile": _path(kafka.ssl_cafile),
        "ssl_certfile": _path(kafka.ssl_certfile),
        "ssl_keyfile": _path(kafka.ssl_keyfile),
    }
    return {key: value for key, value in (config | extra).items() if value is not None}


def faust_credentials(settings: Settings) -> "CredentialsT | None":
    """Return what faust.App takes as broker_credentials, None for plain text."""
    from faust import SASLCredentials, SSLCredentials  # Triton's image, which reads the settings too, has no Faust

    kafka = settings.kafka
    context = None
    if kafka.security_protocol.endswith("SSL"):
        context = ssl.create_default_context(cafile=_path(kafka.ssl_cafile))
        if kafka.ssl_certfile:
            context.load_cert_chain(kafka.ssl_certfile, kafka.ssl_keyfile)
    if kafka.security_protocol.startswith("SASL"):
        return SASLCredentials(
            username=kafka.sasl_username, password=_password(kafka), mechanism=kafka.sasl_mechanism, ssl_context=context
        )
    return SSLCredentials(context=context) if context else None


def _password(kafka: KafkaSettings) -> str | None:
    return kafka.sasl_password.get_secret_value() if kafka.sasl_password else None


def _path(path: object) -> str | None:
    return str(path) if path else None
