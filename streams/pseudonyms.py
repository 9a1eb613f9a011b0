"""user id -> pseudonym: a keyed hash, so that what is stored names nobody without the key.

A pseudonym stands for its user on every way: one that is read from `recommendations` can be asked for over HTTP, and be
the key and user_id of what is sent on a topic. For that it proves to be one, since any other text that looks like it
is an id to be hidden; and Kafka's default partitioner leads it to the partition of the id behind it:

    p~ | digest of the id, 20 characters | check of the digest, 6 | what leads to the partition, 4
"""

from base64 import urlsafe_b64encode
from collections.abc import Callable
from functools import lru_cache
from hashlib import blake2b
from struct import unpack
from typing import Final

from pydantic import SecretStr

from streams.errors import SettingsError

Pseudonym = Callable[[str, int], str]
"""From a user id and its partition to what is stored in its place."""

_PREFIX: Final = "p~"
_DIGEST_BYTES: Final = 15
"""Two of a thousand million users share a pseudonym with probability 4e-19."""
_CHECK_CHARACTERS: Final = 6
"""Without the key, one of 7e10 guesses passes for a pseudonym."""
_PROVEN: Final = len(_PREFIX) + 20 + _CHECK_CHARACTERS
_SIZE: Final = _PROVEN + 4
_MAX_KEY_BYTES: Final = 64
_REMEMBERED: Final = 20_000
"""Users; 7 MB. A pseudonym takes 5 us to make and .1 us to remember."""
_TAILS_A_PARTITION: Final = 32
"""That no tail leads to a partition has probability 1e-14."""

_M: Final = 0x5BD1E995
_MASK: Final = 0xFFFFFFFF


def pseudonyms(key: SecretStr | None, partitions: int) -> Pseudonym:
    """Return what makes pseudonyms; without a key, a user id stays as it is.

    Args:
        key: with another one, users have other pseudonyms and begin anew.
        partitions: of the topics keyed by user; the same holds for another number of them.

    Raises:
        SettingsError: the key is empty or longer than BLAKE2b takes.
    """
    if key is None:
        return lambda user_id, _: user_id
    secret = key.get_secret_value().encode()
    if not 0 < len(secret) <= _MAX_KEY_BYTES:
        raise SettingsError(f"HEADRACE_PSEUDONYM_KEY must have 1 to {_MAX_KEY_BYTES} bytes.")
    return lru_cache(_REMEMBERED)(_Maker(secret, partitions).pseudonym)


class _Maker:
    def __init__(self, secret: bytes, partitions: int) -> None:
        self._secret = secret
        self._partitions = partitions
        texts = [f"{number:04x}" for number in range(min(_TAILS_A_PARTITION * partitions, 1 << 16))]
        self._tails = [(text, _mixed(*unpack("<I", text.encode()))) for text in texts]

    def pseudonym(self, user_id: str, partition: int) -> str:
        """Return the pseudonym of an id; a pseudonym is its own."""
        if self._is_pseudonym(user_id):
            return user_id
        return self._placed(self._proven(self._hash(user_id, _DIGEST_BYTES)), partition)

    def _is_pseudonym(self, user_id: str) -> bool:
        if not (user_id.startswith(_PREFIX) and len(user_id) == _SIZE and user_id.isascii()):
            return False
        proven, tail = user_id[:_PROVEN], user_id[_PROVEN:]
        if proven != self._proven(user_id[len(_PREFIX) : -4 - _CHECK_CHARACTERS]):
            return False
        partition = self._partition(_state(proven), _mixed(*unpack("<I", tail.encode())))
        return user_id == self._placed(proven, partition)

    def _proven(self, digest: str) -> str:
        return _PREFIX + digest + self._hash(digest, 6, b"check")[:_CHECK_CHARACTERS]

    def _placed(self, proven: str, partition: int) -> str:
        state = _state(proven)
        for text, mixed in self._tails:
            if self._partition(state, mixed) == partition:
                return proven + text
        raise SettingsError(f"No pseudonym leads to partition {partition} of {self._partitions}; lower their number.")

    def _partition(self, state: int, mixed: int) -> int:
        """Return the partition of a text whose last four bytes are mixed into the state of those before."""
        value = state ^ mixed
        value = (value ^ value >> 13) * _M & _MASK
        return ((value ^ value >> 15) & 0x7FFFFFFF) % self._partitions

    def _hash(self, text: str, size: int, person: bytes = b"") -> str:
        digest = blake2b(text.encode(), digest_size=size, key=self._secret, person=person).digest()
        return urlsafe_b64encode(digest).decode()


def _state(proven: str) -> int:
    """Return murmur2's state (as Kafka's clients have it) of all but the last four bytes, ready for those."""
    state = 0x9747B28C ^ _SIZE
    for word in unpack("<7I", proven.encode()):
        state = state * _M & _MASK ^ _mixed(word)
    return state * _M & _MASK


def _mixed(word: int) -> int:
    word = word * _M & _MASK
    return (word ^ word >> 24) * _M & _MASK
