"""examples, items -> weights: predict, score, learn, and publish what was learned about every second.

Each outcome is learned once: the checkpoint holds how far every partition of `examples` was read and, for each
partition of `interactions`, which offsets were learned. What comes after the checkpoint is learned again by
whoever goes on from it, under generations with higher numbers.
"""

import threading
import time
from collections.abc import Iterable
from dataclasses import replace
from typing import Final

import structlog

from engine.online.config import online_config
from engine.online.prequential import OnlineLearner
from engine.online.quality import Quality
from engine.online.scored import Scored
from engine.online.undo import Undo
from engine.text import text_encoder
from streams.catalogue.row_log import RowLog
from streams.errors import StartError
from streams.instruments import LearnerInstruments
from streams.learning.checkpoints import Checkpoints
from streams.learning.commands import CommandLog
from streams.learning.example_source import ExampleSource
from streams.learning.examples import NOT_WANTED, ExampleBatch
from streams.learning.item_texts import ItemTexts
from streams.learning.learned_topics import LearnedTopics
from streams.learning.rejections import Rejections
from streams.learning.releases import Releases
from streams.learning.steps import Steps
from streams.learning.suspects import Suspects
from streams.settings import Settings

log = structlog.get_logger()

_POLL_SECONDS: Final = 0.1


