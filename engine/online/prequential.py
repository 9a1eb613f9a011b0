"""Prequential learning: predict, score, then learn, batch by batch; what was scored is what would have been served.

Knows nothing of where examples come from. Legend: T interactions, B histories, P outcomes, I rows, D width, F features.
"""

import time
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.batch import HistoryBatch
from engine.blending.blend import BlendLearner
from engine.blending.item_knn import ItemKnn, PairConfig, neighbour_scores
from engine.blending.popularity import Popularity
from engine.blending.scoring import ITEM_KNN_BLEND, RecommenderModel, ScoringConfig, load_scorer
from engine.evaluation.interactions import Interactions
from engine.metrics import accuracy, means, ndcg, rank_of
from engine.network.model import ModelConfig, SequenceModel
from engine.network.optimisers import OptimiserConfig
from engine.network.training import Trainer, TrainingConfig
from engine.online.drift import DriftConfig, DriftDetector
from engine.online.gate import Decision, Gate, GateConfig, Policy
from engine.online.guards import GuardConfig, LossGuard, OutcomeGuard
from engine.online.replay import Reservoir
from engine.weights import Weights

CONTENDERS = ("model", "sequence", "item_knn", "popularity")
"""What is scored over the same outcomes: the served blend, the sequence model alone, and the two baselines."""
MISSED = np.iinfo(np.int32).max
"""Rank of an outcome that could not be proposed: its item had no row yet."""
_CHUNK = 16
_PARTS = (
    "trainer", "covisits", "successors", "popularity", "blend", "replay", "quality", "guard", "loss_guard", "drift",
)  # fmt: skip


@dataclass(frozen=True)
class OnlineConfig:
    """How an OnlineLearner learns."""

    model: ModelConfig = field(default_factory=ModelConfig)
    training: TrainingConfig = field(
        default_factory=lambda: TrainingConfig(optimiser=OptimiserConfig(learning_rate=2e-3, rows_learning_rate=6e-3))
    )
    scoring: ScoringConfig = field(default_factory=ScoringConfig)
    covisits: PairConfig = field(default_factory=PairConfig)
    successors: PairConfig = field(default_factory=lambda: PairConfig(decay=0.7, both_ways=False, normalise="source"))
    blend_rate: float = 0.05
    replay_capacity: int = 4096
    replayed: int = 32
    """Histories from the replay buffer in each step."""
    steps: int = 1
    """Gradient steps a batch."""
    early: int = 30_000
    """Outcomes up to which a batch gets one step more, when it is no longer than half of `positions`."""
    context_weight: float = 0.5
    """Weight of an earlier interaction of a history, already learned, against a new outcome."""
    positions: int = 4096
    """New interactions in a step at most: with more, each history is cut to its newest ones."""
    window: int = 10_000
    """Newest outcomes that quality is reported over."""
    gate: GateConfig = field(default_factory=GateConfig)
    compared: int = 32
    """Outcomes of each batch, drawn at random, that the anchor is asked about too."""
    settled: int = 2000
    """Outcomes before the first anchor is taken."""
    guard: GuardConfig = field(default_factory=GuardConfig)
    drift: DriftConfig = field(default_factory=DriftConfig)


@dataclass(frozen=True)
class Examples:
    """Histories that end with what the user did next."""

    batch: HistoryBatch
    is_outcome_T: NDArray[np.bool_]
    """Interactions to be predicted, scored and learned now; the others are context."""

    @classmethod
    def of(cls, batch: HistoryBatch, outcomes_B: NDArray[np.int32]) -> "Examples":
        """So many interactions at the end of each history are outcomes."""
        return cls(batch, batch.positions_T >= np.repeat(batch.lengths_B - outcomes_B, batch.lengths_B))


@dataclass(frozen=True)
class Scored:
    """What came of one batch."""

    ranks: Mapping[str, NDArray[np.int64]]
    """Rank of each outcome, by contender, counted from 0; MISSED where it could not be proposed."""
    loss: float
    offered: int
    accepted: int
    """Outcomes that were learned; the others looked made up."""
    decisions: tuple[Decision, ...] = ()
    drift: bool = False
    """Whether this batch showed that the stream has changed."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """CPU time by stage."""


def online_config(preset: str, policy: Policy = "fresh") -> OnlineConfig:
    """The learner's config with a preset of the model (`tiny`, `small`, `base`) and a policy of the gate."""
    return OnlineConfig(model=ModelConfig.preset(preset), gate=GateConfig(policy=policy))


