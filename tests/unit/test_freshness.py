"""A model counts that was trained and has what the worker had a while ago (C.1)."""

import numpy as np
import pytest

from engine.weights import CHALLENGER, CHAMPION
from streams.followers.neighbours import NeighbourTables
from streams.lists.freshness import Freshness
from streams.triton.scorer import Proposals

EMPTY = np.zeros((1, 1), np.int32), np.zeros((1, 1), np.float32)


def answer(generation: int, slot: str = CHAMPION) -> Proposals:
    return Proposals(*EMPTY, 1, generation, slot)


def tables(generation: int, untrained: int = 0) -> NeighbourTables:
    return NeighbourTables(*EMPTY, np.ones(2, np.float32), generation, untrained)


def test_a_model_that_was_never_trained_does_not_count_before_and_after_the_first_generation() -> None:
    fresh = Freshness(60.0)
    assert fresh.fault(answer(0), None, 1.0) == "untrained"
    assert fresh.fault(answer(0), tables(500), 2.0) == "untrained"
    assert fresh.fault(answer(3), None, 3.0) is None  # the worker has not heard of it yet


def test_a_generation_that_had_learned_nothing_is_no_trained_model() -> None:
    fresh = Freshness(60.0)
    assert fresh.fault(answer(1), tables(1, untrained=1), 1.0) == "untrained"
    assert fresh.fault(answer(1), tables(2, untrained=1), 1.0) == "untrained"
    assert fresh.fault(answer(2), tables(1, untrained=1), 1.0) is None


def test_a_model_may_lack_what_came_a_moment_ago_and_nothing_older() -> None:
    fresh = Freshness(60.0)
    for second in range(100):
        assert fresh.fault(answer(100 + second - 59), tables(100 + second), 1000.0 + second) is None
    assert fresh.fault(answer(130), tables(200), 1100.0) == "behind"
    assert fresh.fault(answer(141), tables(200), 1100.0) is None  # it has caught up


def test_a_worker_that_has_just_started_knows_nothing_of_how_old_its_generation_is() -> None:
    fresh = Freshness(60.0)
    assert fresh.fault(answer(100), tables(500), 1000.0) is None
    assert fresh.fault(answer(100), tables(500), 1059.0) is None
    assert fresh.fault(answer(100), tables(500), 1060.0) == "behind"


def test_a_quiet_night_makes_no_model_old() -> None:
    fresh = Freshness(60.0)
    for hour in range(8):
        assert fresh.fault(answer(500), tables(500), 3600.0 * hour) is None


def test_a_challenger_has_generations_of_its_own() -> None:
    fresh = Freshness(60.0)
    for second in (0.0, 100.0, 200.0):
        assert fresh.fault(answer(3, CHALLENGER), tables(500), second) is None


@pytest.mark.parametrize("held", [None, tables(500)])
def test_measurements_may_ask_for_a_model_that_was_never_trained(held: NeighbourTables | None) -> None:
    assert Freshness(60.0, serve_untrained=True).fault(answer(0), held, 1.0) is None
