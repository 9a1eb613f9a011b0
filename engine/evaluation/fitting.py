"""Training to the end on histories at rest: rounds, a held-out check after each, and the best state kept.

Knows nothing of files; the clock is an argument. Legend: T interactions, B histories.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from engine import metrics
from engine.batch import HistoryBatch
from engine.evaluation.protocols import Cases
from engine.network.model import SequenceModel
from engine.network.training import Trainer

Clock = Callable[[], float]
"""Seconds, such as `time.process_time`."""
_VALIDATION_CASES = 5_000
_BATCH_CASES = 512


@dataclass(frozen=True)
class FitConfig:
    """How long and in what portions."""

    batch: int = 256
    """Histories a step."""
    epochs: int = 100
    patience: int = 3
    """Rounds without a better validation before going back to the best state with a smaller step."""
    reductions: int = 2
    """How often the step is made smaller, by `reduction`, before stopping."""
    reduction: float = 0.2
    seconds: float = 1200.0
    """CPU seconds at most, checks included."""
    finish: float = 2.0
    """Passes over everything at the end, the step falling to zero, where validation had to be held out of training; at
    most a fifth of the steps made."""


@dataclass(frozen=True)
class Round:
    """One entry of a training curve."""

    seconds: float
    steps: int
    loss: float
    ndcg: float
    """Validation NDCG@10, full ranking."""


def fit(trainer: Trainer, histories: HistoryBatch, validation: Cases, config: FitConfig, clock: Clock) -> list[Round]:
    """Trains until validation stops improving or the time is used up, and leaves the best state in the model.

    A round is an epoch, or a twentieth of the time where an epoch takes longer.
    """
    model, generator = trainer.model, trainer.generator
    pieces = split(histories, model.config.length + 1)
    chosen = generator.permutation(len(validation))[:_VALIDATION_CASES]
    validation = validation.part(np.sort(chosen))
    begin, best, reductions, waited = clock(), -1.0, 0, 0
    kept: dict[str, Any] = {}
    rounds: list[Round] = []
    queue = np.empty(0, np.int64)
    total_steps = config.epochs * -(-len(pieces) // config.batch)
    while (spent := clock() - begin) < config.seconds and trainer.steps < total_steps:
        losses = []
        for _ in range(-(-len(pieces) // config.batch)):
            if len(queue) < config.batch:
                queue = np.append(queue, generator.permutation(len(pieces)))
            losses.append(trainer.step(pieces.select(queue[: config.batch])).loss)
            queue = queue[config.batch :]
            if clock() - begin - spent > config.seconds / 20:
                break
        ndcg = float(metrics.ndcg(ranks(model, validation), 10).mean()) if len(validation) else float(len(rounds))
        rounds.append(Round(clock() - begin, trainer.steps, float(np.mean(losses)), ndcg))
        waited += 1
        if ndcg > best:
            best, waited = ndcg, 0
            kept = {name: value.clone() for name, value in model.state_dict().items()}
        if waited >= config.patience:
            if reductions == config.reductions:
                break
            model.load_state_dict(kept)
            trainer.slowdown *= config.reduction
            reductions, waited = reductions + 1, 0
    model.load_state_dict(kept or model.state_dict())
    return rounds


def split(histories: HistoryBatch, length: int) -> HistoryBatch:
    """Histories cut into pieces of at most `length`; a piece begins with the last interaction of the one before.

    So each interaction but a history's first is a target once. Single interactions are dropped.

    >>> split(HistoryBatch.of_rows(np.array([1, 2, 3, 4, 5], np.int32), np.array([4, 1], np.int32)), 3).rows_T.tolist()
    [1, 2, 3, 3, 4]
    """
    stride = length - 1
    pieces_B = -(-(histories.lengths_B - 1).clip(0) // stride)
    place_P = np.arange(int(pieces_B.sum())) - np.repeat(np.cumsum(pieces_B) - pieces_B, pieces_B)
    begins_P = np.repeat(histories.offsets_B, pieces_B) + place_P * stride
    lengths_P = np.minimum(np.repeat(histories.lengths_B, pieces_B) - place_P * stride, length)
    offsets_P = np.cumsum(lengths_P) - lengths_P
    index_T = np.arange(int(lengths_P.sum())) + np.repeat(begins_P - offsets_P, lengths_P)
    return HistoryBatch(
        histories.rows_T[index_T], histories.types_T[index_T], histories.times_T[index_T], lengths_P.astype(np.int32)
    )


def ranks(model: SequenceModel, asked: Cases, *, filter_seen: bool = True) -> NDArray[np.int64]:
    """Rank of each case's target among all items, those of the history left out if wanted."""
    found = []
    model.eval()
    with torch.no_grad():
        items_ID, bias_I = model.item_vectors(), model.item_bias
        for begin in range(0, len(asked), _BATCH_CASES):
            part = asked.part(np.arange(begin, min(begin + _BATCH_CASES, len(asked))))
            scores_BI = torch.addmm(bias_I, model.user_vectors(part.histories), items_ID.T)
            found.append(ranks_of(scores_BI, part, filter_seen=filter_seen))
    return np.concatenate([np.empty(0, np.int64), *found])


def ranks_of(scores_BI: torch.Tensor, asked: Cases, *, filter_seen: bool) -> NDArray[np.int64]:
    """Rank of each target in its row of scores, which are changed: what may not be shown is set to minus infinity.

    A target that was seen is ranked all the same. A score that is no number loses.
    """
    device = scores_BI.device
    targets_B1 = torch.from_numpy(asked.targets_B)[:, None].to(device)
    own_B1 = scores_BI.gather(1, targets_B1)
    mask(scores_BI, asked.histories, filter_seen=filter_seen)
    scores_BI.scatter_(1, targets_B1, own_B1)
    above_B, not_below_B = (_count(compare, scores_BI, own_B1) for compare in (torch.gt, torch.ge))
    ranks_B = metrics.tied_rank(above_B.cpu().numpy(), (not_below_B - above_B - 1).cpu().numpy())
    return np.where(own_B1[:, 0].isfinite().cpu().numpy(), ranks_B, scores_BI.shape[1])


def _count(compare: Callable[..., torch.Tensor], scores_BI: torch.Tensor, own_B1: torch.Tensor) -> torch.Tensor:
    """In how many columns it holds: torch sums truth values on a CPU 13 times as slowly as floats."""
    return compare(scores_BI, own_B1, out=torch.empty_like(scores_BI)).sum(1).long()


def mask(scores_BI: torch.Tensor, histories: HistoryBatch, *, filter_seen: bool) -> None:
    """Sets what may not be shown to minus infinity: row 0, and the items of the history."""
    scores_BI[:, 0] = -torch.inf
    if filter_seen:
        known_T = histories.rows_T < scores_BI.shape[1]
        users_T, rows_T = histories.users_T[known_T], histories.rows_T[known_T].astype(np.int64)
        scores_BI[torch.from_numpy(users_T), torch.from_numpy(rows_T)] = -torch.inf
