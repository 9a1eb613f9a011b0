"""Drift: notices that the stream is no longer what was learned, and says for how long to learn faster."""

from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from river.drift import ADWIN

_KEPT = 1000


@dataclass(frozen=True)
class DriftConfig:
    """What is a drift, and what follows."""

    delta: float = 0.002
    """Chance of a false alarm (ADWIN's delta, Bifet & Gavaldà 2007)."""
    rate: float = 2.0
    """The learning rate is multiplied by this while drifting."""
    replayed: float = 0.25
    """And the number of replayed histories by this: the past is what has changed."""
    outcomes: int = 5000
    """So many outcomes long."""


class DriftDetector:
    """Watches the quality of each batch; only a fall is a drift, since getting better is what learning does."""

    def __init__(self, config: DriftConfig) -> None:
        self.config = config
        self.detections = 0
        self._adwin = ADWIN(delta=config.delta, clock=1)
        self._values: deque[float] = deque(maxlen=_KEPT)
        self._left = 0

    @property
    def drifting(self) -> bool:
        """Whether a drift was noticed not long ago."""
        return self._left > 0

    def update(self, quality: float, outcomes: int) -> bool:
        """Takes the mean quality of a batch; whether it shows a drift."""
        self._left = max(0, self._left - outcomes)
        before = self._adwin.estimation
        self._values.append(quality)
        self._adwin.update(quality)
        if not self._adwin.drift_detected or self._adwin.estimation >= before:
            return False
        self.detections += 1
        self._left = self.config.outcomes
        return True

    def state(self) -> dict[str, NDArray[np.float64]]:
        """The newest values, from which the detector is fed again: it cannot be saved itself."""
        return {"values": np.array(self._values), "left": np.array(float(self._left))}

    def restore(self, state: dict[str, NDArray[np.float64]]) -> None:
        """Goes on from a state taken by `state`."""
        self._adwin = ADWIN(delta=self.config.delta, clock=1)
        self._values.clear()
        for value in state["values"].tolist():
            self._values.append(value)
            self._adwin.update(value)
        self._left = int(state["left"])
