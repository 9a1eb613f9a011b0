"""PEM files that settings name -> a refusal at the start, before a client fails on them in words of its own."""

import ssl
from pathlib import Path

from streams.errors import SettingsError


def refuse_unusable(prefix: str, cafile: Path | None, certfile: Path | None, keyfile: Path | None) -> None:
    """Read the files as TLS will.

    Args:
        prefix: of the three settings, up to CAFILE, CERTFILE and KEYFILE.
        cafile: authorities; None: those of the machine.
        certfile: our own certificate.
        keyfile: its key; None when it stands in the same file.

    Raises:
        SettingsError: it names the setting whose file cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if cafile:
        try:
            context.load_verify_locations(cafile)
        except OSError as exc:  # ssl's own errors are such
            raise SettingsError(
                f"{prefix}CAFILE names {cafile}, which holds no readable certificate of an authority ({_why(exc)}); "
                "name a PEM file."
            ) from exc
    if keyfile and not certfile:
        raise SettingsError(f"{prefix}KEYFILE is set without {prefix}CERTFILE; set both.")
    if certfile:
        try:
            context.load_cert_chain(certfile, keyfile, password="")  # or a key with a passphrase would ask for it
        except OSError as exc:
            raise SettingsError(
                f"{prefix}CERTFILE names {certfile}, which with {prefix}KEYFILE, {keyfile or 'unset'}, is no readable "
                f"certificate with its key ({_why(exc)}); name PEM files, a key without a passphrase."
            ) from exc


def _why(exc: OSError) -> str:
    if isinstance(exc, ssl.SSLError):
        return (exc.reason or "unreadable").replace("_", " ").lower()
    return str(exc.strerror)
