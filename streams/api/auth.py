"""bearer token -> client and scopes."""

import hmac
import secrets
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Final

from streams.api.problems import ProblemError

_CHALLENGE: Final = {"WWW-Authenticate": 'Bearer realm="headrace"'}


class Authenticator:
    """Knows the tokens by keyed digests, whose comparison takes the same time whatever token was sent.

    Without tokens it lets everybody in, which Settings allows on loopback only.
    """

    def __init__(self, tokens: Mapping[str, Sequence[str]]) -> None:
        self._key = secrets.token_bytes(32)
        self._known = [(self._digest(token.encode()), frozenset(scopes)) for token, scopes in tokens.items()]

    @property
    def required(self) -> bool:
        """Whether a token is needed at all."""
        return bool(self._known)

    def authenticate(self, authorization: bytes | None) -> tuple[bytes, frozenset[str]]:
        """Return what names the client, and its scopes.

        Args:
            authorization: the header's value, None when it was not sent.

        Raises:
            ProblemError: unauthenticated.
        """
        kind, _, token = (authorization or b"").partition(b" ")
        if kind.lower() != b"bearer" or not token:
            raise ProblemError("unauthenticated", "send the header `Authorization: Bearer TOKEN`", _CHALLENGE)
        digest = self._digest(token.strip())
        found: frozenset[str] | None = None
        for known, scopes in self._known:  # all of them, found or not: the time must not tell which
            if hmac.compare_digest(known, digest):
                found = scopes
        if found is None:
            challenge = {"WWW-Authenticate": f'{_CHALLENGE["WWW-Authenticate"]}, error="invalid_token"'}
            raise ProblemError("unauthenticated", "the bearer token is unknown", challenge)
        return digest, found

    def _digest(self, token: bytes) -> bytes:
        return blake2b(token, digest_size=16, key=self._key).digest()


def check_scope(scopes: frozenset[str], needed: str) -> None:
    """Let a client pass that has the scope, or `admin`, which opens everything.

    Raises:
        ProblemError: forbidden.
    """
    if needed not in scopes and "admin" not in scopes:
        challenge = {
            "WWW-Authenticate": f'{_CHALLENGE["WWW-Authenticate"]}, error="insufficient_scope", scope="{needed}"'
        }
        raise ProblemError("forbidden", f"this route needs the scope `{needed}`", challenge)
