"""Any Scorer answers every history of a batch, in order, best first, or says in time that it cannot."""

import time
from collections.abc import AsyncIterator

import numpy as np
import pytest

from engine.batch import HistoryBatch
from streams.errors import ScorerUnavailableError
from streams.lists.ladder import Scorer
from streams.local.processes import free_port
from streams.triton.scorer import TritonScorer
from tests.fakes import FakeScorer

ROWS = 1024


@pytest.fixture(params=["fake", pytest.param("triton", marks=pytest.mark.integration)])
async def scorer(request: pytest.FixtureRequest) -> AsyncIterator[Scorer]:
    if request.param == "fake":
        yield FakeScorer(ROWS)
        return
    real = TritonScorer(request.getfixturevalue("triton").address)
    yield real
    await real.close()


@pytest.fixture(params=["fake", "triton"])
async def dead_scorer(request: pytest.FixtureRequest) -> AsyncIterator[Scorer]:
    if request.param == "fake":
        fake = FakeScorer()
        fake.failure = ConnectionError("nobody listens")
        yield fake
        return
    real = TritonScorer(f"127.0.0.1:{free_port()}")
    yield real
    await real.close()


def histories(*rows: list[int]) -> HistoryBatch:
    return HistoryBatch.of([(of_one, [1] * len(of_one), range(0, 60 * len(of_one), 60)) for of_one in rows])


async def test_each_history_gets_its_list_best_first(scorer: Scorer) -> None:
    answer = await scorer.top_k(histories([1, 2], [3], []), 20, 5)
    assert answer.rows_BK.shape == answer.scores_BK.shape == (3, 20)
    assert (np.diff(answer.scores_BK) <= 0).all()
    assert answer.version >= 1
    assert answer.generation >= 0


async def test_a_list_holds_no_row_twice_and_never_the_padding_row(scorer: Scorer) -> None:
    answer = await scorer.top_k(histories([1, 2]), ROWS - 1, 5)
    assert sorted(answer.rows_BK[0].tolist()) == list(range(1, ROWS))


async def test_more_than_there_is_ends_in_row_0(scorer: Scorer) -> None:
    answer = await scorer.top_k(histories([1]), ROWS + 9, 5)
    assert answer.rows_BK[0, ROWS - 1 :].tolist() == [0] * 10
    assert (answer.scores_BK[0, ROWS - 1 :] == -np.inf).all()


async def test_rows_out_of_range_count_as_unknown_and_harm_nobody(scorer: Scorer) -> None:
    wild = await scorer.top_k(histories([5, 2**31 - 1], [5, -7], [6]), 10, 5)
    tame = await scorer.top_k(histories([5, 0], [5, 0], [6]), 10, 5)
    np.testing.assert_array_equal(wild.rows_BK, tame.rows_BK)


async def test_a_large_batch_is_answered_like_its_users_alone(scorer: Scorer) -> None:
    rng = np.random.default_rng(0)
    users = [rng.integers(1, ROWS, length).tolist() for length in range(70)]
    together = await scorer.top_k(histories(*users), 5, 10)
    for at in (0, 1, 31, 32, 69):
        alone = await scorer.top_k(histories(users[at]), 5, 5)
        np.testing.assert_allclose(together.scores_BK[at], alone.scores_BK[0], rtol=1e-3, atol=1e-4)


async def test_no_history_at_all_gives_no_list(scorer: Scorer) -> None:
    answer = await scorer.top_k(histories(), 5, 5)
    assert answer.rows_BK.shape == (0, 5)


async def test_a_dead_server_is_reported_in_time(dead_scorer: Scorer) -> None:
    began = time.monotonic()
    with pytest.raises(ScorerUnavailableError) as caught:
        await dead_scorer.top_k(histories([1]), 5, 0.2)
    assert caught.value.__cause__ is not None
    assert time.monotonic() - began < 2


@pytest.mark.integration
async def test_a_late_server_is_given_up_at_the_deadline(triton: object) -> None:
    scorer = TritonScorer(triton.address)  # type: ignore[attr-defined]
    with pytest.raises(ScorerUnavailableError):
        await scorer.top_k(histories(*[[1, 2, 3]] * 64), 128, 0.0005)
    await scorer.close()
