"""An item that nobody has touched is proposed by what its text says, to those whom it suits."""

from dataclasses import replace

import numpy as np

from engine.batch import HistoryBatch
from engine.blending.scoring import load_scorer
from engine.online.prequential import OnlineLearner
from engine.text import HashEncoder
from tests.learning.streams_of import CONFIG, stream

KINDS = [f"{colour} {thing}" for colour in ("red", "zinc", "floral") for thing in ("lamp", "bag", "spade", "teacup")]
EACH = 8
ITEMS = EACH * len(KINDS)
USERS = 200
ENCODER = HashEncoder()
WITH_TEXT = replace(CONFIG, model=replace(CONFIG.model, text_dim=ENCODER.width))


def title(row: int) -> str:
    """Eight items of each kind, then round again, each with a word of its own."""
    return f"{KINDS[(row - 1) // EACH % len(KINDS)]} no{row}x"


def describe(learner: OnlineLearner, rows: range) -> None:
    learner.describe(np.array(rows), ENCODER.encode([title(row) for row in rows]))


def one_kind(_: int, history: list[int], generator: np.random.Generator) -> int:
    """Nine times in ten something of the kind that the user has begun with and has not got yet."""
    kind = (history[0] - 1) // EACH if history else 0
    left = sorted(set(range(kind * EACH + 1, kind * EACH + EACH + 1)) - set(history))
    if history and left and generator.random() < 0.9:
        return int(generator.choice(left))
    return int(generator.integers(1, ITEMS + 1))


def asked(kind: int) -> HistoryBatch:
    rows = kind * EACH + np.array([2, 5, 1, 7])
    return HistoryBatch.of([(rows, [1] * 4, [0, 60, 120, 180])])


def learned(announced: int = ITEMS) -> OnlineLearner:
    learner = OnlineLearner(WITH_TEXT)
    describe(learner, range(1, announced + 1))
    list(map(learner.observe, stream(one_kind, 2000, USERS)))
    return learner


def test_an_item_launched_with_a_text_is_among_ten_for_those_it_suits_before_its_first_interaction() -> None:
    learner = learned()
    describe(learner, range(ITEMS + 1, ITEMS + 2))
    lists = [learner.scorer.top_k(asked(kind), 10)[0][0].tolist() for kind in range(len(KINDS))]
    assert [kind for kind, rows in enumerate(lists) if ITEMS + 1 in rows] == [0]


def test_who_goes_on_from_a_checkpoint_and_reads_the_titles_again_proposes_the_same() -> None:
    learner = learned(announced=ITEMS + 1)
    other = OnlineLearner(WITH_TEXT)
    describe(other, range(1, ITEMS + 2))
    other.resume(learner.checkpoint())
    rows, scores = learner.scorer.top_k(asked(0), 20)
    again, same = other.scorer.top_k(asked(0), 20)
    assert again.tolist() == rows.tolist()
    np.testing.assert_allclose(same, scores, atol=0.15)  # a row may be a step behind what it is worth
    assert set(other.model.cold_I.nonzero()[0]) == set(learner.model.cold_I.nonzero()[0]) == {ITEMS + 1}


def test_what_is_published_answers_like_the_learner_and_has_no_text() -> None:
    learner = learned(announced=ITEMS + 1)
    served = load_scorer(learner.weights())
    assert served.sequence.config.text_dim == 0
    for kind in (0, 5):
        expected, found = (each.scores(asked(kind))[:, 1:].numpy() for each in (learner.scorer, served))
        np.testing.assert_allclose(found, expected, atol=1e-3)
