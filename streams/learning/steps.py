"""batches -> one step of learning each: what goes wrong in it is told from what is wrong with its records.

A batch that spoils the weights is left out. One on which learning fails otherwise comes again record by record, and
what fails alone is left out. Three records that fail alone in a row are not to blame: then the learner stops.
"""

from typing import Final

import structlog

from engine.online.guards import SpoiledError
from engine.online.prequential import OnlineLearner
from engine.online.scored import Scored
from streams.errors import StartError
from streams.instruments import LearnerInstruments
from streams.learning.example_source import ExampleSource
from streams.learning.examples import ExampleBatch
from streams.learning.suspects import Suspects

log = structlog.get_logger()

_ALONE: Final = 3


class Steps:
    """Lets a learner learn."""

    def __init__(
        self, learner: OnlineLearner, source: ExampleSource, suspects: Suspects, instruments: LearnerInstruments
    ) -> None:
        self._learner = learner
        self._source = source
        self._suspects = suspects
        self._instruments = instruments
        self._alone = 0
        """Records in a row that failed alone."""
        self._spoilt = False

    def learn(self, batch: ExampleBatch) -> Scored | None:
        """Learn a batch; None where the learner must go back to before it.

        Raises:
            StartError: learning fails whatever is learned.
        """
        self._spoilt = False
        self._suspects.begin(batch.records)
        try:
            scored = self._learner.observe(batch.examples())
        except SpoiledError as exc:
            self._spoilt = True
            self._instruments.rejected.labels("spoilt").inc(batch.outcomes)
            log.error("weights-spoilt", why=str(exc), outcomes=batch.outcomes, records=batch.records)  # noqa: TRY400
        except Exception as exc:
            log.exception("learning-failed", records=batch.records)
            self._suspects.failed(batch.records)
            self._count_alone(exc)
        else:
            self._alone = 0
            self._suspects.end()
            return scored
        self._suspects.end()
        return None

    def leave_out(self, batch: ExampleBatch) -> None:
        """Once the learner is as it was before: do not learn again what spoilt the weights."""
        if self._spoilt:
            self._source.leave_out(batch)

    def _count_alone(self, why: Exception) -> None:
        self._alone += self._suspects.is_one
        if self._alone >= _ALONE:
            self._suspects.acquit()
            raise StartError(
                f"Learning fails whatever is learned ({why!r}), so the learner's own state is broken; move its folder "
                "away to begin anew, or bring back an older copy of it."
            ) from why
