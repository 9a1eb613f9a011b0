"""A method of continual learning moves what its name says and holds back what it says; figures by hand."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from engine.batch import HistoryBatch
from engine.continual.guards import Consolidation, Distillation
from engine.continual.herding import herd
from engine.continual.method import Method
from engine.continual.moving import attach, frozen, merge
from engine.continual.updating import copied, update
from engine.network.model import ModelConfig, SequenceModel
from engine.network.optimisers import OptimiserConfig
from engine.network.training import Compared, Trainer, TrainingConfig

TINY = ModelConfig(dim=16, hidden_factor=2, dropout=0.0, length=8)
ASKED = HistoryBatch.of_rows(np.array([1, 2, 3, 7, 8], np.int32), np.array([3, 2], np.int32))


def rings(step: int, seed: int = 0, count: int = 64) -> HistoryBatch:
    """Walks round a ring of 12 items, so many at a time."""
    starts = np.random.default_rng(seed).integers(0, 12, count)
    rows = (starts[:, None] + step * np.arange(6)) % 12 + 1
    return HistoryBatch.of_rows(rows.ravel().astype(np.int32), np.full(count, 6, np.int32))


def trainer(config: ModelConfig = TINY) -> Trainer:
    """One that has learned walks of one at a time."""
    model = SequenceModel(config, 13, torch.Generator().manual_seed(0))
    trained = Trainer(model, TrainingConfig(optimiser=OptimiserConfig(learning_rate=0.01)), np.random.default_rng(0))
    for seed in range(60):
        trained.step(rings(1, seed))
    return trained


def hits(model: SequenceModel, step: int) -> float:
    walks = rings(step, seed=9)
    with torch.no_grad():
        best = model.scores(walks.take(walks.positions_T < 5)).argmax(1).numpy()
    return float((best == walks.rows_T[walks.positions_T == 5]).mean())


def changed(trained: Trainer, method: Method) -> set[str]:
    """Names of dense parameters that an update to walks of five at a time has changed."""
    before = {name: value.clone() for name, value in trained.model.dense().items()}
    update(trained, method, rings(5), rings(1), epochs=4, replay=0.5, size=32)
    return {name for name, value in trained.model.dense().items() if not value.equal(before[name])}


def test_finetuning_moves_rows_and_layers() -> None:
    trained = trainer()
    table = trained.model.item_table.data.clone()
    assert {"positions.weight", "blocks.0.attention.query.weight", "norm.weight"} <= changed(trained, Method())
    assert not trained.model.item_table.equal(table)


def test_rows_only_moves_no_layer_and_all_asked_rows() -> None:
    trained = trainer()
    table = trained.model.item_table.data.clone()
    assert changed(trained, Method.of("rows")) == set()
    assert (trained.model.item_table[1:13] != table[1:13]).any(1).all()


def test_top_moves_only_what_follows_the_last_attention() -> None:
    names = changed(trainer(), Method.of("top"))
    assert names
    assert all(
        name.startswith(("blocks.0.feed_forward", "blocks.0.norms.1", "blocks.0.gates.1", "norm")) for name in names
    )


@pytest.mark.parametrize("moving", ["lora", "adalora"])
def test_low_rank_changes_move_only_projections_and_leave_the_shape(moving: str) -> None:
    trained = trainer()
    shapes = {name: value.shape for name, value in trained.model.dense().items()}
    names = changed(trained, Method.of(moving))
    assert names
    assert all(name.split(".")[-2] in {"query", "key", "value", "out", "gate", "up", "down"} for name in names)
    assert all(name.endswith("weight") for name in names)
    assert {name: value.shape for name, value in trained.model.dense().items()} == shapes


@pytest.mark.parametrize("moving", ["lora", "adalora"])
def test_merging_low_rank_changes_leaves_the_scores(moving: str) -> None:
    model = trainer().model.eval()
    attach(model, moving, 2, 100)  # type: ignore[arg-type]
    with torch.no_grad():
        plain = model.scores(ASKED)
        for name, parameter in model.named_parameters():
            if ".lora_" in name:
                parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)) * 0.3)
        attached = model.scores(ASKED)
        merge(model)
        merged = model.scores(ASKED)
    assert not torch.allclose(attached[:, 1:], plain[:, 1:], atol=1e-2)
    torch.testing.assert_close(merged, attached, atol=1e-4, rtol=1e-4)


def test_a_change_of_rank_two_has_rank_two() -> None:
    trained = trainer()
    query = trained.model.blocks[0].attention.query.weight  # type: ignore[union-attr]
    before = query.detach().clone()
    update(trained, Method(moving="lora", rank=2), rings(5), rings(1), 4, 0.5, 32)
    now = trained.model.blocks[0].attention.query.weight  # type: ignore[union-attr]
    assert int(torch.linalg.matrix_rank(now.detach() - before, tol=1e-4)) == 2


def test_bottlenecks_begin_as_nothing_and_are_all_that_moves() -> None:
    plain = SequenceModel(TINY, 13, torch.Generator().manual_seed(0)).eval()
    with_bottleneck = SequenceModel(ModelConfig(dim=16, hidden_factor=2, dropout=0.0, length=8, adapter=4), 13).eval()
    with_bottleneck.load(
        {name: table.numpy() for name, table in plain.tables().items()},
        {name: value.numpy() for name, value in plain.dense().items()},
    )
    with torch.no_grad():
        torch.testing.assert_close(plain.scores(ASKED), with_bottleneck.scores(ASKED))
    trained = trainer(ModelConfig(dim=16, hidden_factor=2, dropout=0.0, length=8, adapter=4))
    names = changed(trained, Method.of("adapter"))
    assert names
    assert all(name.startswith("adapters.") for name in names)
    with pytest.raises(ValueError, match="no bottlenecks"):
        frozen(plain, "adapter")


def test_replay_keeps_old_walks_that_finetuning_alone_forgets() -> None:
    alone, replayed = trainer(), trainer()
    assert hits(alone.model, 1) > 0.9
    update(alone, Method.of("finetune"), rings(5), rings(1), 12, 1.0, 32)
    update(replayed, Method.of("finetune+herding"), rings(5), rings(1), 12, 1.0, 32)
    # after two steps of one or five the direction is plain; both rings can be known
    assert hits(alone.model, 5) > 0.9
    assert hits(replayed.model, 1) > hits(alone.model, 1) + 0.3


@pytest.mark.parametrize("kind", ["replay", "reservoir", "herding", "none"])
def test_only_methods_with_exemplars_see_old_histories(kind: str) -> None:
    trained, seen = trainer(), set()
    step: Callable[..., object] = trained.step

    def watched(batch: HistoryBatch) -> object:
        seen.update(batch.rows_T.tolist())
        return step(batch)

    trained.step = watched  # type: ignore[method-assign, assignment]
    new = HistoryBatch.of_rows(np.array([1, 2] * 8, np.int32), np.full(8, 2, np.int32))
    old = HistoryBatch.of_rows(np.array([5, 6] * 8, np.int32), np.full(8, 2, np.int32))
    update(trained, Method(exemplars=kind, capacity=4), new, old, 1, 1.0, 4)  # type: ignore[arg-type]
    assert (5 in seen) == (kind != "none")


def looked_at(model: SequenceModel) -> tuple[Compared, torch.Tensor]:
    """All rows as candidates after each interaction of ASKED; the states carry a gradient."""
    rows_T = model.known(ASKED.rows_T)
    states_TD = model.encode(model.vectors(model.item_table[rows_T], rows_T), ASKED).detach().requires_grad_()
    vectors_ID, biases_I = model.item_vectors()[1:].detach(), model.item_bias[1:].detach()
    return Compared(ASKED, torch.arange(5), states_TD, torch.arange(1, 13), vectors_ID, biases_I), states_TD


def test_distillation_from_oneself_is_zero_and_pulls_nowhere() -> None:
    teacher, student = trainer().model.eval(), trainer().model.eval()
    distillation = Distillation(copied(teacher), 1.0, torch.Generator().manual_seed(0))
    step, states_TD = looked_at(student)
    loss = distillation(step)
    loss.backward()
    assert loss.item() == pytest.approx(0.0, abs=1e-6)
    assert states_TD.grad is not None
    assert states_TD.grad.abs().max().item() < 1e-6
    student.item_biases.data[3] += 1.0
    assert distillation(looked_at(student)[0]).item() > 1e-3


def test_ewc_pulls_back_by_importance() -> None:
    both = [torch.nn.Parameter(torch.tensor([1.0, 1.0])), torch.nn.Parameter(torch.tensor([0.0]))]
    optimiser = torch.optim.Adam(both, 0.0)
    (both[0] * torch.tensor([2.0, 1.0])).sum().backward()
    (both[1] * 0).sum().backward()
    optimiser.step()
    pull = Consolidation.of(optimiser, both, weight=3.0)
    optimiser.zero_grad()
    both[0].data += 0.5
    loss = pull(looked_at(trainer().model)[0])
    loss.backward()
    # squared gradients 4, 1, 0 over their mean 5/3 are 2.4, 0.6, 0; loss 3/2 * (2.4 + 0.6) / 4
    assert loss.item() == pytest.approx(1.125, rel=1e-4)
    assert both[0].grad is not None
    assert both[0].grad.tolist() == pytest.approx([3.6, 0.9], rel=1e-4)


def test_ewc_keeps_what_was_important_near_the_last_version() -> None:
    def moved(method: Method) -> float:
        trained = trainer()
        assert trained.dense_optimiser
        importance = Consolidation.of(trained.dense_optimiser, trained.dense, 1.0)
        update(trained, method, rings(5), rings(1), 4, 0.0, 32)
        return importance(looked_at(trained.model)[0]).item()

    assert moved(Method(exemplars="none", ewc=100.0)) < 0.5 * moved(Method(exemplars="none"))


def test_herding_shares_the_budget_by_frequency_and_takes_what_keeps_the_mean() -> None:
    states = np.array([[0.0], [2.0], [4.0], [10.0], [7.0], [1.0]])
    targets = np.array([1, 1, 1, 1, 2, 2])
    # half of each item's cases; item 1: mean 4, first 4, then 2; item 2: mean 4, both are 3 away: the first
    assert herd(states, targets, 3).tolist() == [1, 2, 4]


def test_the_dropout_of_an_update_ends_with_it() -> None:
    trained = trainer(ModelConfig(dim=16, hidden_factor=2, dropout=0.25, length=8))
    seen = set()
    trained.after_step = None
    step: Callable[..., object] = trained.step

    def watched(batch: HistoryBatch) -> object:
        seen.add(trained.model.dropout.dropped)
        return step(batch)

    trained.step = watched  # type: ignore[method-assign, assignment]
    update(trained, Method(dropout=0.5), rings(5), rings(1), 1, 0.0, 32)
    assert (seen, trained.model.dropout.dropped) == ({128}, 64)


@pytest.mark.parametrize("name", ["nonsense", "lora+adapter", "replay+herding"])
def test_a_method_that_means_nothing_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"none of|two of a kind"):
        Method.of(name)
