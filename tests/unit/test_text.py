"""A text is always the same vector, near to those of texts that share words or parts of words."""

import subprocess
import sys

import numpy as np
import pytest

from engine.text import HashEncoder, text_encoder


def cosines(*texts: str) -> np.ndarray:  # type: ignore[type-arg]
    vectors = HashEncoder().encode(texts).astype(np.float32)
    return vectors @ vectors.T


def test_another_process_makes_the_same_vector() -> None:
    code = "from engine.text import HashEncoder; print(HashEncoder().encode(['Brass lamp']).tobytes().hex())"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == HashEncoder().encode(["Brass lamp"]).tobytes().hex()


def test_case_order_and_signs_between_words_do_not_matter() -> None:
    assert cosines("RED RETROSPOT BAG", "red bag, retrospot!") == pytest.approx(1, abs=2e-3)


def test_texts_are_the_nearer_the_more_they_share() -> None:
    near = cosines("red retrospot bag", "red retrospot bags", "pink retrospot lamp", "zinc folkart sleigh")[0]
    assert near[0] > near[1] > near[2] > near[3]
    assert abs(near[3]) < 0.25


def test_what_is_in_no_alphabet_has_parts_too() -> None:
    _, pouch, lamp = cosines("赤い水玉のバッグ", "赤い水玉のポーチ", "真鍮のランプ")[0]
    assert pouch > lamp + 0.2


def test_vectors_have_length_one_and_nothing_has_length_zero() -> None:
    vectors = HashEncoder(32).encode(["a", "red bag " * 500, "", " - "])
    assert vectors.dtype == np.float16
    assert np.linalg.norm(vectors.astype(np.float32), axis=1) == pytest.approx([1, 1, 0, 0], abs=2e-3)
    assert HashEncoder().encode([]).shape == (0, 128)


def test_none_is_no_encoder() -> None:
    assert text_encoder("none") is None
