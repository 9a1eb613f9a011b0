"""Certificates for TLS on loopback, made in Python: the suite needs no `openssl` on the machine (issue 10, E)."""

from pathlib import Path

import trustme
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key


def certificate(folder: Path) -> tuple[Path, Path, Path]:
    """An authority, a certificate of it for 127.0.0.1, and that one's key: PEM files."""
    authority, certfile, keyfile = folder / "ca.crt", folder / "tls.crt", folder / "tls.key"
    made = trustme.CA()
    own = made.issue_cert("127.0.0.1", common_name="127.0.0.1")
    made.cert_pem.write_to_path(authority)
    key = load_pem_private_key(own.private_key_pem.bytes(), None)
    # Kafka reads a key in this form only.
    keyfile.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    for part in own.cert_chain_pems:
        part.write_to_path(certfile, append=True)
    return authority, certfile, keyfile
