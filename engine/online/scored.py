"""What came of one batch of a prequential learner. Legend: P outcomes."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from engine.online.gate import Decision


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
    before_P: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    """How often each outcome's item had been an outcome before."""
    cold_share: float = 0.0
    """Of the lists of ten: items with fewer than five outcomes so far."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """CPU time by stage."""
