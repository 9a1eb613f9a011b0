"""What an item says of itself, as a vector: text in, numbers out; knows nothing of models.

Legend: N texts, F width.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Final, Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray
from xxhash import xxh64_intdigest

EncoderName = Literal["hash", "none"]
ENCODERS: Final[tuple[EncoderName, ...]] = get_args(EncoderName)
_WORD: Final = re.compile(r"\w+")
_GRAMS: Final = (3, 4)
_WORDS: Final = 10_000
"""Whose vectors are kept: titles share most of their words."""


class TextEncoder(Protocol):
    """Turns texts into vectors, the same text always into the same one: it is encoded anew after every start."""

    @property
    def width(self) -> int:
        """F."""

    def encode(self, texts: Sequence[str]) -> NDArray[np.float16]:
        """Vectors of length one, of length zero for a text without words, (N, F)."""


class HashEncoder:
    """Words and their character n-grams, hashed with signs into a vector (Weinberger et al., ICML 2009).

    Needs no vocabulary and no download. Each part adds to four places: with one, two texts that share nothing were .37
    alike when a single word of each fell into the same place. The n-grams let `bags` be near `bag`; all those of a word
    together weigh as much as the word.

    >>> bag, bags, lamp = HashEncoder().encode(["red retrospot bag", "RED RETROSPOT BAGS!", "brass lamp"])
    >>> bool(bag @ bags > 0.7 > 0.3 > abs(bag @ lamp))
    True
    """

    def __init__(self, width: int = 128) -> None:
        self.width = width
        self._word = lru_cache(_WORDS)(self._word_vector)

    def encode(self, texts: Sequence[str]) -> NDArray[np.float16]:
        """See TextEncoder."""
        vectors_NF = np.zeros((len(texts), self.width), np.float16)
        for number, text in enumerate(texts):
            words = _WORD.findall(text.casefold())
            if words:
                sums_F = np.sum([self._word(word) for word in words], 0)
                vectors_NF[number] = sums_F / np.linalg.norm(sums_F)
        return vectors_NF

    def _word_vector(self, word: str) -> NDArray[np.float32]:
        whole = f"<{word}>"
        grams = [whole[at : at + size] for size in _GRAMS for at in range(len(whole) - size + 1)]
        vector_F = np.zeros(self.width, np.float32)
        for part, weight in ((whole, 1.0), *((f"{gram}~", len(grams) ** -0.5) for gram in grams)):
            digest = xxh64_intdigest(part.encode())
            for shift in (0, 16, 32, 48):
                place = digest >> shift & 0xFFFF
                vector_F[(place >> 1) % self.width] += weight if place & 1 else -weight
        return vector_F


def text_encoder(name: EncoderName) -> TextEncoder | None:
    """The encoder of that name; `none` is none."""
    return HashEncoder() if name == "hash" else None
