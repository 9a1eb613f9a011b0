"""A Triton that asks for TLS and the client's certificate is reached with the settings for it, and with them only."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from tritonclient.grpc import InferenceServerClient

from streams.commands.doctor import Finding, State, _triton
from streams.errors import ScorerUnavailableError, SettingsError
from streams.local.local_triton import LocalTriton
from streams.local.processes import free_port
from streams.local.up import _triton_ready
from streams.settings import Settings, TritonSettings
from streams.triton.credentials import credentials
from streams.triton.model_repository import ModelRepository, write_seed_version
from streams.triton.scorer import TritonScorer
from tests.certificates import certificate
from tests.integration.test_local_triton import HISTORY

pytestmark = pytest.mark.integration


class SecureTriton(LocalTriton):
    """Takes the client's side of its own settings for its probes."""

    tls: TritonSettings

    def _connect(self) -> InferenceServerClient:
        return InferenceServerClient(self.address, creds=credentials(self.tls))

    def _command(self) -> list[str]:
        files = {"root": self.tls.tls_cafile, "server": self.tls.tls_certfile}
        return [
            *super()._command(),
            "--grpc-use-ssl=true",
            "--grpc-use-ssl-mutual=true",
            *(f"--grpc-{name}-cert={file}" for name, file in files.items()),
            f"--grpc-server-key={self.tls.tls_keyfile}",
        ]


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TritonSettings]:
    """The settings that reach the server."""
    folder = tmp_path_factory.mktemp("secure")
    authority, certfile, keyfile = certificate(folder)
    repository = ModelRepository(folder / "models")
    write_seed_version(repository, "tiny")
    server = SecureTriton(folder / "server", repository, free_port())
    server.tls = TritonSettings(url=server.address, tls_cafile=authority, tls_certfile=certfile, tls_keyfile=keyfile)
    with server:
        yield server.tls


def scored(settings: TritonSettings) -> int:
    async def once() -> int:
        scorer = TritonScorer(settings.url, settings.batch_users, credentials(settings))
        try:
            return len((await scorer.top_k(HISTORY, 5, 5)).rows_BK)
        finally:
            await scorer.close()

    return asyncio.run(once())


def found(settings: TritonSettings) -> Finding:
    return _triton(Settings(triton=settings))


def test_every_client_reaches_it_with_the_settings(secure: TritonSettings) -> None:
    assert scored(secure) == 1
    assert _triton_ready(secure)
    assert found(secure).state is State.OK


@pytest.mark.parametrize("without", ["the client's certificate", "any", "the right authority"])
def test_no_client_reaches_it_without_them(secure: TritonSettings, tmp_path: Path, without: str) -> None:
    stranger = certificate(tmp_path)[0]
    less = {
        "the client's certificate": {"tls_certfile": None, "tls_keyfile": None},
        "any": {"tls_cafile": None, "tls_certfile": None, "tls_keyfile": None},
        "the right authority": {"tls_cafile": stranger},
    }[without]
    settings = secure.model_copy(update=less)
    with pytest.raises(ScorerUnavailableError):
        scored(settings)
    assert not _triton_ready(settings)
    assert found(settings).state is State.PROBLEM
    assert "TLS" in found(settings).remedy


def test_a_file_that_cannot_be_read_is_named(secure: TritonSettings, tmp_path: Path) -> None:
    settings = secure.model_copy(update={"tls_cafile": tmp_path / "nowhere.pem"})
    with pytest.raises(SettingsError, match=r"HEADRACE_TRITON__TLS_CAFILE names .*nowhere.pem"):
        credentials(settings)
    assert "nowhere.pem" in found(settings).found
