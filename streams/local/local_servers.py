"""Settings -> the local Kafka and Triton that `headrace broker` and `headrace triton` run."""

from streams.errors import SettingsError
from streams.extras import require
from streams.local.local_broker import run_broker
from streams.local.local_triton import LocalTriton, run_triton
from streams.settings import Settings
from streams.triton.model_repository import ModelRepository, write_seed_version
from streams.triton.server import backend_settings


def run_local_broker(settings: Settings) -> None:
    """Run Kafka on the port that HEADRACE_BROKER names, until told to stop.

    Raises:
        StartError: it cannot run; one sentence.
    """
    run_broker(settings.data_dir / "kafka", _loopback_port("HEADRACE_BROKER", settings.broker))


def run_local_triton(settings: Settings) -> None:
    """Run Triton on the port that HEADRACE_TRITON__URL names, until told to stop.

    A fresh repository is given a seed version, so that the first user is answered.

    Raises:
        StartError: it cannot run; one sentence.
    """
    require(["triton"])
    if settings.triton.tls_cafile:
        raise SettingsError(
            "HEADRACE_TRITON__TLS_CAFILE is set, and the local Triton speaks plain text; unset it, or name a server "
            "with TLS in HEADRACE_TRITON__URL."
        )
    token = settings.triton.control_token
    repository = ModelRepository(settings.models_dir, settings.triton.device)
    if repository.newest() is None:
        write_seed_version(repository, settings.learner.preset)
    server = LocalTriton(
        settings.data_dir / "triton",
        repository,
        _loopback_port("HEADRACE_TRITON__URL", settings.triton.url),
        metrics_port=settings.triton.metrics_port,
        backend=backend_settings(settings),
        control_token=token.get_secret_value() if token else None,
    )
    run_triton(server)


def _loopback_port(setting: str, address: str) -> int:
    host, _, port = address.rpartition(":")
    if host not in {"127.0.0.1", "localhost"} or not port.isdigit():
        raise SettingsError(f"{setting} is {address}; a local server listens on 127.0.0.1:PORT only.")
    return int(port)
