"""A served model answers from what it knows, whatever it is asked, and a generation changes all of it or nothing."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from engine.batch import HistoryBatch, joined
from engine.blending.scoring import RecommenderModel, ScoringConfig
from engine.blending.serving import ServedModel, ServedSlots
from engine.generations import Generation, GenerationAssembler, TableChange, encode_generation
from engine.network.model import ModelConfig, SequenceModel
from engine.weights import CHALLENGER, CHAMPION, Weights, WeightsError

TINY = ModelConfig.preset("tiny", dim=8, length=4)


def weights(seed: int = 0, rows: int = 20) -> Weights:
    model = SequenceModel(TINY, rows, torch.Generator().manual_seed(seed))
    return RecommenderModel(model, ScoringConfig(neighbours=4)).weights()


def generation(of: Weights, number: int = 1) -> Generation:
    assembler = GenerationAssembler()
    records, _ = encode_generation(of, "champion", number, 1)
    [made] = [found for key, value in records if (found := assembler.feed(key, value))]
    return made


def history(*rows: int) -> HistoryBatch:
    return HistoryBatch.of([(rows, [1] * len(rows), range(0, 60 * len(rows), 60))])


def test_the_best_rows_come_first_and_the_padding_row_never() -> None:
    answer = ServedModel(weights(), 3, 7).top_k(history(4, 5), 19)
    assert sorted(answer.rows_BK[0].tolist()) == list(range(1, 20))
    assert (np.diff(answer.scores_BK[0]) <= 0).all()
    assert (answer.version, answer.generation) == (3, 7)


def test_more_than_there_is_gives_row_0_at_the_end() -> None:
    answer = ServedModel(weights(rows=4), 1, 0).top_k(history(1), 6)
    assert sorted(answer.rows_BK[0, :3].tolist()) == [1, 2, 3]
    assert answer.rows_BK[0, 3:].tolist() == [0, 0, 0]
    assert (answer.scores_BK[0, 3:] == -np.inf).all()


@pytest.mark.parametrize("wild", [20, 1023, 2**31 - 1, -1, -(2**31)])
def test_a_row_out_of_range_counts_as_the_unknown_item(wild: int) -> None:
    model = ServedModel(weights(), 1, 0)
    np.testing.assert_array_equal(model.top_k(history(4, wild), 5).scores_BK, model.top_k(history(4, 0), 5).scores_BK)


def test_histories_asked_together_are_answered_as_if_alone() -> None:
    model = ServedModel(weights(), 1, 0)
    parts = [history(1, 2, 3, 4, 5, 6), history(), history(7)]
    together = model.top_k(joined(parts), 5)
    for at, part in enumerate(parts):
        alone = model.top_k(part, 5)
        np.testing.assert_allclose(together.scores_BK[at], alone.scores_BK[0], rtol=1e-4, atol=1e-5)


def test_after_a_generation_it_answers_like_a_model_loaded_from_it() -> None:
    model = ServedModel(weights(seed=0), 1, 0)
    model.apply(generation(weights(seed=1, rows=30)))

    expected = ServedModel(weights(seed=1, rows=30), 1, 1).top_k(history(4, 25), 5)
    answer = model.top_k(history(4, 25), 5)

    np.testing.assert_array_equal(answer.rows_BK, expected.rows_BK)
    np.testing.assert_array_equal(answer.scores_BK, expected.scores_BK)
    assert answer.generation == 1


def test_rows_change_by_table_and_the_others_stay() -> None:
    model, new = ServedModel(weights(seed=0), 1, 0), weights(seed=1)
    whole = generation(new)
    part = {name: TableChange(of.rows_U[:0], of.values[:0]) for name, of in whole.tables.items()}
    part["item_vectors"] = TableChange(np.array([4, 7]), new.tables["item_vectors"][[4, 7]])
    model.apply(replace(whole, tables=part))
    mixed = {name: table.copy() for name, table in weights(seed=0).tables.items()}
    mixed["item_vectors"][[4, 7]] = new.tables["item_vectors"][[4, 7]]
    expected = ServedModel(replace(new, tables=mixed), 1, 1).top_k(history(4, 5), 5)
    np.testing.assert_array_equal(model.top_k(history(4, 5), 5).scores_BK, expected.scores_BK)


def test_an_older_generation_changes_nothing() -> None:
    model = ServedModel(weights(seed=0), 1, 5)
    before = model.top_k(history(4), 5)
    model.apply(generation(weights(seed=1), number=5))
    np.testing.assert_array_equal(model.top_k(history(4), 5).scores_BK, before.scores_BK)


def test_a_generation_that_does_not_fit_changes_nothing() -> None:
    model = ServedModel(weights(seed=0), 1, 0)
    before = model.top_k(history(4), 5)
    good = generation(weights(seed=1))
    narrow = {**good.dense, "norm.weight": np.zeros(3, np.float32)}
    for misfit in (
        replace(good, config={**good.config, "dim": 16}),
        replace(good, dense={}),
        replace(
            good, tables={**good.tables, "item_vectors": TableChange(np.arange(20), np.zeros((20, 3), np.float32))}
        ),
        replace(good, dense={name.replace("sequence.", ""): value for name, value in narrow.items()}),
    ):
        with pytest.raises(WeightsError):
            model.apply(misfit)
    np.testing.assert_array_equal(model.top_k(history(4), 5).scores_BK, before.scores_BK)


def test_weights_that_do_not_fit_their_config_are_refused() -> None:
    good = weights()
    for broken in (
        replace(good, config={**good.config, "dim": 16}),
        replace(good, config={**good.config, "colour": "red"}),
        replace(good, tables={}),
    ):
        with pytest.raises(WeightsError):
            ServedModel(broken, 1, 0)


def test_a_challenger_answers_for_its_slot_while_it_is_published() -> None:
    slots = ServedSlots(ServedModel(weights(seed=0), 1, 1))
    champion = slots.top_k(history(4), 5)
    other = replace(generation(weights(seed=1), number=2), slot=CHALLENGER)
    assert slots.top_k(history(4), 5, CHALLENGER).slot == CHAMPION

    slots.apply(other)
    answer = slots.top_k(history(4), 5, CHALLENGER)
    assert (answer.slot, answer.generation) == (CHALLENGER, 2)
    np.testing.assert_array_equal(answer.scores_BK, ServedModel(weights(seed=1), 1, 2).top_k(history(4), 5).scores_BK)
    np.testing.assert_array_equal(slots.top_k(history(4), 5).scores_BK, champion.scores_BK)

    slots.drop(CHALLENGER)
    assert slots.top_k(history(4), 5, CHALLENGER).generation == 1


def test_a_challenger_that_does_not_begin_with_all_rows_is_refused() -> None:
    whole = replace(generation(weights(seed=1), number=2), slot=CHALLENGER)
    part = replace(whole, tables={name: TableChange(of.rows_U[:3], of.values[:3]) for name, of in whole.tables.items()})
    slots = ServedSlots(ServedModel(weights(), 1, 1))
    with pytest.raises(WeightsError):
        slots.apply(part)
    assert slots.challenger is None


def test_a_server_seeded_with_another_preset_takes_the_learners_model_once_it_is_whole() -> None:
    """Issue 10, C.1 and E: a seed of another preset refused every generation of the learner for ever."""
    small = SequenceModel(ModelConfig.preset("tiny", dim=16, length=4), 30, torch.Generator().manual_seed(1))
    learned = generation(RecommenderModel(small, ScoringConfig(neighbours=4)).weights(), number=2)
    tables = {name: TableChange(of.rows_U[:3], of.values[:3]) for name, of in learned.tables.items()}
    slots = ServedSlots(ServedModel(weights(), 1, 0))
    with pytest.raises(WeightsError, match="begins with all of its rows"):
        slots.apply(replace(learned, tables=tables))
    assert slots.top_k(history(4), 5).generation == 0

    slots.apply(learned)
    answer = slots.top_k(history(4), 5)
    assert (answer.version, answer.generation) == (1, 2)
    np.testing.assert_array_equal(answer.scores_BK, ServedModel(learned.weights, 1, 2).top_k(history(4), 5).scores_BK)

    slots.apply(generation(weights(), number=1))  # of the model before, and late
    assert slots.top_k(history(4), 5).generation == 2
