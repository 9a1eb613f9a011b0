"""settings -> NVIDIA's Triton in its container: it seeds an empty repository, then becomes the server.

It takes the settings of the other roles: Kafka's, with their secrets, the prefix, and HEADRACE_LEARNER__PRESET, so that
the seed is of the learner's size. `python3 -m streams.triton.container`; its arguments go to tritonserver.
"""

import json
import os
import secrets
import sys
from collections.abc import Sequence
from typing import Final

from streams.errors import HeadraceError
from streams.settings import Settings, load_settings
from streams.triton.model_repository import MODEL, ModelRepository, write_seed_version
from streams.triton.server import CONTROL_KEY, RESTRICTED, backend_settings

PROBE_PORT: Final = 8000
"""Of HTTP, on loopback: for `streams.triton.probe`, also where gRPC asks for TLS."""


def main() -> None:
    """Become the server.

    Raises:
        SystemExit: the settings are wrong; one sentence.
    """
    try:
        settings = load_settings()
        repository = seeded(settings)
    except HeadraceError as exc:
        sys.exit(f"headrace: {exc}")
    command = server_command(settings, repository, sys.argv[1:])
    os.execvpe(command[0], command, os.environ | {"HEADRACE_BACKEND": json.dumps(backend_settings(settings))})  # noqa: S606 - the server, no shell


def seeded(settings: Settings) -> ModelRepository:
    """Return the repository under HEADRACE_DATA_DIR, with a version in it."""
    repository = ModelRepository(settings.models_dir, settings.triton.device)
    repository.write_config()
    if repository.newest() is None:
        write_seed_version(repository, settings.learner.preset)
    return repository


def server_command(settings: Settings, repository: ModelRepository, arguments: Sequence[str]) -> list[str]:
    """Return tritonserver and its arguments; those given win over ours.

    Strangers may ask for lists, and not load models, map memory or name files: without HEADRACE_TRITON__CONTROL_TOKEN
    the token is one that nobody knows.
    """
    token = settings.triton.control_token
    secret = token.get_secret_value() if token else secrets.token_hex(16)
    return [
        "tritonserver",
        f"--model-repository={repository.path}",
        "--model-control-mode=explicit",
        f"--load-model={MODEL}",
        "--disable-auto-complete-config",
        "--strict-readiness=false",
        "--exit-timeout-secs=5",
        f"--grpc-restricted-protocol={RESTRICTED}:{CONTROL_KEY}={secret}",
        "--http-address=127.0.0.1",
        f"--http-port={PROBE_PORT}",
        f"--http-restricted-api={RESTRICTED}:{CONTROL_KEY}={secret}",
        "--allow-metrics=true",
        *arguments,
    ]


if __name__ == "__main__":
    main()
