"""The array-backed item-kNN equals its definition, a dictionary of counts, while no row has more pairs than slots."""

from collections import Counter
from math import sqrt

import numpy as np
import pytest

from engine.batch import HistoryBatch
from engine.blending.item_knn import ItemKnn, PairConfig
from tests.reference.neighbours import neighbour_scores

ITEMS, USERS = 12, 30


def histories(generator: np.random.Generator) -> list[list[int]]:
    return [generator.integers(1, ITEMS + 1, generator.integers(2, 20)).tolist() for _ in range(USERS)]


def learned(config: PairConfig, sequences: list[list[int]]) -> ItemKnn:
    knn = ItemKnn(config, neighbours=ITEMS)
    for sequence in sequences:
        for end in range(0, len(sequence), 3):  # outcomes arrive in batches of three
            rows = np.array(sequence[: end + 3], np.int32)
            outcomes = np.arange(len(rows)) >= end
            knn.update(HistoryBatch.of_rows(rows, np.array([len(rows)], np.int32)), outcomes)
    return knn


def counted(
    config: PairConfig, sequences: list[list[int]]
) -> tuple[Counter[tuple[int, int]], Counter[int], Counter[int]]:
    pairs: Counter[tuple[int, int]] = Counter()
    popularity: Counter[int] = Counter()
    left: Counter[int] = Counter()
    for sequence in sequences:
        for place, target in enumerate(sequence):
            popularity[target] += 1
            for back in range(1, min(config.window, place) + 1):
                source, weight = sequence[place - back], config.decay ** (back - 1)
                left[source] += weight  # type: ignore[assignment]
                if source != target:
                    pairs[source, target] += weight  # type: ignore[assignment]
                    if config.both_ways:
                        pairs[target, source] += weight  # type: ignore[assignment]
    return pairs, popularity, left


@pytest.mark.parametrize("both_ways", [True, False])
def test_the_best_neighbours_are_those_of_the_definition(both_ways: bool) -> None:  # noqa: FBT001 - a parameter
    config = PairConfig(window=4, decay=0.5, both_ways=both_ways, normalise="source", slots=16)
    sequences = histories(np.random.default_rng(1))
    knn = learned(config, sequences)
    pairs, _, left = counted(config, sequences)
    knn._refresh(np.arange(knn.rows))
    for row in range(1, knn.rows):
        expected = {later: count / (left[row] + 1) for (earlier, later), count in pairs.items() if earlier == row}
        found = dict(zip(knn.neighbour_rows[row].tolist(), knn.neighbour_weights[row].tolist(), strict=True))
        found.pop(0, None)
        assert found == pytest.approx(expected, rel=1e-5)


def test_target_weights_divide_by_the_root_of_popularity() -> None:
    config = PairConfig(window=3, slots=16)
    sequences = histories(np.random.default_rng(2))
    knn = learned(config, sequences)
    pairs, popularity, _ = counted(config, sequences)
    knn._refresh(np.arange(knn.rows))
    expected = pairs[3, 5] / sqrt(popularity[5] + 1)
    place = knn.neighbour_rows[3].tolist().index(5)
    assert knn.neighbour_weights[3][place] == pytest.approx(expected, rel=1e-5)


def test_neighbours_come_strongest_first() -> None:
    knn = learned(PairConfig(slots=16), histories(np.random.default_rng(3)))
    assert (np.diff(knn.neighbour_weights, axis=1) <= 0).all()


def test_a_full_row_gives_the_weakest_slot_to_a_new_pair() -> None:
    knn = ItemKnn(PairConfig(window=1, both_ways=False, slots=2), neighbours=2)
    for target in (2, 2, 3, 4):
        rows = np.array([1, target], np.int32)
        knn.update(HistoryBatch.of_rows(rows, np.array([2], np.int32)), np.array([False, True]))
    assert set(knn.neighbour_rows[1].tolist()) == {2, 4}


def test_with_a_half_life_a_new_pair_overtakes_an_old_one() -> None:
    knn = ItemKnn(PairConfig(window=1, both_ways=False, half_life=4), neighbours=2)
    for target in [2] * 8 + [3] * 4:
        rows = np.array([1, target], np.int32)
        knn.update(HistoryBatch.of_rows(rows, np.array([2], np.int32)), np.array([False, True]))
    assert knn.neighbour_rows[1].tolist() == [3, 2]


def test_scores_add_up_decayed_neighbours_of_the_newest_interactions() -> None:
    rows = np.array([[0, 0], [2, 3], [3, 1], [1, 2]], np.int32)
    weights = np.array([[0, 0], [8, 4], [2, 1], [6, 3]], np.float32)
    batch = HistoryBatch.of([([1, 3, 2], [1, 1, 1], [0, 1, 2]), ([], [], [])])
    scores = neighbour_scores(batch, rows, weights, window=2, decay=0.5)
    # newest 2: row 3 gets 2, row 1 gets 1; before it 3, halved: row 1 gets 3, row 2 gets 1.5
    assert scores.tolist() == [[0, 4, 1.5, 2], [0, 0, 0, 0]]


def test_a_restored_state_goes_on_alike() -> None:
    sequences = histories(np.random.default_rng(4))
    first = learned(PairConfig(slots=8), sequences)
    second = ItemKnn(PairConfig(slots=8), neighbours=ITEMS)
    second.restore(first.state())
    rows = np.array([1, 2, 3], np.int32)
    for knn in (first, second):
        knn.update(HistoryBatch.of_rows(rows, np.array([3], np.int32)), np.array([False, True, True]))
    np.testing.assert_array_equal(first.neighbour_rows, second.neighbour_rows)
    np.testing.assert_array_equal(first.neighbour_weights, second.neighbour_weights)
