"""what was learned -> weights, versions, decisions: which weights serve, by the gate's word or a person's."""

import time
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec
import structlog

from engine.online.gate import Decision
from engine.online.prequential import OnlineLearner
from engine.weights import Weights, WeightsError, load
from streams.instruments import LearnerInstruments
from streams.learning.model_repository import ModelRepository
from streams.learning.models_admin import LOG
from streams.learning.publisher import CHAMPION, NotPublishedError, Publisher
from streams.records import Command, DecisionRecord, encode
from streams.settings import Settings

log = structlog.get_logger()


class Releases:
    """Publishes for one learner."""

    def __init__(self, settings: Settings, learner: OnlineLearner, instruments: LearnerInstruments) -> None:
        self._learner = learner
        self._instruments = instruments
        self._repository = ModelRepository(settings.models_dir, settings.triton.device)
        self._publisher = Publisher(settings)
        self._pinned: Weights | None = None
        self._unpublished: set[int] | None = None
        """Rows that no generation carries yet, None for all."""
        self.version = self._repository.newest() or 0
        self.generation = self._publisher.last_generation()

    def begin(self) -> None:
        """Make a version that a server can load: it would refuse generations of another shape."""
        newest = self._repository.newest()
        if newest is None or _config(self._repository.file(newest)) != self._learner.weights().config:
            self.write_version()

    def publish(self, learned: Mapping[int, int]) -> None:
        """Publish the next generation, if anything has changed. Its number is never used again, published or not.

        Args:
            learned: newest offset of `interactions` that it has learned from, by partition.

        Raises:
            FencedError: another learner has taken over.
        """
        touched = self._learner.take_touched().tolist()
        if self._unpublished is not None:
            self._unpublished.update(touched)
            if not self._unpublished or not self._follows:
                return
        self.generation += 1
        try:
            with self._instruments.publish_seconds.time():
                self._publisher.publish(
                    self._pinned or self._learner.served,
                    self._unpublished,
                    self.generation,
                    self.version,
                    learned=learned,
                )
        except (NotPublishedError, WeightsError) as exc:
            log.warning("not-published", why=str(exc))
            return
        self._unpublished = set()
        self._instruments.generations.inc()
        self._instruments.generation_timestamp.set_to_current_time()

    def write_version(self) -> None:
        """Write what serves as a full version."""
        quality = msgspec.json.encode(self._learner.quality.report()).decode()
        weights = self._pinned or self._learner.served
        self.version = self._repository.write_version(weights, self.generation, {"quality": quality})
        self._instruments.versions.inc()
        log.info("version-written", version=self.version, generation=self.generation)

    def decide(self, decision: Decision, by: str = "gate") -> None:
        """Carry out a decision and write it down with its figures; the next generation serves it.

        Raises:
            FencedError: another learner has taken over.
        """
        self._learner.decide(decision)
        if decision.action != "advance":  # what serves changes as a whole
            self._unpublished = None
        if decision.action == "promote":
            self.write_version()
        self._record(
            DecisionRecord(
                decision.action,
                by,
                _now_ms(),
                stage=decision.stage,
                share=decision.share,
                against=decision.against,
                outcomes=decision.outcomes,
                mean=decision.mean,
                low=decision.low,
                high=decision.high,
                level=decision.level,
            )
        )

    def obey(self, command: Command) -> None:
        """Do what a person asks for.

        Raises:
            FencedError: another learner has taken over.
        """
        gates = self._learner.gate, self._learner.floor
        if command.action in {"freeze", "unfreeze"}:
            for gate in gates:
                gate.frozen = command.action == "freeze"
            self._record(DecisionRecord(command.action, command.by, command.at, stage=gates[0].stage))
        elif command.version is not None:
            self._pin(command)
        elif command.action in {"promote", "rollback"}:
            self._pinned = None
            self.decide(gates[0].decide("promote" if command.action == "promote" else "rollback"), command.by)

    def _pin(self, command: Command) -> None:
        try:
            self._pinned = load(self._repository.file(command.version or 0))
        except (WeightsError, FileNotFoundError) as exc:
            log.error("pin-refused", version=command.version, why=str(exc))  # noqa: TRY400 - the sentence says it all
            return
        self._unpublished = None
        self._record(
            DecisionRecord(
                command.action, command.by, command.at, stage="pinned", share=0.0, version=command.version or 0
            )
        )

    @property
    def _follows(self) -> bool:
        """Whether what serves changes with each batch."""
        return not self._pinned and self._learner.gate.stage == "serving"

    def _record(self, decision: DecisionRecord) -> None:
        quality = self._learner.quality.report()
        decision = msgspec.structs.replace(
            decision, generation=self.generation + 1, version=decision.version or self.version, quality=quality
        )
        value = encode(decision)
        self._instruments.decisions.labels(decision.action).inc()
        log.info("decision", **{name: found for name, found in msgspec.structs.asdict(decision).items() if found})
        keys: Iterable[str] = (CHAMPION, f"{LOG}{decision.generation}/{decision.action}/{decision.against}")
        self._publisher.decide(dict.fromkeys(keys, value))


def _config(path: Path) -> Mapping[str, str | int | float | bool] | None:
    try:
        return load(path).config
    except WeightsError:
        return None


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
