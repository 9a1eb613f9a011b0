"""The sparse, served blend equals its definition: each feature as a dense table, weighted and added up."""

import numpy as np
import pytest
import torch

from engine.batch import HistoryBatch
from engine.blending import scoring
from engine.blending.scoring import FEATURES, RecommenderModel, ScoringConfig, build, load_scorer
from engine.metrics import rank_of
from engine.network.model import ModelConfig, SequenceModel
from engine.weights import WeightsError
from tests.reference.neighbours import neighbour_scores

ROWS = 40
BATCH = HistoryBatch.of(
    [
        ([5, 6, 5, 7], [4, 4, 4, 4], [0, 100, 90_000, 90_060]),
        ([8, 3, 8, 3, 8], [1] * 5, [0, 1, 2, 3, 4]),
        ([], [], []),
        ([9, 999, 0, 9], [1, 200, 0, 4], [0, 1, 2, 3]),
    ]
)


@pytest.fixture(params=(0, 1000), ids=("sorted", "dense"))
def scorer(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> RecommenderModel:
    monkeypatch.setattr(scoring, "_SPARSE", request.param)
    generator = torch.Generator().manual_seed(1)
    sequence = SequenceModel(ModelConfig.preset("tiny"), ROWS, generator)
    scorer = RecommenderModel(sequence, ScoringConfig(neighbours=4)).eval()
    for name in ("neighbour", "successor"):
        getattr(scorer, f"{name}_rows")[1:ROWS].random_(1, ROWS, generator=generator)
        getattr(scorer, f"{name}_weights")[1:ROWS].uniform_(0, 1, generator=generator)
    scorer.neighbour_rows[[5, 8], 0] = torch.tensor([7, 3], dtype=torch.int32)  # of the same visit
    scorer.popularity[1:ROWS].uniform_(0, 50, generator=generator)
    return scorer


def dense_feature(scorer: RecommenderModel, name: str) -> np.ndarray:
    config, rows_T = scorer.config, np.where(BATCH.rows_T < ROWS, BATCH.rows_T, 0)
    known = HistoryBatch(rows_T, BATCH.types_T, BATCH.times_T, BATCH.lengths_B)
    tables = {name: table.numpy() for name, table in scorer.tables().items()}
    covisits = tables["neighbour_rows"], tables["neighbour_weights"]
    successors = tables["successor_rows"], tables["successor_weights"]
    model = scorer.sequence.scores(BATCH).detach().numpy()
    visit, repeat, repeats, echo = np.zeros((4, len(BATCH), ROWS))
    visit[0, [5, 7]] = visit[1, [3, 8]] = visit[3, 9] = 1
    repeat[0, [5, 6]] = 1  # before the pause of a day
    repeats[0, [5, 6]] = np.log(2)
    echo[1, 3] = np.log(3)  # twice after 8; after 9 came an unknown item
    dense: dict[str, np.ndarray] = {
        "model": model,
        "popularity": np.repeat(np.log1p(tables["popularity"])[None], len(BATCH), 0),
        "covisit": (1 - visit) * np.log1p(neighbour_scores(known, *covisits) / config.covisit_floor),
        "successor": np.log1p(neighbour_scores(known, *successors, decay=0.7) / config.successor_floor),
        "last_successor": np.log1p(neighbour_scores(known, *successors, window=1) / config.last_floor),
        "repeat": repeat,
        "repeats": repeats,
        "visit": visit,
        "echo": echo,
        "visit_model": np.where(visit == 1, model - model.max(1, keepdims=True), 0),
    }
    return dense[name]


def test_scores_are_the_weighted_sum_of_all_features(scorer: RecommenderModel) -> None:
    scorer.blend += 1.0  # no feature at 0
    expected = sum(
        weight * dense_feature(scorer, name) for weight, name in zip(scorer.blend.numpy(), FEATURES, strict=True)
    )
    found = scorer.scores(BATCH).numpy()
    np.testing.assert_allclose(found[:, 1:], expected[:, 1:], rtol=1e-4, atol=1e-4)
    assert (found[:, 0] == -np.inf).all()


@pytest.mark.parametrize("name", FEATURES[2:-1])
def test_ranks_by_one_feature_are_those_of_its_dense_table(scorer: RecommenderModel, name: str) -> None:
    dense_BI = dense_feature(scorer, name).astype(np.float32)
    feature = scorer.features(BATCH, scorer.sequence.user_vectors(BATCH)).sparse[FEATURES.index(name) - 2]
    for target in range(1, ROWS):
        targets_B = np.full(len(BATCH), target)
        assert feature.ranks(targets_B, ROWS).tolist() == rank_of(dense_BI, targets_B).tolist()


def test_published_weights_make_the_same_scorer(scorer: RecommenderModel) -> None:
    again = load_scorer(scorer.weights())
    np.testing.assert_array_equal(again.scores(BATCH).numpy(), scorer.scores(BATCH).numpy())


def test_the_best_rows_come_first_and_never_row_0(scorer: RecommenderModel) -> None:
    rows, scores = scorer.top_k(BATCH, 5)
    assert rows.shape == scores.shape == (4, 5)
    assert (rows > 0).all()
    assert (np.diff(scores, axis=1) <= 0).all()


def test_growing_changes_no_score_of_the_rows_before(scorer: RecommenderModel) -> None:
    before = scorer.scores(BATCH).numpy()
    scorer.grow(3000)
    after = scorer.scores(BATCH).numpy()
    known = BATCH.select(np.array([0, 1]))
    assert after.shape == (4, 3000)
    np.testing.assert_allclose(after[: len(known), :ROWS], before[: len(known)], rtol=1e-5, atol=1e-5)


def test_a_config_without_scoring_is_a_sequence_model_alone() -> None:
    config = ModelConfig.preset("tiny")
    assert isinstance(build(config.plain(), 8), SequenceModel)
    weights = RecommenderModel(SequenceModel(config, 8), ScoringConfig()).weights()
    with pytest.raises(WeightsError):
        load_scorer(type(weights)(config.plain(), weights.tables, weights.dense))


def test_who_has_no_history_is_shown_what_nobody_has_touched_last(scorer: RecommenderModel) -> None:
    before = scorer.scores(BATCH)[:, 4] - scorer.blend[1] * scorer.popularity[4].log1p()
    scorer.popularity[4] = 0
    lost = before - scorer.scores(BATCH)[:, 4]
    np.testing.assert_allclose(lost.numpy(), [0, 0, 20, 0], atol=1e-4)
