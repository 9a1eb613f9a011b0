"""Drift: notices that the stream is no longer what was learned, and says for how long to learn faster."""

from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from river.drift import ADWIN

_KEPT = 4000


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
    """Watches the quality of each outcome; only a fall is a drift, since getting better is what learning does."""

    def __init__(self, config: DriftConfig) -> None:
        self.config = config
        self.detections = 0
        self._adwin = ADWIN(delta=config.delta)
        self._values: deque[float] = deque(maxlen=_KEPT)
        self._left = 0

    @property
    def drifting(self) -> bool:
        """Whether a drift was noticed not long ago."""
        return self._left > 0

    def update(self, values_P: NDArray[np.float64]) -> bool:
        """Takes the quality of each outcome of a batch, in order; whether it shows a drift."""
        self._left = max(0, self._left - len(values_P))
        self._values.extend(values_P.tolist())
        fallen = self._feed(values_P)
        if fallen:
            self.detections += 1
            self._left = self.config.outcomes
        return fallen

    def state(self) -> dict[str, NDArray[np.float64]]:
        """The newest values, from which the detector is fed again: it cannot be saved itself."""
        return {"values": np.array(self._values), "left": np.array(float(self._left))}

    def restore(self, state: dict[str, NDArray[np.float64]]) -> None:
        """Goes on from a state taken by `state`."""
        self._adwin = ADWIN(delta=self.config.delta)
        self._values.clear()
        self._values.extend(state["values"].tolist())
        self._feed(state["values"])
        self._left = int(state["left"])

    def _feed(self, values_P: NDArray[np.float64]) -> bool:
        fallen = False
        for value in values_P.tolist():
            before = self._adwin.estimation
            self._adwin.update(value)
            fallen |= bool(self._adwin.drift_detected) and self._adwin.estimation < before
        return fallen
