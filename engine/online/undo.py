"""Learning a finite stream: a batch that spoils the weights is taken back, and all others are kept.

Knows nothing of files: it holds a copy of the learner and the batches since.
"""

from typing import Any, Final

from engine.online.examples import Examples
from engine.online.guards import SpoiledError
from engine.online.prequential import OnlineLearner
from engine.online.scored import Scored

_BATCHES: Final = 100
"""Between two copies."""


class Undo:
    """Observes for a learner; nobody else may let it learn meanwhile."""

    def __init__(self, learner: OnlineLearner) -> None:
        self._learner = learner
        self._since: list[Examples] = []
        self._copy: dict[str, Any] = learner.checkpoint()

    def observe(self, examples: Examples) -> Scored | None:
        """Learns a batch; None where it was left out, because it would have spoilt the weights."""
        if len(self._since) >= _BATCHES:
            self._copy, self._since = self._learner.checkpoint(), []
        try:
            scored = self._learner.observe(examples)
        except SpoiledError:
            self._learner.resume(self._copy)
            for before in self._since:
                for decision in self._learner.observe(before).decisions:
                    self._learner.decide(decision)
            return None
        self._since.append(examples)
        return scored
