"""Every option of training and model does what its line in docs/models.md says, on a ring of items."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from engine.batch import HistoryBatch
from engine.network.model import PRESETS, ModelConfig, SequenceModel
from engine.network.negatives import Negatives
from engine.network.optimisers import OptimiserConfig, dense_optimiser, rate
from engine.network.training import Trainer, TrainingConfig

ROWS = 13
TINY = ModelConfig(dim=16, hidden_factor=2, dropout=0.0, length=8)
RATES = {"sgd": 0.5, "momentum": 0.1, "adagrad": 0.1, "rmsprop": 0.01, "adam": 0.01, "adamw": 0.01}


def rings(count: int, seed: int = 0) -> HistoryBatch:
    """Walks round a ring of 12 items."""
    starts = np.random.default_rng(seed).integers(0, 12, count)
    rows = (starts[:, None] + np.arange(6)) % 12 + 1
    return HistoryBatch.of_rows(rows.ravel().astype(np.int32), np.full(count, 6, np.int32))


def trainer(model: ModelConfig = TINY, **training: Any) -> Trainer:
    training.setdefault("optimiser", OptimiserConfig(learning_rate=0.01))
    drawn = torch.Generator().manual_seed(0)
    return Trainer(SequenceModel(model, ROWS, drawn), TrainingConfig(**training), np.random.default_rng(0))


def hits(trained: Trainer) -> float:
    """Share of walks whose next item leads the list."""
    walks = rings(60, seed=9)
    histories = walks.take(walks.positions_T < 5)
    with torch.no_grad():
        best = trained.model.scores(histories).argmax(1).numpy()
    return float((best == walks.rows_T[walks.positions_T == 5]).mean())


def train(trained: Trainer, steps: int) -> list[float]:
    return [trained.step(rings(32, seed)).loss for seed in range(steps)]


@pytest.mark.parametrize(
    ("loss", "negatives", "steps"),
    [
        ("softmax", Negatives(), 80),
        ("sampled_softmax", Negatives(4, 0, in_batch=False), 80),
        ("sampled_softmax", Negatives(2, 2, in_batch=True), 80),
        ("gbce", Negatives(6, 0, in_batch=False), 250),
    ],
)
def test_every_loss_finds_the_next_item(loss: str, negatives: Negatives, steps: int) -> None:
    trained = trainer(loss=loss, negatives=negatives)
    train(trained, steps)
    assert hits(trained) > 0.95


@pytest.mark.parametrize("name", RATES)
def test_every_optimiser_finds_the_next_item(name: Any) -> None:
    trained = trainer(optimiser=OptimiserConfig(name, rows=name, learning_rate=RATES[name]))
    losses = train(trained, 80)
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.parametrize("activation", ["relu", "gelu", "silu", "swiglu"])
@pytest.mark.parametrize("block", ["ligr", "sasrec"])
def test_every_block_and_activation_finds_the_next_item(block: Any, activation: Any) -> None:
    trained = trainer(replace(TINY, block=block, activation=activation))
    train(trained, 70)
    assert hits(trained) > 0.95


def test_cosine_similarity_finds_the_next_item_with_vectors_of_one_length() -> None:
    trained = trainer(replace(TINY, similarity="cosine"))
    train(trained, 70)
    assert hits(trained) > 0.95
    lengths = trained.model.item_vectors().norm(dim=1)[1:]
    torch.testing.assert_close(lengths, torch.full_like(lengths, TINY.temperature**-0.5))


def test_only_touched_rows_move_and_the_step_names_them() -> None:
    trained = trainer(loss="sampled_softmax", negatives=Negatives(1, 0, in_batch=True))
    before = {name: table.clone() for name, table in trained.model.tables().items()}
    batch = HistoryBatch.of_rows(np.array([3, 4, 5], np.int32), np.array([3], np.int32))
    step = trained.step(batch)
    moved = (trained.model.tables()["item_vectors"] != before["item_vectors"]).any(1).nonzero().flatten().tolist()
    assert set(moved) <= set(step.rows_U.tolist())
    assert {3, 4, 5} <= set(step.rows_U.tolist())
    assert len(step.rows_U) <= 4
    assert step.targets == 2


def test_a_weight_of_zero_makes_an_interaction_context_only() -> None:
    batch = HistoryBatch.of_rows(np.array([3, 4, 5], np.int32), np.array([3], np.int32))
    assert trainer().step(batch, np.array([1, 0, 1], np.float32)).targets == 1
    assert trainer().step(batch, np.zeros(3, np.float32)).targets == 0


def test_an_unknown_row_is_context_and_never_a_target() -> None:
    batch = HistoryBatch.of_rows(np.array([3, 0, 99, 4], np.int32), np.array([4], np.int32))
    trained = trainer()
    assert trained.step(batch).targets == 1
    assert trained.model.item_table[0].abs().sum() == 0


@pytest.mark.parametrize(
    ("freeze", "still"),
    [
        (("item_",), ["item_table", "item_biases"]),
        (("blocks.0",), ["blocks.0."]),
        (("positions", "blocks.1.attention"), ["positions.", "blocks.1.attention."]),
    ],
)
def test_frozen_layers_stay_and_the_others_move(freeze: tuple[str, ...], still: list[str]) -> None:
    trained = trainer(replace(TINY, blocks=2), freeze=freeze)
    before = {name: value.clone() for name, value in trained.model.state_dict().items()}
    train(trained, 3)
    for name, value in trained.model.state_dict().items():
        moves = not name.startswith(tuple(still))
        unused = name in {"types.weight", "gaps.weight"}
        assert unused or torch.equal(value, before[name]) != moves, name


def test_dropout_thins_out_in_training_only_and_keeps_the_mean() -> None:
    layer = trainer(replace(TINY, dropout=0.25)).model.dropout
    values = torch.ones(200_000)
    thinned = layer.train()(values)
    assert (thinned == 0).float().mean().item() == pytest.approx(0.25, abs=0.01)
    assert thinned.mean().item() == pytest.approx(1.0, abs=0.01)
    assert torch.equal(layer.eval()(values), values)


def test_l2_pulls_weights_towards_zero() -> None:
    plain, decayed = (
        trainer(optimiser=OptimiserConfig("adamw", rows="adamw", learning_rate=0.01, l2=l2)) for l2 in (0.0, 5.0)
    )
    for each in (plain, decayed):
        train(each, 60)
    assert decayed.model.item_table.norm() < 0.7 * plain.model.item_table.norm()


def test_clipping_bounds_the_gradient_of_the_dense_parameters() -> None:
    value = torch.nn.Parameter(torch.zeros(3))
    clipped = trainer(optimiser=OptimiserConfig("sgd", learning_rate=1.0, clip=1e-3))
    before = clipped.model.norm.weight.detach().clone()
    train(clipped, 1)
    assert 0 < (clipped.model.norm.weight - before).norm() <= 1e-3
    assert dense_optimiser(OptimiserConfig("sgd"), [value]).defaults["lr"] == OptimiserConfig().learning_rate


@pytest.mark.parametrize(
    ("schedule", "factors"),
    [
        ("constant", [0.5, 1, 1, 1, 1]),
        ("linear", [0.5, 1, 1, 2 / 3, 1 / 3]),
        ("cosine", [0.5, 1, 1, 0.75, 0.25]),
        ("inverse_sqrt", [0.5, 1, 1, (2 / 3) ** 0.5, 0.5**0.5]),
    ],
)
def test_a_schedule_warms_up_and_then_falls_as_named(schedule: Any, factors: list[float]) -> None:
    assert [rate(schedule, 2, step, 5) for step in range(5)] == pytest.approx(factors)


def test_a_step_of_rate_zero_moves_nothing() -> None:
    trained = trainer(optimiser=OptimiserConfig(schedule="linear"))
    trained.steps = trained.total_steps = 5
    before = {name: value.clone() for name, value in trained.model.state_dict().items()}
    train(trained, 1)
    assert all(torch.equal(value, before[name]) for name, value in trained.model.state_dict().items())


def test_presets_rise_in_size() -> None:
    sizes = [sum(value.numel() for value in SequenceModel(PRESETS[name], 2).dense().values()) for name in PRESETS]
    assert list(PRESETS) == ["tiny", "small", "base"]
    assert sizes == sorted(sizes)
    assert len(set(sizes)) == 3


def test_a_restored_trainer_goes_on_exactly() -> None:
    model = replace(TINY, dropout=0.2)
    sampled = {"loss": "sampled_softmax", "negatives": Negatives(4, 2)}
    first = trainer(model, **sampled)
    train(first, 5)
    weights, state = first.model.state_dict(), first.state()
    second = trainer(model, **sampled)
    second.model.load_state_dict(weights)
    second.restore(state)
    copied = {name: value.clone() for name, value in second.model.state_dict().items()}
    first.model.load_state_dict(copied)
    assert train(first, 3) == train(second, 3)


def test_new_rows_can_be_learned_without_touching_the_old() -> None:
    trained = trainer()
    train(trained, 5)
    before = trained.model.tables()["item_vectors"].clone()
    trained.model.grow(3000)
    torch.testing.assert_close(trained.model.tables()["item_vectors"][:ROWS], before)
    batch = HistoryBatch.of_rows(np.array([3, 2999], np.int32), np.array([2], np.int32))
    assert 2999 in trained.step(batch).rows_U


def by_side_information(column: int) -> float:
    """Accuracy where only the type, or only the time gap, of the one interaction before tells what comes next."""
    generator = np.random.default_rng(0)
    trained = trainer()
    for _ in range(80):
        trained.step(told_apart(generator.integers(0, 2, 32), column))
    told = told_apart(np.array([0, 1]), column)
    with torch.no_grad():
        scores = trained.model.scores(told.take(told.positions_T < 2))
    return float((scores.argmax(1).numpy() == np.array([2, 3])).mean())


def told_apart(kinds: np.ndarray[Any, np.dtype[np.int64]], column: int) -> HistoryBatch:
    parts = []
    for kind in kinds:
        types = [1, 1 + 3 * int(kind), 1] if column == 1 else [1, 1, 1]
        gap = 100_000 * int(kind) if column == 2 else 0
        parts.append(([1, 1, 2 + int(kind)], types, [0, gap, gap]))
    return HistoryBatch.of(parts)


@pytest.mark.parametrize("column", [1, 2])
def test_the_type_of_an_interaction_and_the_time_before_it_are_used(column: int) -> None:
    assert by_side_information(column) == 1.0


@pytest.mark.parametrize("recency", [True, False])
def test_position_is_used(recency: bool) -> None:  # noqa: FBT001  # a parameter of the test
    """The item is always the same: only how many came before says what comes next."""
    trained = trainer(replace(TINY, recency=recency))
    batch = HistoryBatch.of_rows(np.array([1, 1, 1, 2], np.int32), np.array([4], np.int32))
    for _ in range(80):
        trained.step(batch)
    asked = HistoryBatch.of_rows(np.array([1, 1, 1, 1, 1], np.int32), np.array([2, 3], np.int32))
    with torch.no_grad():
        assert trained.model.scores(asked).argmax(1).tolist() == [1, 2]


def test_text_places_an_item_nobody_has_touched() -> None:
    """Items of one text cluster follow each other; a new item with that text is proposed before its first click."""
    trained = trainer(replace(TINY, text_dim=2))
    model = trained.model
    model.describe(np.arange(1, 13), np.repeat(np.eye(2, dtype=np.float16), 6, 0))
    generator = np.random.default_rng(0)
    for _ in range(80):
        low = generator.integers(0, 2, 32) * 6
        rows = low[:, None] + generator.integers(1, 7, (32, 4))
        trained.step(HistoryBatch.of_rows(rows.ravel().astype(np.int32), np.full(32, 4, np.int32)))
    model.grow(15)
    model.describe(np.array([13, 14]), np.eye(2, dtype=np.float16))
    with torch.no_grad():
        scores = model.scores(HistoryBatch.of_rows(np.array([1, 2, 3], np.int32), np.array([3], np.int32)))[0]
    assert scores[13] > scores[14]


@pytest.mark.parametrize("loss", ["softmax", "sampled_softmax", "gbce"])
def test_no_step_touches_a_cold_row_before_a_history_holds_it(loss: str) -> None:
    trained = trainer(loss=loss, negatives=Negatives(200, 0))
    trained.model.cold_I[[11, 12]] = True
    walk = HistoryBatch.of_rows(np.array([3, 4, 5], np.int32), np.array([3], np.int32))
    assert trained.step(walk).rows_U.tolist() == list(range(1, 11))
    walk = HistoryBatch.of_rows(np.array([3, 4, 11], np.int32), np.array([3], np.int32))
    assert trained.step(walk).rows_U.tolist() == list(range(1, 12))
    assert trained.model.cold_I.nonzero()[0].tolist() == [12]
