"""How an OnlineLearner learns: every constant of it, with its default."""

from dataclasses import dataclass, field

from engine.blending.item_knn import PairConfig
from engine.blending.scoring import ScoringConfig
from engine.network.model import ModelConfig
from engine.network.optimisers import OptimiserConfig
from engine.network.training import TrainingConfig
from engine.online.drift import DriftConfig
from engine.online.gate import GateConfig, Policy
from engine.online.guards import GuardConfig


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
    not_wanted: frozenset[int] = frozenset()
    """Types of interactions that say what a user does not want: context, and never what another item leads to."""
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


def online_config(preset: str, policy: Policy = "fresh", canary_share: float = 0.1, text_dim: int = 0) -> OnlineConfig:
    """The learner's config with a preset of the model (`tiny`, `small`, `base`), the gate's, and the width of texts."""
    model = ModelConfig.preset(preset, text_dim=text_dim)
    return OnlineConfig(model=model, gate=GateConfig(policy=policy, canary_share=canary_share))
