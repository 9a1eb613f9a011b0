"""The chunked softmax with shared candidates equals cross-entropy by the definition, in value and in all gradients."""

import pytest
import torch
from torch.nn import functional

from engine.network import losses
from engine.network.losses import Comparison, gbce_loss, softmax_loss


@pytest.fixture
def compared() -> Comparison:
    torch.manual_seed(3)
    targets, candidates, dim = 300, 70, 16
    return Comparison(
        states_PD=torch.randn(targets, dim, requires_grad=True),
        positives_P=torch.randn(targets, requires_grad=True),
        vectors_CD=torch.randn(candidates, dim, requires_grad=True),
        offsets_C=(3 * torch.randn(candidates)).requires_grad_(),
        own_P=torch.randint(-1, candidates, (targets,)),
        weights_P=torch.rand(targets),
    )


def by_definition(compared: Comparison) -> torch.Tensor:
    scores = compared.states_PD @ compared.vectors_CD.T + compared.offsets_C
    own = functional.one_hot(compared.own_P + 1, scores.shape[1] + 1)[:, 1:].bool()
    scores = torch.cat([compared.positives_P[:, None], scores.masked_fill(own, -torch.inf)], 1)
    each = functional.cross_entropy(scores, torch.zeros(len(scores), dtype=torch.long), reduction="none")
    return (each * compared.weights_P).sum() / compared.weights_P.sum()


def inputs(compared: Comparison) -> list[torch.Tensor]:
    return [compared.states_PD, compared.positives_P, compared.vectors_CD, compared.offsets_C]


@pytest.mark.parametrize(("kind", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 0.02)])
def test_the_softmax_loss_is_cross_entropy_gradients_too(
    compared: Comparison, kind: torch.dtype, tolerance: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(losses, "_product_type", lambda _: kind)
    ours, expected = softmax_loss(compared), by_definition(compared)
    assert ours.item() == pytest.approx(expected.item(), rel=tolerance)
    for grad, wanted in zip(
        torch.autograd.grad(ours, inputs(compared)), torch.autograd.grad(expected, inputs(compared)), strict=True
    ):
        assert (grad - wanted).norm() <= tolerance * wanted.norm()


def test_gbce_with_no_calibration_is_binary_cross_entropy(compared: Comparison) -> None:
    scores = compared.states_PD @ compared.vectors_CD.T + compared.offsets_C
    own = functional.one_hot(compared.own_P + 1, scores.shape[1] + 1)[:, 1:].bool()
    negatives = functional.binary_cross_entropy_with_logits(
        scores.masked_fill(own, -1e9), torch.zeros_like(scores), reduction="none"
    ).sum(1)
    positives = functional.binary_cross_entropy_with_logits(
        compared.positives_P, torch.ones_like(compared.positives_P), reduction="none"
    )
    each = (negatives + positives) / (scores.shape[1] + 1)
    expected = (each * compared.weights_P).sum() / compared.weights_P.sum()
    assert gbce_loss(compared, items=1000, calibration=0.0).item() == pytest.approx(expected.item(), rel=1e-5)


def test_gbce_fully_calibrated_weighs_the_positive_by_the_sampling_rate(compared: Comparison) -> None:
    candidates, items = len(compared.vectors_CD), 1001
    rate = candidates / (items - 1)
    at = [gbce_loss(compared, items, calibration).item() for calibration in (0.0, 1.0)]
    positives = -(functional.logsigmoid(compared.positives_P) * compared.weights_P).sum() / compared.weights_P.sum()
    assert at[0] - at[1] == pytest.approx((1 - rate) * positives.item() / (candidates + 1), rel=1e-3)