class LearnerRole:
    """An OnlineLearner between Kafka and the model repository."""

    def __init__(self, settings: Settings, instruments: LearnerInstruments) -> None:
        self._settings = settings
        self._instruments = instruments
        wanted = settings.learner
        encoder = text_encoder(wanted.text)
        width = encoder.width if encoder else 0
        config = online_config(wanted.preset, wanted.policy, wanted.canary_share, width)
        self._learner = OnlineLearner(replace(config, not_wanted=NOT_WANTED))
        self._topics = LearnedTopics(settings)
        self.rows = RowLog(settings)
        self._texts = ItemTexts(settings, self.rows, encoder) if encoder else None
        if self._texts:
            for described in self._texts.all():  # before a checkpoint's anchor is made of it
                self._learner.describe(*described)
        folder = settings.data_dir / "learner"
        self._rejections = Rejections(settings, instruments)
        self._suspects = Suspects(folder)
        self._source = ExampleSource(settings, self.rows, instruments, self._rejections, self._suspects)
        self._releases = Releases(settings, self._learner, instruments)
        self._checkpoints = Checkpoints(
            folder / "checkpoint", wanted.checkpoint_seconds, instruments, self._topics.refuse_change
        )
        self._saved: dict[int, int] = {}
        """Positions of the checkpoint that is being written."""
        self.backfilled: list[str] = []
        """Marks of what was learned beside the stream."""
        self._commands = CommandLog(settings, 0)
        self._is_new = not self._restored()
        self._steps = Steps(self._learner, self._source, self._suspects, instruments)

    @property
    def length(self) -> int:
        """Interactions of a history that the model sees."""
        return self._learner.config.model.length

    def run(self, stop: threading.Event) -> None:
        """Learn until told to stop, then leave a checkpoint."""
        self._source.begin()
        self._obey()
        self._releases.publish(self._source.reached)
        if self._is_new:  # there is always one to go back to
            self._checkpoint()
        clock = self._settings.learner
        published = versioned = time.monotonic()
        batch = self._batch()
        while not stop.is_set():
            due = published + clock.generation_seconds
            ready = self._source.collect(batch, max(0.0, min(_POLL_SECONDS, due - time.monotonic())))
            for offset, command in self._commands.poll():
                self._releases.obey(command, offset)
            self._describe()
            now = time.monotonic()
            if ready or now >= due:
                batch = self._learned_batch(batch)
            if now >= due:
                published = now
                self._releases.publish(self._source.reached)
            # Positions run ahead of what is learned while a batch is being collected.
            if batch.empty and self._checkpoints.due():
                self._checkpoint()
            if now >= versioned + clock.version_seconds:
                self._releases.write_version()
                versioned = now
        self._learned_batch(batch)
        self._checkpoint()
        self._checkpoints.settle()

    def backfill(self, batches: Iterable[ExampleBatch], mark: str) -> int:
        """Learn what is no part of the stream, and leave a checkpoint, a version and a generation.

        Args:
            batches: in the order of their events.
            mark: identifies them from now on.

        Returns:
            How many outcomes they held.
        """
        outcomes, learning = 0, Undo(self._learner)
        for batch in batches:
            self._describe()
            outcomes += batch.outcomes
            if scored := learning.observe(batch.examples()):
                self._tell(scored)
            else:
                log.error("weights-spoilt", outcomes=batch.outcomes)
        self.backfilled.append(mark)
        self._releases.write_version()
        self._learner.quality = Quality(self._learner.config.window)  # what is told from now on is of the stream
        self._checkpoint()
        self._checkpoints.settle()
        self._releases.publish(self._source.reached)
        return outcomes

    def close(self) -> None:
        """Wait for a checkpoint that is being written, and let go of all connections."""
        self._checkpoints.close()
        self._rejections.flush()
        if self._texts:
            self._texts.close()
        self.rows.close()
        self._source.close()
        self._commands.close()

    def _restored(self) -> bool:
        """Go on from the newest checkpoint; return whether there is one, and one whose positions are of these topics.

        Raises:
            StartError: it is of another model.
        """
        state = self._checkpoints.newest()
        if state is None or not self._topics.have_the_rows(state.get("topics", {}), self._checkpoints.path):
            return False
        goes_on = self._topics.have_the_positions(state.get("topics", {}))
        try:
            self._learner.resume(state["learner"])
            if goes_on:
                self._source.restore(state)
            self._releases.restore(state["releases"])
            self._commands.go_to(int(state["commands"]))
            self.backfilled = list(state.get("backfilled", ()))
        except (KeyError, RuntimeError, ValueError) as exc:
            raise StartError(
                f"The checkpoint {self._checkpoints.path} is of another model or release ({exc}); move it away to "
                "begin anew, or set HEADRACE_LEARNER__PRESET and __TEXT back."
            ) from exc
        log.info("checkpoint-restored", outcomes=self._learner.outcomes, generation=self._releases.generation)
        return goes_on

    def _obey(self) -> None:
        """Carry out what was asked for since the checkpoint, and write down what serves where that is new."""
        for offset, command, done in self._commands.waiting():
            self._releases.obey(command, offset, done=done)
        self._releases.begin()

    def _checkpoint(self) -> None:
        """Copy what a checkpoint holds, and have it written while learning goes on."""
        self._suspects.passed(self._saved)
        self._rejections.flush()
        with self._instruments.step_seconds.labels("snapshot").time():
            state = {
                "learner": self._learner.checkpoint(),
                **self._source.state(),
                "releases": self._releases.state(),
                "commands": self._commands.position,
                "topics": self._topics.ids,
                "backfilled": list(self.backfilled),
            }
        self._saved = state["positions"]
        self._checkpoints.write(state)

    def _batch(self) -> ExampleBatch:
        return ExampleBatch(self.length, self._settings.learner.micro_batch)

    def _describe(self) -> None:
        """Take what has become known of items."""
        if self._texts:
            self._learner.describe(*self._texts.new())

    def _learned_batch(self, batch: ExampleBatch) -> ExampleBatch:
        """Learn a batch; return the next one, empty."""
        if batch.empty:
            return batch
        self._learner.grow(self.rows.rows)
        if scored := self._steps.learn(batch):
            self._tell(scored)
        else:
            self._go_back(batch)
        return self._batch()

    def _tell(self, scored: Scored) -> None:
        """Count what came of a batch, and carry out what the gate decided on it."""
        instruments = self._instruments
        instruments.examples.inc(scored.accepted)
        instruments.rejected.labels("made_up").inc(scored.offered - scored.accepted)
        instruments.loss.set(scored.loss)
        instruments.drifts.inc(scored.drift)
        for stage, seconds in scored.seconds.items():
            instruments.step_seconds.labels(stage).observe(seconds)
        for decision in scored.decisions:
            self._releases.decide(decision)
        for name, metrics in self._learner.quality.report().items():
            for metric, value in metrics.items():
                instruments.quality.labels(name, metric).set(value)

    def _go_back(self, batch: ExampleBatch) -> None:
        """Be as the newest checkpoint is, in all but the generation's number; learn all since, but what did harm."""
        state = self._checkpoints.newest_or_stop()
        self._learner.resume(state["learner"])
        self._source.restore(state)
        self._steps.leave_out(batch)
        self._commands.go_to(int(state["commands"]))
        self._obey()
        self._checkpoint()
