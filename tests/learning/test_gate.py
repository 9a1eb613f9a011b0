"""The gate by simulation: looking after every batch keeps its level, and a true gain is found in a stated number."""

import numpy as np
import pytest

from engine.online.gate import ConfidenceSequence, Gate, GateConfig

BATCH = 250


def gains(generator: np.random.Generator, count: int) -> np.ndarray:
    """NDCG@10 of outcomes of which 35 % are among the first ten."""
    hits = 1 / np.log2(generator.integers(0, 10, count) + 2)
    return np.where(generator.random(count) < 0.35, hits, 0)


def differences(generator: np.random.Generator, lift: float) -> np.ndarray:
    """Two models that agree on 80 % of the outcomes; the second finds a share `lift` more of what was missed."""
    first = gains(generator, BATCH)
    second = np.where(generator.random(BATCH) < 0.8, first, gains(generator, BATCH))
    found = (generator.random(BATCH) < lift) & (second == 0)
    return np.where(found, 0.5, second) - first


def test_equal_models_are_told_apart_by_chance_less_often_than_the_level_says() -> None:
    generator, false, runs = np.random.default_rng(0), 0, 300
    for _ in range(runs):
        sequence = ConfidenceSequence(0.05)
        for _ in range(40):
            sequence.update(differences(generator, 0.0))
            low, high = sequence.bounds
            if low > 0 or high < 0:
                false += 1
                break
    assert false / runs <= 0.05


def test_the_bounds_hold_the_true_mean_at_every_look() -> None:
    generator, missed = np.random.default_rng(1), 0
    for _ in range(100):
        sequence, outside = ConfidenceSequence(0.05), False
        for _ in range(40):
            sequence.update(np.where(generator.random(50) < 0.3, 1.0, -0.2))  # mean 0.16
            low, high = sequence.bounds
            outside |= not low <= 0.16 <= high
        missed += outside
    assert missed <= 5


def test_values_taken_one_by_one_or_together_give_the_same_bounds() -> None:
    values = np.random.default_rng(2).uniform(-1, 1, 500)
    together, single = ConfidenceSequence(0.05), ConfidenceSequence(0.05)
    together.update(values)
    for value in values:
        single.update(np.array([value]))
    assert together.bounds == pytest.approx(single.bounds)
    assert together.mean == pytest.approx(values.mean())


def test_a_model_that_finds_two_hundredths_more_is_found_within_25000_outcomes() -> None:
    assert np.median([outcomes_until_better(seed, 0.02) for seed in range(9)]) <= 25_000


def test_a_model_that_finds_a_tenth_more_is_found_within_2000_outcomes() -> None:
    assert np.median([outcomes_until_better(seed, 0.1) for seed in range(9)]) <= 2_000


def outcomes_until_better(seed: int, lift: float) -> int:
    generator, sequence = np.random.default_rng(seed), ConfidenceSequence(0.05)
    while sequence.bounds[0] <= 0 and sequence.count < 100_000:
        sequence.update(differences(generator, lift))
    return sequence.count


def test_fresh_serves_at_once_and_goes_back_when_worse() -> None:
    gate = Gate(GateConfig(policy="fresh"))
    assert gate.stage == "serving"
    decision = gate.observe(np.full(3000, -0.05))
    assert decision
    assert (decision.action, gate.stage, decision.share) == ("rollback", "shadow", 0.0)
    assert decision.high < 0


def test_cautious_goes_from_shadow_over_canary_to_promotion() -> None:
    gate = Gate(GateConfig(policy="cautious", canary_share=0.1))
    steps = []
    for _ in range(2):
        decision = gate.observe(np.full(3000, 0.05))
        assert decision
        steps.append((decision.action, decision.share))
    assert steps == [("canary", 0.1), ("promote", 0.0)]


def test_a_canary_that_is_worse_is_rejected() -> None:
    gate = Gate(GateConfig(policy="cautious"))
    gate.observe(np.full(3000, 0.05))
    decision = gate.observe(np.full(3000, -0.05))
    assert decision
    assert (decision.action, gate.stage) == ("reject", "shadow")


def test_a_frozen_gate_decides_nothing_and_goes_on_comparing() -> None:
    gate = Gate(GateConfig(policy="fresh"), frozen=True)
    assert gate.observe(np.full(3000, -0.05)) is None
    assert gate.sequence.bounds[1] < 0


def test_an_old_lead_does_not_hide_a_new_loss_for_longer_than_the_horizon() -> None:
    gate = Gate(GateConfig(policy="fresh", horizon=1000))
    gate.observe(np.zeros(1000))
    assert gate.sequence.count == 0


def test_a_restored_gate_goes_on_alike() -> None:
    first, second = Gate(GateConfig()), Gate(GateConfig())
    first.observe(np.full(100, -0.01))
    second.restore(first.state())
    for gate in (first, second):
        gate.observe(np.full(10, 0.02))
    assert first.sequence.bounds == second.sequence.bounds