class Quality:
    """Ranks of the newest outcomes, by contender."""

    def __init__(self, window: int) -> None:
        self._window = window
        self._ranks: dict[str, NDArray[np.int64]] = {}

    def add(self, ranks: Mapping[str, NDArray[np.int64]]) -> None:
        """Takes the ranks of a batch; the oldest ones fall out."""
        for name, ranks_P in ranks.items():
            self._ranks[name] = np.append(self._ranks.get(name, np.empty(0, np.int64)), ranks_P)[-self._window :]

    def state(self) -> dict[str, NDArray[np.int64]]:
        """The ranks in the window."""
        return dict(self._ranks)

    def restore(self, state: dict[str, NDArray[np.int64]]) -> None:
        """Goes on from a state taken by `state`."""
        self._ranks = dict(state)

    def report(self) -> dict[str, dict[str, float]]:
        """Mean of each metric by contender."""
        return {name: means(accuracy(ranks_P, (10,))) for name, ranks_P in self._ranks.items()}


class OnlineLearner:
    """Learns item-kNN, popularity, sequence model and their blend from one pass over a stream."""

    def __init__(self, config: OnlineConfig, seed: int = 0) -> None:
        self.config = config
        self.generator = np.random.default_rng(seed)
        drawn = torch.Generator().manual_seed(seed)
        self.model = SequenceModel(config.model, 1, drawn).eval()
        self.trainer = Trainer(self.model, config.training, self.generator)
        neighbours = config.scoring.neighbours
        self.covisits, self.successors = ItemKnn(config.covisits, neighbours), ItemKnn(config.successors, neighbours)
        self.popularity = Popularity()
        self.blend = BlendLearner(config.blend_rate)
        self.scorer = RecommenderModel(self.model, config.scoring).eval()
        """What serves right now."""
        self.scorer.blend = self.blend.blend_F
        self.replay = Reservoir(config.replay_capacity, config.model.length + 1)
        self.quality = Quality(config.window)
        self.outcomes = 0
        self.guard, self.loss_guard = OutcomeGuard(config.guard), LossGuard(config.guard)
        self.drift = DriftDetector(config.drift)
        self.gate = Gate(config.gate)
        self.floor = Gate(replace(config.gate, policy="fresh", canary_share=0.0), against="item_knn", advances=False)
        self.anchor: Anchor | None = None
        self._touched: list[NDArray[np.int64]] = []

    def grow(self, rows: int) -> None:
        """Makes room for rows up to `rows - 1`: they can be proposed from now on."""
        if rows > self.model.rows:
            self._touched.append(np.arange(self.model.rows, rows))
            self.model.grow(rows)
            self.covisits.grow(rows)
            self.successors.grow(rows)
            self._refer()

    def observe(self, examples: Examples) -> Scored:
        """Predicts the outcomes, scores the predictions, then learns from them.

        Raises:
            SpoiledError: The step has spoilt the weights; restore the last good state and leave this batch out.
        """
        begun = time.process_time()
        offered = int(examples.is_outcome_T.sum())
        examples = Examples(examples.batch, self.guard.accept(examples.batch, examples.is_outcome_T))
        accepted = int(examples.is_outcome_T.sum())
        ranks, decisions, drift = self._score(examples) if accepted else ({}, (), False)
        scored = time.process_time()
        loss = self._learn(examples)
        self.outcomes += accepted
        if self.anchor is None and self.outcomes >= self.config.settled:
            self.anchor = Anchor.of(self)
        seconds = {"score": scored - begun, "learn": time.process_time() - scored}
        return Scored(ranks, loss, offered, accepted, decisions, drift, seconds)

    def decide(self, decision: Decision) -> None:
        """Lets a decision take effect: a new anchor, or back to the old one, with all that was learned since undone."""
        if decision.against == "item_knn" or decision.action in {"canary", "reject"}:
            return
        if decision.action == "rollback" and self.anchor:
            self.restore(deepcopy(self.anchor.state))
        else:
            self.anchor = Anchor.of(self)

    @property
    def served(self) -> Weights:
        """What users get: the learning weights, or what the gate holds to be better."""
        if self.gate.stage != "serving" and self.anchor:
            return self.anchor.scorer.weights()
        weights = self.weights()
        if self.floor.stage == "serving":
            return weights
        return replace(weights, dense={**weights.dense, "blend": np.array(ITEM_KNN_BLEND, np.float32)})

    def weights(self) -> Weights:
        """All that a server needs, as of now; the arrays are the learner's own."""
        return self.scorer.weights()

    def take_touched(self) -> NDArray[np.int64]:
        """Rows that changed since the last call."""
        touched, self._touched = self._touched, []
        return np.unique(np.concatenate(touched)) if touched else np.empty(0, np.int64)

    def state(self) -> dict[str, Any]:
        """All that the next batch depends on; plain values, arrays and tensors."""
        return {
            "rows": self.model.rows,
            "model": {name: value.clone() for name, value in (self.model.tables() | self.model.dense()).items()},
            **{name: getattr(self, name).state() for name in _PARTS},
            "outcomes": self.outcomes,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Goes on from a state taken by `state` of a learner of the same config."""
        self.model.grow(state["rows"])
        for name, value in self.model.tables().items():
            value[: state["rows"]].copy_(state["model"][name])
        for name, value in self.model.dense().items():
            value.copy_(state["model"][name])
        for name in _PARTS:
            getattr(self, name).restore(state[name])
        self.covisits.grow(self.model.rows)
        self.successors.grow(self.model.rows)
        self.outcomes = state["outcomes"]
        self.scorer.blend = self.blend.blend_F
        self._touched = [np.arange(self.model.rows)]
        self._refer()

    def checkpoint(self) -> dict[str, Any]:
        """The state with gates and anchor: all from which a learner of the same config goes on as if never stopped."""
        gates = {"gate": self.gate.state(), "floor": self.floor.state()}
        return {"state": self.state(), **gates, "anchor": self.anchor.state if self.anchor else None}

    def resume(self, checkpoint: dict[str, Any]) -> None:
        """Goes on from what `checkpoint` returned."""
        if checkpoint["anchor"]:
            self.restore(checkpoint["anchor"])
            self.anchor = Anchor(load_scorer(self.weights()), checkpoint["anchor"])
        self.restore(checkpoint["state"])
        self.gate.restore(checkpoint["gate"])
        self.floor.restore(checkpoint["floor"])

    def _refer(self) -> None:
        """Lets the scorer read the learner's own arrays."""
        scorer, rows = self.scorer, self.model.rows
        scorer.neighbour_rows = torch.from_numpy(self.covisits.neighbour_rows)
        scorer.neighbour_weights = torch.from_numpy(self.covisits.neighbour_weights)
        scorer.successor_rows = torch.from_numpy(self.successors.neighbour_rows)
        scorer.successor_weights = torch.from_numpy(self.successors.neighbour_weights)
        scorer.popularity = torch.from_numpy(self.popularity.counts(rows))

    def _score(self, examples: Examples) -> tuple[dict[str, NDArray[np.int64]], tuple[Decision, ...], bool]:
        places_P = np.flatnonzero(examples.is_outcome_T)
        rows_P = examples.batch.rows_T[places_P].astype(np.int64)
        targets_P = np.where(rows_P < self.model.rows, rows_P, 0)
        before = histories_before(examples.batch, places_P, self.config.model.length)
        with torch.inference_mode():
            states_PD = states_before(self.model, examples.batch, places_P)
            features = self.scorer.features(before, states_PD)
            scores_PI = features.scores(self.scorer.blend)
        covisits_PI = neighbour_scores(before, self.covisits.neighbour_rows, self.covisits.neighbour_weights)
        popularity_PI = np.broadcast_to(self.popularity.counts(self.model.rows), covisits_PI.shape)
        contenders = (scores_PI.numpy(), features.model_BI.numpy(), covisits_PI, popularity_PI)
        ranks = {
            name: np.where(targets_P > 0, rank_of(given_PI, targets_P), MISSED)
            for name, given_PI in zip(CONTENDERS, contenders, strict=True)
        }
        self.blend.update(features, scores_PI, torch.from_numpy(targets_P))
        self.quality.add(ranks)
        gains_P = ndcg(ranks["model"], 10)
        decisions = (
            self.floor.observe(gains_P - ndcg(ranks["item_knn"], 10)),
            self._compare(before, rows_P, gains_P) if self.anchor else None,
        )
        drift = self.drift.update(gains_P)
        return ranks, tuple(decision for decision in decisions if decision), drift

    def _compare(
        self, before: HistoryBatch, rows_P: NDArray[np.int64], gains_P: NDArray[np.float64]
    ) -> Decision | None:
        assert self.anchor
        drawn = np.sort(self.generator.permutation(len(rows_P))[: self.config.compared])
        scores_BI = self.anchor.scorer.scores(before.select(drawn)).numpy()
        targets_B = np.where(rows_P[drawn] < scores_BI.shape[1], rows_P[drawn], 0)
        ranks_B = np.where(targets_B > 0, rank_of(scores_BI, targets_B), MISSED)
        return self.gate.observe(gains_P[drawn] - ndcg(ranks_B, 10))

    def _learn(self, examples: Examples) -> float:
        batch, is_outcome_T = examples.batch, examples.is_outcome_T
        self.grow(int(batch.rows_T.max(initial=0)) + 1)
        self.popularity.update(batch.rows_T[is_outcome_T])
        self._touched += [
            np.unique(batch.rows_T[is_outcome_T]).astype(np.int64),
            self.covisits.update(batch, is_outcome_T),
            self.successors.update(batch, is_outcome_T),
        ]
        self._adapt()
        weights_T = np.where(is_outcome_T, 1.0, self.config.context_weight).astype(np.float32)
        longest = self.config.model.length + 1
        early = self.outcomes < self.config.early and 2 * len(batch.rows_T) <= self.config.positions
        steps = self.config.steps + early
        fitting = min(longest, max(2, self.config.positions // max(len(batch), 1)))
        kept_T = batch.positions_T >= np.repeat(batch.lengths_B - fitting, batch.lengths_B)
        fresh, fresh_weights_T = batch.take(kept_T), weights_T[kept_T]
        replayed = self.config.replayed * (self.drift.config.replayed if self.drift.drifting else 1)
        loss = 0.0
        for _ in range(steps):
            old = self.replay.sample(int(replayed), self.generator)
            step = self.trainer.step(
                joined(fresh, old),
                np.append(fresh_weights_T, np.full(len(old.rows_T), self.config.context_weight, np.float32)),
            )
            loss = step.loss
            self.loss_guard.check(loss)
            self._touched.append(step.rows_U)
        self.replay.add(batch.last(longest), self.generator)
        self._refer()
        return loss

    def _adapt(self) -> None:
        """Sets the learning rates: faster for a while after a drift."""
        optimiser = self.config.training.optimiser
        factor = self.drift.config.rate if self.drift.drifting else 1.0
        rate = optimiser.learning_rate * factor
        rows_rate = (optimiser.rows_learning_rate or optimiser.learning_rate) * factor
        self.trainer.config = replace(self.config.training, optimiser=replace(optimiser, learning_rate=rate))
        self.trainer.table_rows.learning_rate = self.trainer.bias_rows.learning_rate = rows_rate


@dataclass(frozen=True)
class Anchor:
    """Weights that are known to be good, to serve and to go back to."""

    scorer: RecommenderModel
    state: dict[str, Any]

    @classmethod
    def of(cls, learner: OnlineLearner) -> "Anchor":
        """The learner as it is now."""
        return cls(load_scorer(learner.weights()), deepcopy(learner.state()))


def joined(first: HistoryBatch, second: HistoryBatch) -> HistoryBatch:
    """Both batches as one."""
    return HistoryBatch(
        np.append(first.rows_T, second.rows_T),
        np.append(first.types_T, second.types_T),
        np.append(first.times_T, second.times_T),
        np.append(first.lengths_B, second.lengths_B),
    )


def histories_before(batch: HistoryBatch, places_P: NDArray[np.int64], length: int) -> HistoryBatch:
    """What came before each of these interactions in its history, the newest `length` of it.

    >>> batch = HistoryBatch.of_rows(np.array([5, 6, 7, 9], np.int32), np.array([3, 1], np.int32))
    >>> before = histories_before(batch, np.array([1, 2, 3]), 1)
    >>> before.rows_T.tolist(), before.lengths_B.tolist()
    ([5, 6], [1, 1, 0])
    """
    begins_P = np.maximum(places_P - batch.positions_T[places_P], places_P - length)
    return _cut(batch, begins_P, places_P)


def states_before(model: SequenceModel, batch: HistoryBatch, places_P: NDArray[np.int64]) -> Tensor:
    """The model's state before each of these interactions, zeros where it is the first, (P, D).

    Up to 16 interactions of one history share a pass: it costs a tenth. In a history longer than `length` the earlier
    ones then see up to 15 interactions less.

    Args:
        model: In evaluation mode.
        batch: The histories.
        places_P: Places in T, rising.
    """
    users_P = batch.users_T[places_P]
    _, first_P = np.unique(users_P, return_index=True)
    rank_P = np.arange(len(places_P)) - np.repeat(first_P, np.diff(np.append(first_P, len(places_P))))
    ends_G = np.flatnonzero(np.append((np.diff(users_P) != 0) | (rank_P[1:] % _CHUNK == 0), True))
    group_P = np.repeat(np.arange(len(ends_G)), np.diff(ends_G, prepend=-1))
    last_G = places_P[ends_G]
    begins_G = np.maximum(last_G - batch.positions_T[last_G], last_G - model.config.length)
    windows = _cut(batch, begins_G, last_G)
    states_PD = model.item_table.new_zeros(len(places_P), model.config.dim)
    if not len(windows.rows_T):
        return states_PD
    rows_T = torch.from_numpy(np.where(windows.rows_T < model.rows, windows.rows_T, 0).astype(np.int64))
    states_TD = model.encode(model.vectors(model.item_table[rows_T], rows_T), windows)
    held_P = np.flatnonzero(batch.positions_T[places_P] > 0)
    at_P = (windows.offsets_B[group_P] + places_P - 1 - begins_G[group_P])[held_P]
    return states_PD.index_copy(0, torch.from_numpy(held_P), states_TD[torch.from_numpy(at_P)])


def _cut(batch: HistoryBatch, begins: NDArray[np.int64], ends: NDArray[np.int64]) -> HistoryBatch:
    lengths = (ends - begins).astype(np.int32)
    starts = np.cumsum(lengths, dtype=np.int64) - lengths
    index = np.arange(int(lengths.sum())) + np.repeat(begins - starts, lengths)
    return HistoryBatch(batch.rows_T[index], batch.types_T[index], batch.times_T[index], lengths)


def prequential_run(
    interactions: Interactions, config: OnlineConfig, micro_batch: int = 256, every: int = 10_000, seed: int = 0
) -> dict[str, Any]:
    """Runs a learner over a stream and reports quality on the way.

    Returns:
        `quality`: last window by contender and metric; `curve`: the same NDCG@10 every `every` interactions;
        `ranks`: those of the last window by contender; `seconds`: CPU time by stage; `events`.
    """
    learner = OnlineLearner(config, seed)
    histories: dict[int, list[int]] = {}
    curve, seconds = [], {"score": 0.0, "learn": 0.0}
    total = len(interactions.rows_N)
    for begin in range(0, total, micro_batch):
        end = min(begin + micro_batch, total)
        scored = learner.observe(_next_examples(interactions, range(begin, end), histories, config.model.length))
        for stage, spent in scored.seconds.items():
            seconds[stage] += spent
        if end // every > begin // every or end == total:
            report = learner.quality.report()
            curve.append({"events": end, **{name: values["ndcg@10"] for name, values in report.items()}})
    return {
        "quality": learner.quality.report(),
        "ranks": learner.quality.state(),
        "curve": curve,
        "seconds": seconds,
        "events": total,
    }


def _next_examples(interactions: Interactions, places: range, histories: dict[int, list[int]], length: int) -> Examples:
    """One history a user of the batch, as indices into the stream, and its growth."""
    new: dict[int, int] = {}
    for place, user in zip(places, interactions.users_N[places.start : places.stop].tolist(), strict=True):
        histories.setdefault(user, []).append(place)
        new[user] = new.get(user, 0) + 1
    parts = []
    for user, count in new.items():
        histories[user] = histories[user][-(length + count) :]
        parts.append(np.array(histories[user]))
    index = np.concatenate(parts)
    batch = HistoryBatch(
        interactions.rows_N[index],
        interactions.types_N[index],
        interactions.times_N[index],
        np.array([len(part) for part in parts], np.int32),
    )
    return Examples.of(batch, np.array(list(new.values()), np.int32))
