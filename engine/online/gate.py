"""Which weights serve: an anytime-valid comparison of two models on the same outcomes, and what follows from it.

Knows nothing of models or topics: it takes differences of a metric, outcome by outcome, and answers with decisions.
Looking after every outcome does not raise the chance of a false decision. Legend: P outcomes.
"""

import math
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Policy = Literal["cautious", "fresh"]
Stage = Literal["shadow", "canary", "serving"]
Action = Literal["canary", "promote", "reject", "rollback", "advance"]

_LARGEST_BET = 0.5


class ConfidenceSequence:
    """Bounds that hold the mean of all values so far at every moment at once, with probability 1 - level.

    Predictable plug-in empirical Bernstein (Waudby-Smith & Ramdas, JRSS-B 2024, theorem 2), on values in [-1, 1]. The
    values may depend on the past: the bounds then hold for the weighted average of their conditional means.
    """

    def __init__(self, level: float) -> None:
        self.level = level
        self.count = 0
        self._sum = 0.0
        self._squares = 0.0
        self._bets = 0.0
        self._won = 0.0
        self._spent = 0.0

    def update(self, values_P: NDArray[np.float64]) -> None:
        """Takes the next values, in order."""
        scaled_P = (np.asarray(values_P, np.float64) + 1) / 2
        if not len(scaled_P):
            return
        times_P = self.count + np.arange(1, len(scaled_P) + 1)
        sums_P = self._sum + np.cumsum(scaled_P)
        means_P = (0.5 + sums_P) / (times_P + 1)
        before_P = np.append((0.5 + self._sum) / times_P[0], means_P[:-1])
        squares_P = self._squares + np.cumsum((scaled_P - means_P) ** 2)
        squares_before_P = np.append(self._squares, squares_P[:-1])
        variance_P = (0.25 + squares_before_P) / times_P
        bets_P = np.sqrt(2 * math.log(2 / self.level) / (variance_P * times_P * np.log1p(times_P)))
        bets_P = np.minimum(bets_P, _LARGEST_BET)
        self._bets += float(bets_P.sum())
        self._won += float((bets_P * scaled_P).sum())
        self._spent += float(((scaled_P - before_P) ** 2 * (-np.log1p(-bets_P) - bets_P)).sum())
        self.count += len(scaled_P)
        self._sum, self._squares = float(sums_P[-1]), float(squares_P[-1])

    @property
    def mean(self) -> float:
        """Plain mean of the values."""
        return 2 * self._sum / self.count - 1 if self.count else 0.0

    @property
    def bounds(self) -> tuple[float, float]:
        """Lower and upper bound.

        >>> sequence = ConfidenceSequence(0.05)
        >>> sequence.bounds
        (-1.0, 1.0)
        >>> sequence.update(np.full(2000, 0.1))
        >>> [round(bound, 2) for bound in sequence.bounds]
        [0.09, 0.11]
        """
        if not self.count:
            return -1.0, 1.0
        centre = self._won / self._bets
        reach = (math.log(2 / self.level) + self._spent) / self._bets
        return max(2 * (centre - reach) - 1, -1.0), min(2 * (centre + reach) - 1, 1.0)

    def state(self) -> dict[str, float]:
        """All that the next update depends on."""
        return {name.lstrip("_"): value for name, value in vars(self).items()}

    @classmethod
    def of(cls, state: dict[str, float]) -> "ConfidenceSequence":
        """Goes on from a state taken by `state`."""
        sequence = cls(state["level"])
        sequence.count = int(state["count"])
        for name in ("sum", "squares", "bets", "won", "spent"):
            setattr(sequence, f"_{name}", state[name])
        return sequence


@dataclass(frozen=True)
class GateConfig:
    """When the gate decides."""

    policy: Policy = "fresh"
    """`fresh`: the newest weights serve until they are worse than the anchor; `cautious`: once they are better."""
    level: float = 0.05
    """Chance of a false promotion or rollback in one comparison, however often one looks."""
    canary_share: float = 0.1
    """Share of users that a canary serves."""
    horizon: int = 20_000
    """Outcomes after which a comparison without a decision begins anew: an old lead must not hide a new loss."""


@dataclass(frozen=True)
class Decision:
    """What the gate decided, and the figures it did so on."""

    against: str
    """What the learning weights were compared with: `anchor` or `item_knn`."""
    action: Action
    stage: Stage
    """From now on, of the learning weights: shadow serves nobody, canary a share, serving all."""
    share: float
    """Of users served by the learning weights."""
    outcomes: int
    mean: float
    """Of the paired difference, learning weights minus the other, in NDCG@10."""
    low: float
    high: float
    level: float

    def plain(self) -> dict[str, Any]:
        """The decision as plain values."""
        return asdict(self)


@dataclass
class Gate:
    """Compares the learning weights with something known to be good."""

    config: GateConfig
    against: str = "anchor"
    stage: Stage = "serving"
    advances: bool = True
    """Whether being better while serving is worth a decision: it is where the other moves along."""
    frozen: bool = False
    """No decision is taken, by order of a person; the comparison goes on."""
    sequence: ConfidenceSequence = field(init=False)

    def __post_init__(self) -> None:
        if self.config.policy == "cautious" and self.stage == "serving":
            self.stage = "shadow"
        self.sequence = ConfidenceSequence(self.config.level)

    def observe(self, differences_P: NDArray[np.float64]) -> Decision | None:
        """Takes paired differences, learning weights minus the other; answers with a decision when they force one.

        `promote` and `advance` make the learning weights the new anchor; `rollback` and `reject` return to the anchor.
        """
        self.sequence.update(differences_P)
        low, high = self.sequence.bounds
        if not self.frozen and (low > 0 or high < 0):
            action = self._action(better=low > 0)
            if action:
                return self.decide(action)
        if self.sequence.count >= self.config.horizon:
            self.sequence = ConfidenceSequence(self.config.level)
        return None

    def decide(self, action: Action) -> Decision:
        """Carries out an action, the gate's own or a person's, and begins a new comparison."""
        self.stage = "canary" if action == "canary" else "serving" if action in {"promote", "advance"} else "shadow"
        if action == "promote" and self.config.policy == "cautious":
            self.stage = "shadow"  # what was learned up to now serves as the anchor; what comes must prove itself again
        low, high = self.sequence.bounds
        decision = Decision(
            self.against,
            action,
            self.stage,
            self.share,
            self.sequence.count,
            self.sequence.mean,
            low,
            high,
            self.config.level,
        )
        self.sequence = ConfidenceSequence(self.config.level)
        return decision

    @property
    def share(self) -> float:
        """Of users that the learning weights serve."""
        return {"shadow": 0.0, "canary": self.config.canary_share, "serving": 1.0}[self.stage]

    def state(self) -> dict[str, Any]:
        """All that the next decision depends on."""
        return {"stage": self.stage, "frozen": self.frozen, "sequence": self.sequence.state()}

    def restore(self, state: dict[str, Any]) -> None:
        """Goes on from a state taken by `state`."""
        self.stage, self.frozen = state["stage"], state["frozen"]
        self.sequence = ConfidenceSequence.of(state["sequence"])

    def _action(self, *, better: bool) -> Action | None:
        match self.stage, better:
            case "serving", True:
                return "advance" if self.advances else None
            case "serving", False:
                return "rollback"
            case "shadow", True:
                return "canary" if self.config.canary_share else "promote"
            case "canary", True:
                return "promote"
            case "canary", False:
                return "reject"
        return None
