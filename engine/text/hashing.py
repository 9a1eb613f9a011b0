"""Text as a vector by feature hashing: words and pieces of words, each with signs of its own, summed.

Needs no vocabulary, no language and no download, and gives the same vector on every machine. Two texts that share
words, or parts of words, are near each other. Legend: N texts, G features of all texts, F width.
"""

import hashlib
import re
from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

_WORD: Final = re.compile(r"\w+")
_PIECE: Final = 3
"""Characters of a piece of a word: plurals, compounds and misspellings share most of theirs."""


class HashEncoder:
    """Random projection of a bag of words and pieces (Weinberger et al. 2009): a digest is a row of signs."""

    def __init__(self, dim: int = 128) -> None:
        self.dim = dim

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """One vector of length one a text, zeros for a text without a word, (N, F).

        >>> red, blue, other = HashEncoder().encode(["red tea cup", "blue tea cups", "garden gnome"])
        >>> bool(red @ blue > 0.5 > abs(red @ other))
        True
        """
        found = [list(features(text)) for text in texts]
        digests = b"".join(self._signs(name) for each in found for name, _ in each)
        weights_G = np.array([weight for each in found for _, weight in each], np.float32)
        signs_GF = np.unpackbits(np.frombuffer(digests, np.uint8)).reshape(-1, self.dim) * np.float32(2) - 1
        vectors_NF = np.zeros((len(texts), self.dim), np.float32)
        np.add.at(
            vectors_NF, np.repeat(np.arange(len(texts)), [len(each) for each in found]), signs_GF * weights_G[:, None]
        )
        vectors_NF /= np.maximum(np.linalg.norm(vectors_NF, axis=1, keepdims=True), 1e-12)
        return vectors_NF

    def _signs(self, name: str) -> bytes:
        return hashlib.blake2b(name.encode(), digest_size=self.dim // 8).digest()


def features(text: str) -> Iterator[tuple[str, float]]:
    """Words of a text, and their pieces, which together weigh as much as the word.

    >>> [name for name, _ in features("Tea cup")]
    ['tea', '<te', 'tea>', ...]
    """
    for word in _WORD.findall(text.casefold()):
        yield word, 1.0
        marked = f"<{word}>"
        pieces = [marked[at : at + _PIECE] for at in range(len(marked) - _PIECE + 1)]
        for piece in pieces:
            yield f"{piece}~", len(pieces) ** -0.5
