"""Row optimisers move the touched rows as torch's optimisers would, and no other row."""

import pytest
import torch

from engine.network.optimisers import OptimiserConfig, OptimiserName, RowOptimiser, dense_optimiser


@pytest.mark.parametrize("l2", [0.0, 0.1])
@pytest.mark.parametrize("name", ["sgd", "momentum", "rmsprop", "adam", "adamw"])
def test_rows_that_every_step_touches_follow_the_optimiser_of_that_name(name: OptimiserName, l2: float) -> None:
    torch.manual_seed(1)
    table, rows = torch.randn(6, 4), torch.tensor([1, 4, 5])
    reference = table[rows].clone().requires_grad_()
    others = table[[0, 2, 3]].clone()
    ours = RowOptimiser(name, 0.05, l2)
    theirs = dense_optimiser(OptimiserConfig(name, learning_rate=0.05, l2=l2), [reference])
    for _ in range(5):
        grad = torch.randn(3, 4)
        ours.update(table, rows, grad)
        reference.grad = grad
        theirs.step()
    torch.testing.assert_close(table[rows], reference.detach())
    assert torch.equal(table[[0, 2, 3]], others)


def test_row_wise_adagrad_keeps_one_sum_a_row() -> None:
    table, ours = torch.zeros(3, 2), RowOptimiser("adagrad", 1.0)
    ours.update(table, torch.tensor([2]), torch.tensor([[3.0, 1.0]]))
    # mean of squares (9 + 1) / 2 = 5
    torch.testing.assert_close(table[2], -torch.tensor([3.0, 1.0]) / 5**0.5)
    assert ours.state["squares"].tolist() == [0.0, 0.0, 5.0]


def test_the_dense_adagrad_is_torchs() -> None:
    value = torch.zeros(2, requires_grad=True)
    optimiser = dense_optimiser(OptimiserConfig("adagrad", learning_rate=0.5), [value])
    value.grad = torch.tensor([4.0, 0.0])
    optimiser.step()
    torch.testing.assert_close(value.detach(), torch.tensor([-0.5, 0.0]))


def test_a_row_first_seen_late_takes_a_first_step() -> None:
    table, ours = torch.zeros(3), RowOptimiser("adam", 0.1)
    for _ in range(100):
        ours.update(table, torch.tensor([1]), torch.tensor([1.0]))
    ours.update(table, torch.tensor([2]), torch.tensor([1.0]))
    assert table[2].item() == pytest.approx(-0.1)
