"""Losses over candidates shared by the batch; knows nothing of models or of how candidates were drawn.

Legend: P targets, C candidates, D width.
"""

import math
from dataclasses import dataclass
from typing import Final, Literal

import torch
from torch import Tensor
from torch.nn import functional

Loss = Literal["sampled_softmax", "softmax", "gbce"]
"""`softmax` takes the whole catalogue as candidates; `gbce` is SASRec's loss, calibrated (Petrov & Macdonald 2023)."""

_NEVER: Final = -1e9
_CHUNK_BYTES: Final = 1 << 20
"""Scores of this size stay in a core's second cache."""


@dataclass(frozen=True)
class Comparison:
    """Targets of a batch with the candidates they are compared with."""

    states_PD: Tensor
    """State before each target."""
    positives_P: Tensor
    """Score of each target, bias included."""
    vectors_CD: Tensor
    """Candidate vectors."""
    offsets_C: Tensor
    """Added to a candidate's scores: its bias, and -log q where candidates are sampled."""
    own_P: Tensor
    """Column of the target among the candidates, or -1; that column does not count as a negative."""
    weights_P: Tensor
    """Weight of each target."""


def softmax_loss(compared: Comparison) -> Tensor:
    """Cross-entropy of each target against the candidates, weighted mean over the targets."""
    shares_P = compared.weights_P / compared.weights_P.sum()
    loss: Tensor = _SharedSoftmax.apply(
        compared.states_PD, compared.positives_P, compared.vectors_CD, compared.offsets_C, compared.own_P, shares_P
    )
    return loss


def gbce_loss(compared: Comparison, items: int, calibration: float = 0.75) -> Tensor:
    """Generalised binary cross-entropy (gSASRec, RecSys 2023, equation 8), weighted mean over the targets.

    Args:
        compared: Candidates drawn evenly, so their offsets are their biases alone.
        items: Size of the catalogue, for the sampling rate.
        calibration: 0 is plain binary cross-entropy, 1 wholly undoes the effect of sampling on the probabilities.
    """
    negatives, own_P, weights_P = len(compared.vectors_CD), compared.own_P, compared.weights_P
    rate = min(negatives / max(items - 1, 1), 1.0)
    beta = rate * (calibration * (1 - 1 / rate) + 1 / rate)
    scores_PC = torch.addmm(compared.offsets_C, compared.states_PD, compared.vectors_CD.T)
    held = (own_P >= 0).nonzero().flatten()
    scores_PC = scores_PC.index_put((held, own_P[held]), scores_PC.new_tensor(_NEVER))
    losses_P = functional.softplus(scores_PC).sum(1) - beta * functional.logsigmoid(compared.positives_P)
    return (losses_P * weights_P).sum() / weights_P.sum() / (negatives + 1)


class _SharedSoftmax(torch.autograd.Function):
    """Loss and gradients in one pass over chunks of targets: the (P, C) scores never exist as a whole.

    On a CPU with bf16 tiles (AMX) the products run in bf16, sums in fp32: 12,101 candidates cost 24 us a target.
    """

    @staticmethod
    def forward(  # noqa: PLR0917  # torch passes by position
        ctx: torch.autograd.function.FunctionCtx,
        states_PD: Tensor,
        positives_P: Tensor,
        vectors_CD: Tensor,
        offsets_C: Tensor,
        own_P: Tensor,
        shares_P: Tensor,
    ) -> Tensor:
        kind = _product_type(states_PD.device)
        states, vectors = states_PD.to(kind), vectors_CD.to(kind)
        transposed, offsets = vectors.T.contiguous(), offsets_C.to(kind)
        states_grad, positives_grad = torch.empty_like(states_PD), torch.empty_like(positives_P)
        vectors_grad, offsets_grad = torch.zeros_like(vectors_CD), torch.zeros_like(offsets_C)
        loss = states_PD.new_zeros(())
        chunk = max(_CHUNK_BYTES // (len(vectors) * kind.itemsize), 32)
        for begin in range(0, len(states), chunk):
            part = slice(begin, begin + chunk)
            own, share = own_P[part], shares_P[part]
            scores = torch.addmm(offsets, states[part], transposed)
            held = (own >= 0).nonzero().flatten()
            scores[held, own[held]] = -math.inf
            rest = torch.logsumexp(scores, 1).float()
            odds = positives_P[part] - rest
            loss += (functional.softplus(-odds) * share).sum()
            miss = torch.sigmoid(-odds) * share
            positives_grad[part] = -miss
            torch.softmax(scores, 1, out=scores)
            scores *= miss[:, None].to(kind)
            states_grad[part] = scores @ vectors
            vectors_grad += scores.T @ states[part]
            offsets_grad += scores.sum(0, dtype=torch.float32)
        ctx.save_for_backward(states_grad, positives_grad, vectors_grad, offsets_grad)
        return loss

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, grad: Tensor) -> tuple[Tensor | None, ...]:
        saved: tuple[Tensor, ...] = ctx.saved_tensors  # type: ignore[attr-defined]  # set in forward
        return *(grad * gradient for gradient in saved), None, None


def _product_type(device: torch.device) -> torch.dtype:
    if device.type == "cuda":
        return torch.bfloat16
    return torch.bfloat16 if torch.cpu._is_amx_tile_supported() else torch.float32  # noqa: SLF001  # no public question
