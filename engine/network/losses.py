"""Losses over candidates shared by the batch; knows nothing of models or of how candidates were drawn.

Legend: P targets, C candidates, D width.
"""

from dataclasses import dataclass
from typing import Final, Literal

import torch
from torch import Tensor
from torch.nn import functional

Loss = Literal["sampled_softmax", "softmax", "gbce"]
"""`softmax` takes the whole catalogue as candidates; `gbce` is SASRec's loss, calibrated (Petrov & Macdonald 2023)."""

_NEVER: Final = -1e9
_CHUNK: Final = 256
"""Targets scored at a time."""
_TAIL: Final = 64
_COLUMNS: Final = 256


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

    Column 0 of the scores is the target's own. Offsets ride in the product as two more dimensions (a bf16 and its
    rest), so adding them and summing their gradient cost no pass of their own. 12,101 candidates cost 13 us
    a target on a core with bf16 tiles (AMX), 25 with AVX-512's bf16, 100 in fp32. Shapes are rounded up: oneDNN takes
    1.2 ms to compile a kernel for a new one.
    """

    @staticmethod
    def forward(  # torch passes by position
        ctx: torch.autograd.function.FunctionCtx,
        states_PD: Tensor,
        positives_P: Tensor,
        vectors_CD: Tensor,
        offsets_C: Tensor,
        own_P: Tensor,
        shares_P: Tensor,
    ) -> Tensor:
        kind = _product_type(states_PD.device)
        targets, candidates, dim = len(states_PD), len(vectors_CD), states_PD.shape[1]
        states = _padded(states_PD, _TAIL, kind)
        states[:, dim : dim + 2] = 1
        vectors = _padded(torch.cat([vectors_CD.new_zeros(1, dim), vectors_CD]), _COLUMNS, kind)
        vectors[candidates + 1 :, dim] = _NEVER
        vectors[1 : candidates + 1, dim] = offsets_C.to(kind)
        vectors[1 : candidates + 1, dim + 1] = (offsets_C - offsets_C.to(kind)).to(kind)
        states_grad, vectors_grad = torch.empty_like(states_PD), torch.zeros_like(vectors, dtype=torch.float32)
        own_chance_P = torch.empty_like(positives_P)
        scores = states.new_empty(min(_CHUNK, len(states)), len(vectors))
        for begin in range(0, targets, _CHUNK):
            part, size = slice(begin, begin + _CHUNK), min(_CHUNK, len(states) - begin)
            real = min(size, targets - begin)
            block, own = scores[:size], own_P[part]
            torch.mm(states[part], vectors.T, out=block)
            held = (own >= 0).nonzero().flatten()
            block[held, own[held] + 1] = _NEVER
            block[:real, 0] = positives_P[part].to(kind)
            torch.softmax(block, 1, out=block)
            own_chance_P[part] = block[:real, 0]
            states_grad[part] = (block @ vectors)[:real, :dim]
            block[:real] *= shares_P[part, None].to(kind)
            block[real:] = 0
            vectors_grad += block.T @ states[part]
        states_grad *= shares_P[:, None]
        offsets_grad = vectors_grad[1 : candidates + 1, dim]
        ctx.save_for_backward(
            states_grad, (own_chance_P - 1) * shares_P, vectors_grad[1 : candidates + 1, :dim], offsets_grad
        )
        return -(own_chance_P.clamp_min(1e-30).log() * shares_P).sum()

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, grad: Tensor) -> tuple[Tensor | None, ...]:
        saved: tuple[Tensor, ...] = ctx.saved_tensors  # type: ignore[attr-defined]  # set in forward
        return *(grad * gradient for gradient in saved), None, None


def _padded(values: Tensor, multiple: int, kind: torch.dtype) -> Tensor:
    rows, dim = values.shape
    padded = values.new_zeros(-(-rows // multiple) * multiple, -(-(dim + 2) // 32) * 32, dtype=kind)
    padded[:rows, :dim] = values
    return padded


def _product_type(device: torch.device) -> torch.dtype:
    if device.type == "cuda":
        return torch.bfloat16
    in_bf16 = torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()  # noqa: SLF001  # no public one
    return torch.bfloat16 if in_bf16 else torch.float32
