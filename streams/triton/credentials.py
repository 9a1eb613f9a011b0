"""The settings of TLS towards Triton, as every one of its clients takes them."""

from pathlib import Path

import grpc

from streams.errors import SettingsError
from streams.settings import TritonSettings


def credentials(triton: TritonSettings) -> grpc.ChannelCredentials | None:
    """Return what a Triton client takes as `creds`, None for plain text.

    Raises:
        SettingsError: a file cannot be read.
    """
    if triton.tls_cafile is None:
        return None
    return grpc.ssl_channel_credentials(
        root_certificates=_read("TLS_CAFILE", triton.tls_cafile),
        private_key=_read("TLS_KEYFILE", triton.tls_keyfile),
        certificate_chain=_read("TLS_CERTFILE", triton.tls_certfile),
    )


def _read(name: str, path: Path | None) -> bytes | None:
    try:
        return path.read_bytes() if path else None
    except OSError as exc:
        raise SettingsError(f"HEADRACE_TRITON__{name} names {path}, which cannot be read ({exc.strerror}).") from exc
