"""user id -> pseudonym: a keyed hash, so that what is stored names nobody without the key."""

from collections.abc import Callable
from hashlib import blake2b
from typing import Final

from pydantic import SecretStr

from streams.errors import SettingsError

_DIGEST_BYTES: Final = 16
"""Two of a thousand million users share a pseudonym with probability 1.5e-21."""
_MAX_KEY_BYTES: Final = 64
_PREFIX: Final = "p~"


def pseudonyms(key: SecretStr | None) -> Callable[[str], str]:
    """Return the function from a user id to what is stored in its place; without a key, the id itself.

    A pseudonym is left as it is: an event may be posted over HTTP and then read from Kafka.

    Raises:
        SettingsError: the key is empty or longer than BLAKE2b takes.
    """
    if key is None:
        return lambda user_id: user_id
    secret = key.get_secret_value().encode()
    if not 0 < len(secret) <= _MAX_KEY_BYTES:
        raise SettingsError(f"HEADRACE_PSEUDONYM_KEY must have 1 to {_MAX_KEY_BYTES} bytes.")

    def pseudonym(user_id: str) -> str:
        if _is_pseudonym(user_id):
            return user_id
        return _PREFIX + blake2b(user_id.encode(), digest_size=_DIGEST_BYTES, key=secret).hexdigest()

    return pseudonym


def _is_pseudonym(user_id: str) -> bool:
    return user_id.startswith(_PREFIX) and len(user_id) == len(_PREFIX) + 2 * _DIGEST_BYTES
