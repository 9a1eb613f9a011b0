"""Prequential learning: predict, score, then learn, batch by batch; what was scored is what would have been served.

Knows nothing of where examples come from. Legend: T interactions, B histories, P outcomes, I rows, D width, F features.
"""

import time
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from engine.batch import HistoryBatch, joined
from engine.blending.blend import BlendLearner
from engine.blending.item_knn import ItemKnn
from engine.blending.popularity import Popularity
from engine.blending.scoring import ITEM_KNN_BLEND, TABLES, RecommenderModel, load_scorer
from engine.generations import TouchedRows
from engine.metrics import cold_share, ndcg
from engine.network.model import SequenceModel
from engine.network.training import Trainer
from engine.online.anchor import Anchor
from engine.online.checkpoint import Apart
from engine.online.config import OnlineConfig
from engine.online.drift import DriftDetector
from engine.online.examples import Examples, histories_before, states_before
from engine.online.gate import Decision, Gate
from engine.online.guards import LossGuard, OutcomeGuard
from engine.online.newcomers import Newcomers, awaken
from engine.online.predictions import Asked, Predictions, most_places, predict
from engine.online.quality import Quality
from engine.online.replay import Reservoir
from engine.online.scored import Scored
from engine.weights import Weights

_VECTORS, _NEIGHBOURS, _SUCCESSORS = (
    ("item_vectors", "item_bias"), ("neighbour_rows", "neighbour_weights"), ("successor_rows", "successor_weights"),
)  # fmt: skip
_ALL = (*_VECTORS, *TABLES)
_SAME = 0.01
"""Text vectors of length one that are nearer than this are of one text."""
_PARTS = (
    "trainer", "covisits", "successors", "popularity", "blend", "newcomers", "replay", "quality", "guard", "loss_guard",
    "drift",
)  # fmt: skip


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
        self.newcomers = Newcomers()
        self.replay = Reservoir(config.replay_capacity, config.model.length + 1)
        self.quality = Quality(config.window)
        self.outcomes = 0
        self.guard, self.loss_guard = OutcomeGuard(config.guard), LossGuard(config.guard)
        self.drift = DriftDetector(config.drift)
        self.gate = Gate(config.gate)
        self.floor = Gate(replace(config.gate, policy="fresh", canary_share=0.0), against="item_knn", advances=False)
        self.anchor: Anchor | None = None
        self._touched = TouchedRows()

    def grow(self, rows: int) -> None:
        """Makes room for rows up to `rows - 1`: they can be proposed from now on."""
        if rows > self.model.rows:
            self._touched.add(np.arange(self.model.rows, rows), _ALL)
            self.model.grow(rows)
            self.covisits.grow(rows)
            self.successors.grow(rows)
            self._refer()

    def describe(self, rows_U: NDArray[np.int64], texts_UF: NDArray[np.float16]) -> None:
        """Takes what items say of themselves, an item that nobody has touched yet included: it can be proposed at once.

        Nothing of it is in a checkpoint: whoever goes on from one describes the items again.
        """
        if not len(rows_U):
            return
        self.grow(int(rows_U.max()) + 1)
        own_UF = torch.nn.functional.normalize(self.model.text_vectors[torch.from_numpy(rows_U)].float()).numpy()
        changed_U = np.abs(own_UF - texts_UF).max(1) > _SAME
        rows_U, texts_UF = rows_U[changed_U], texts_UF[changed_U]  # a new price is no new text
        self.model.describe(rows_U, texts_UF)
        self.model.cold_I[rows_U] = self._untouched(rows_U)
        self._settle_newcomers(rows_U[self.model.cold_I[rows_U]])
        self._touched.add(rows_U, _VECTORS)

    def observe(self, examples: Examples) -> Scored:
        """Predicts the outcomes, scores the predictions, then learns from them.

        Raises:
            SpoiledError: The step has spoilt the weights; restore the last good state and leave this batch out.
        """
        begun = time.process_time()
        offered = int(examples.is_outcome_T.sum())
        examples = examples.accept(self.guard.accept(examples.batch, examples.is_outcome_T))
        accepted = int(examples.is_outcome_T.sum())
        found = self._score(examples) if accepted else Scored({}, 0.0, 0, 0)
        scored = time.process_time()
        loss = self._learn(examples)
        self.outcomes += accepted
        if self.anchor is None and self.outcomes >= self.config.settled:
            self.anchor = Anchor.of(self)
        seconds = {"score": scored - begun, "learn": time.process_time() - scored}
        return replace(found, loss=loss, offered=offered, accepted=accepted, seconds=seconds)

    def decide(self, decision: Decision) -> None:
        """Lets a decision take effect: a new anchor, or back to the old one, with all that was learned since undone."""
        if decision.against == "item_knn" or decision.action in {"canary", "reject"}:
            return
        if decision.action == "rollback":
            if self.anchor:
                self.restore(self.anchor.state.value)
        else:
            self.anchor = Anchor.of(self)

    @property
    def served(self) -> Weights:
        """What users get: the learning weights, or what the gate holds to be better."""
        if self.gate.stage != "serving" and self.anchor:
            return self.anchor.scorer.weights()
        return self.challenger

    @property
    def challenger(self) -> Weights:
        """What a canary serves: the learning weights, blended so that they are not below item-kNN."""
        weights = self.weights()
        if self.floor.stage == "serving":
            return weights
        return replace(weights, dense={**weights.dense, "blend": np.array(ITEM_KNN_BLEND, np.float32)})

    def weights(self) -> Weights:
        """All that a server needs, as of now; the arrays are the learner's own."""
        return self.scorer.weights()

    def take_touched(self) -> TouchedRows:
        """Rows that changed since the last call."""
        touched, self._touched = self._touched, TouchedRows()
        return touched

    def state(self) -> dict[str, Any]:
        """A copy of all that the next batch depends on; plain values, arrays and tensors."""
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
        cold_I = self._untouched(np.arange(self.model.rows))
        self.model.stretch(np.flatnonzero(self.model.cold_I[: self.model.rows] & ~cold_I), 1.0)
        self.model.cold_I[: self.model.rows] = cold_I
        self._settle_newcomers(np.flatnonzero(cold_I))
        self._touched.add(np.arange(self.model.rows), _ALL)
        self._refer()

    def checkpoint(self) -> dict[str, Any]:
        """The state with gates and anchor: all from which a learner of the same config goes on as if never stopped.

        Nothing of it changes while the learner goes on, so that it may be written meanwhile.
        """
        gates = {"gate": self.gate.state(), "floor": self.floor.state()}
        return {"state": self.state(), **gates, "anchor": self.anchor.state if self.anchor else None}

    def resume(self, checkpoint: dict[str, Any]) -> None:
        """Goes on from what `checkpoint` returned."""
        self.anchor = None
        if anchor := checkpoint["anchor"]:
            anchor = anchor if isinstance(anchor, Apart) else Apart(anchor)  # older releases kept it with the state
            self.restore(anchor.value)
            self.anchor = Anchor(load_scorer(self.weights()), anchor)
        self.restore(checkpoint["state"])
        self.gate.restore(checkpoint["gate"])
        self.floor.restore(checkpoint["floor"])

    def _untouched(self, rows_U: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which of these rows have text and were never an outcome."""
        described_U = self.model.text_vectors[torch.from_numpy(rows_U)].any(1).numpy()
        untouched_U: NDArray[np.bool_] = described_U & (self.popularity.counts(self.model.rows)[rows_U] == 0)
        return untouched_U

    def _refer(self) -> None:
        """Lets the scorer read the learner's own arrays."""
        scorer, rows = self.scorer, self.model.rows
        scorer.neighbour_rows = torch.from_numpy(self.covisits.neighbour_rows)
        scorer.neighbour_weights = torch.from_numpy(self.covisits.neighbour_weights)
        scorer.successor_rows = torch.from_numpy(self.successors.neighbour_rows)
        scorer.successor_weights = torch.from_numpy(self.successors.neighbour_weights)
        scorer.popularity = torch.from_numpy(self.popularity.counts(rows))

    def _score(self, examples: Examples) -> Scored:
        places_P = np.flatnonzero(examples.is_outcome_T)
        rows_P = examples.batch.rows_T[places_P].astype(np.int64)
        before = histories_before(examples.batch, places_P, self.config.model.length)
        with torch.inference_mode():
            states_PD = states_before(self.model, examples.batch, places_P)
        asked = Asked(before, states_PD, np.where(rows_P < self.model.rows, rows_P, 0))
        predicted = self._predicted(asked)
        self.quality.add(predicted.ranks)
        gains_P = ndcg(predicted.ranks["model"], 10)
        decisions = (
            self.floor.observe(gains_P - ndcg(predicted.ranks["item_knn"], 10)),
            self._compare(before, rows_P, gains_P) if self.anchor else None,
        )
        counts_I = self.popularity.counts(self.model.rows).astype(np.float64)
        return Scored(
            predicted.ranks,
            loss=0.0,
            offered=0,
            accepted=0,
            decisions=tuple(decision for decision in decisions if decision),
            drift=self.drift.update(gains_P),
            before_P=counts_I[asked.targets_P],
            cold_share=cold_share(predicted.shown_I, counts_I),
        )

    def _predicted(self, asked: Asked) -> Predictions:
        """Predicts, and lets the blend and what cold items are worth learn from it."""
        model, targets_P, generator = self.model, asked.targets_P, self.generator
        with_text, drawn_A = self.config.model.text_dim > 0, np.empty(0, np.int64)
        if with_text:
            drawn_A = self.newcomers.ask(asked.before, targets_P, most_places(model.rows), generator)
        predicted = predict(self.scorer, asked, self.popularity.counts(model.rows), drawn_A)
        self.blend.take(predicted.step)
        if with_text:
            cold_U = np.flatnonzero(model.cold_I[: model.rows])
            expected_I = predicted.step.expected_I.double().numpy()
            self.newcomers.expect(cold_U, expected_I[cold_U] * np.count_nonzero(targets_P))
            with torch.inference_mode():
                states_AD = asked.states_PD[torch.from_numpy(drawn_A)]
                self.newcomers.learn(model, states_AD, predicted.scores_AI, targets_P[drawn_A], generator)
            self._settle_newcomers(cold_U)
        return predicted

    def _settle_newcomers(self, rows_U: NDArray[np.int64]) -> None:
        self._touched.add(self.newcomers.settle(self.model, rows_U, float(self.blend.blend_F[0])), _VECTORS)

    def _compare(
        self, before: HistoryBatch, rows_P: NDArray[np.int64], gains_P: NDArray[np.float64]
    ) -> Decision | None:
        assert self.anchor
        drawn = np.sort(self.generator.permutation(len(rows_P))[: self.config.compared])
        ranks = self.anchor.ranks(before.select(drawn), rows_P[drawn])
        return self.gate.observe(gains_P[drawn] - ndcg(ranks, 10))

    def _learn(self, examples: Examples) -> float:
        batch, is_outcome_T = examples.batch, examples.is_outcome_T
        self.grow(int(batch.rows_T.max(initial=0)) + 1)
        awoken_U = np.unique(batch.rows_T[self.model.cold_I[batch.rows_T]]).astype(np.int64)
        awaken(self.model, awoken_U)
        outcomes_P = batch.rows_T[is_outcome_T]
        self.popularity.update(outcomes_P)
        self._touched.add(awoken_U, _VECTORS)
        self._touched.add(outcomes_P, ["popularity"])
        wanted_T = self._wanted(batch)
        paired = examples.of_wanted(wanted_T)
        self._touched.add(self.covisits.update(paired, is_outcome_T), _NEIGHBOURS)
        self._touched.add(self.successors.update(paired, is_outcome_T), _SUCCESSORS)
        self._adapt()
        weights_T = (np.where(is_outcome_T, 1.0, self.config.context_weight) * wanted_T).astype(np.float32)
        longest = self.config.model.length + 1
        early = self.outcomes < self.config.early and 2 * len(batch.rows_T) <= self.config.positions
        steps = self.config.steps + early
        fitting = min(longest, max(2, self.config.positions // max(len(batch), 1)))
        kept_T = batch.positions_T >= np.repeat(batch.lengths_B - fitting, batch.lengths_B)
        fresh, fresh_weights_T, choices = batch.take(kept_T), weights_T[kept_T], examples.choices.take(kept_T)
        replayed = self.config.replayed * (self.drift.config.replayed if self.drift.drifting else 1)
        loss = 0.0
        for _ in range(steps):
            old = self.replay.sample(int(replayed), self.generator)
            step = self.trainer.step(
                joined([fresh, old]),
                np.append(fresh_weights_T, np.float32(self.config.context_weight) * self._wanted(old)),
                choices,
            )
            loss = step.loss
            self.loss_guard.check(loss)
            self._touched.add(step.rows_U, _VECTORS)
        self.replay.add(batch.last(longest), self.generator)
        self._refer()
        return loss

    def _wanted(self, batch: HistoryBatch) -> NDArray[np.bool_]:
        return ~np.isin(batch.types_T, list(self.config.not_wanted))

    def _adapt(self) -> None:
        """Sets the learning rates: faster for a while after a drift."""
        optimiser = self.config.training.optimiser
        factor = self.drift.config.rate if self.drift.drifting else 1.0
        rate = optimiser.learning_rate * factor
        rows_rate = (optimiser.rows_learning_rate or optimiser.learning_rate) * factor
        self.trainer.config = replace(self.config.training, optimiser=replace(optimiser, learning_rate=rate))
        self.trainer.table_rows.learning_rate = self.trainer.bias_rows.learning_rate = rows_rate
