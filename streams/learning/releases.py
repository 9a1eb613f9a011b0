"""what was learned -> weights, versions, decisions: which weights serve, by the gate's word or a person's."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import structlog

from engine.generations import TouchedRows
from engine.online.gate import Decision
from engine.online.prequential import OnlineLearner
from engine.weights import CHALLENGER, CHAMPION, Weights, WeightsError, load
from streams.instruments import LearnerInstruments
from streams.learning.models_admin import LOG, current
from streams.learning.publisher import NotPublishedError, Publisher
from streams.records import Command, DecisionRecord, encode
from streams.settings import Settings
from streams.triton.model_repository import ModelRepository

log = structlog.get_logger()


class Releases:
    """Publishes for one learner."""

    def __init__(self, settings: Settings, learner: OnlineLearner, instruments: LearnerInstruments) -> None:
        self._settings = settings
        self._learner = learner
        self._instruments = instruments
        self._repository = ModelRepository(settings.models_dir, settings.triton.device)
        self._publisher = Publisher(settings)
        self._pin: tuple[int, Weights] | None = None
        """A version that serves whatever is learned."""
        self._salt = 0
        """Generation at which the newest canary began."""
        self._unpublished: dict[str, TouchedRows | None] = {CHAMPION: None, CHALLENGER: None}
        """Rows that no generation of a slot carries yet, None for all."""
        self._waiting: dict[str, float] = {}
        """Since when a slot's generation cannot be published."""
        self.version = self._repository.newest() or 0
        self.generation = self._publisher.last_generation()

    def begin(self) -> None:
        """Make a version that a server can load: it would refuse generations of another shape.

        The decision in force may be another than the checkpoint knows: then what is in force now is written down.
        """
        newest = self._repository.newest()
        if newest is None or _config(self._repository.file(newest)) != self._learner.weights().config:
            self.write_version()
        found = current(self._settings)
        if found and (found.canary, found.salt, found.stage == "pinned") != (self._canary, self._salt, bool(self._pin)):
            self._record(DecisionRecord("resume", "learner", _now_ms()))

    def publish(self, learned: Mapping[int, int]) -> None:
        """Publish the next generation of what has changed. Its number is never used again, published or not.

        Args:
            learned: newest offset of `interactions` that it has learned from, by partition.

        Raises:
            FencedError: another learner has taken over.
        """
        touched = self._learner.take_touched()
        for unpublished in self._unpublished.values():
            if unpublished is not None:
                unpublished.update(touched)
        unpublished = self._unpublished[CHAMPION]
        if unpublished is None or (unpublished and self._follows):
            self._publish(CHAMPION, self._pin[1] if self._pin else self._learner.served, learned)
        unpublished = self._unpublished[CHALLENGER]
        if self._canary and (unpublished is None or unpublished):
            self._publish(CHALLENGER, self._learner.challenger, learned)

    def write_version(self) -> None:
        """Write what serves as a full version."""
        quality = msgspec.json.encode(self._learner.quality.report()).decode()
        weights = self._pin[1] if self._pin else self._learner.served
        self.version = self._repository.write_version(weights, self.generation, {"quality": quality})
        self._instruments.versions.inc()
        log.info("version-written", version=self.version, generation=self.generation)

    def decide(self, decision: Decision, by: str = "gate", command: int = -1) -> None:
        """Carry out a decision and write it down with its figures; the next generation serves it.

        Raises:
            FencedError: another learner has taken over.
        """
        self._effect(decision)
        if decision.action == "promote":
            self.write_version()
        self._record(
            DecisionRecord(
                decision.action,
                by,
                _now_ms(),
                stage=decision.stage,
                share=decision.share,
                command=command,
                against=decision.against,
                outcomes=decision.outcomes,
                mean=decision.mean,
                low=decision.low,
                high=decision.high,
                level=decision.level,
            )
        )

    def obey(self, command: Command, offset: int, *, done: bool = False) -> None:
        """Do what a person asks for.

        Args:
            command: the wish.
            offset: where it stands in `decisions`.
            done: it was carried out and written down before the checkpoint could hold it: only the effect is wanted.

        Raises:
            FencedError: another learner has taken over.
        """
        gates = self._learner.gate, self._learner.floor
        if command.action in {"freeze", "unfreeze"}:
            for gate in gates:
                gate.frozen = command.action == "freeze"
        elif command.version is not None:
            if refusal := self._pin_to(command.version):
                if not done:
                    self._record(DecisionRecord("refuse", command.by, _now_ms(), command=offset, why=refusal))
                return
        else:
            self._pin, self._unpublished[CHAMPION] = None, None
            if done and not self._learner.anchor:  # it was said to a learner before this one
                return
            decision = gates[0].decide("promote" if command.action == "promote" else "rollback")
            if done:
                self._effect(decision)
            else:
                self.decide(decision, command.by, offset)
            return
        if not done:
            self._record(DecisionRecord(command.action, command.by, _now_ms(), command=offset))

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint holds."""
        return {"generation": self.generation, "pin": self._pin[0] if self._pin else 0, "salt": self._salt}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint; the generation never falls."""
        self.generation = max(self.generation, state["generation"])
        self._salt = state["salt"]
        if state["pin"]:
            self._pin_to(state["pin"])

    def _publish(self, slot: str, weights: Weights, learned: Mapping[int, int]) -> None:
        self.generation += 1
        try:
            with self._instruments.publish_seconds.time():
                self._publisher.publish(
                    weights, self._unpublished[slot], self.generation, self.version, learned=learned, slot=slot
                )
        except (NotPublishedError, WeightsError) as exc:
            log.warning("not-published", why=str(exc))
            self._waiting.setdefault(slot, time.time())
            self._instruments.unpublished_since.set(min(self._waiting.values()))
            return
        self._unpublished[slot] = TouchedRows()
        self._waiting.pop(slot, None)
        self._instruments.unpublished_since.set(min(self._waiting.values(), default=0))
        self._instruments.generations.inc()
        if slot == CHAMPION:  # which is what workers follow
            self._instruments.generation_timestamp.set_to_current_time()

    def _effect(self, decision: Decision) -> None:
        self._learner.decide(decision)
        if decision.action == "canary":
            self._salt = self.generation + 1
        if decision.action not in {"advance", "canary", "reject"}:  # what serves changes as a whole
            self._unpublished[CHAMPION] = None

    def _pin_to(self, version: int) -> str | None:
        """Return why the version cannot serve, None when it does."""
        try:
            self._pin = version, load(self._repository.file(version))
        except (WeightsError, FileNotFoundError) as exc:
            log.error("pin-refused", version=version, why=str(exc))  # noqa: TRY400 - the sentence says it all
            return f"version {version} cannot be loaded: {exc}"
        self._unpublished[CHAMPION] = None
        return None

    @property
    def _follows(self) -> bool:
        """Whether what serves everybody changes with each batch."""
        return not self._pin and self._learner.gate.stage == "serving"

    @property
    def _canary(self) -> float:
        """Share of users that the challenger serves."""
        gate = self._learner.gate
        return gate.share if gate.stage == "canary" and not self._pin else 0.0

    def _record(self, decision: DecisionRecord) -> None:
        """Write down a decision with what serves from now on; where no canary does, the challenger goes with it."""
        gate = self._learner.gate
        serving = {"stage": "pinned", "share": 0.0} if self._pin else {"stage": gate.stage, "share": gate.share}
        decision = msgspec.structs.replace(
            decision,
            **({} if decision.stage and not self._pin else serving),
            canary=self._canary,
            salt=self._salt,
            generation=self.generation + 1,
            version=self._pin[0] if self._pin else self.version,
            quality=self._learner.quality.report(),
        )
        value = encode(decision)
        name = f"{LOG}{decision.generation}/{decision.at}/{decision.action}/{decision.against}"
        withdrawn = None if self._canary else CHALLENGER
        self._publisher.decide({CHAMPION: value, name: value}, withdrawn)
        if withdrawn:
            self._unpublished[CHALLENGER] = None
        self._instruments.decisions.labels(decision.action).inc()
        log.info("decision", **{name: found for name, found in msgspec.structs.asdict(decision).items() if found})


def _config(path: Path) -> Mapping[str, str | int | float | bool] | None:
    try:
        return load(path).config
    except WeightsError:
        return None


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
