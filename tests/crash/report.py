"""what was counted -> figures, and a sentence for each that should be nothing."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from tests.crash.count import Accepted, Answers, Learned, Verdict
from tests.crash.failover import failovers
from tests.crash.faults import Faults

_SHOWN: Final = 20
"""Lost events that are named."""
_MUST_BE_NONE: Final = (
    "lost", "doubled", "of_aborted_transactions", "dead_letters_missing", "misplaced_users", "unanswered",
)  # fmt: skip


@dataclass
class Report:
    """What a campaign found; `ok` is the verdict."""

    seed: int
    faults: dict[str, int] = field(default_factory=dict)
    figures: dict[str, Any] = field(default_factory=dict)
    """Name to figure, as they are printed and written."""
    problems: list[str] = field(default_factory=list)
    """Each a sentence; none when nothing was lost."""

    @property
    def ok(self) -> bool:
        """Whether everything was found where it should be."""
        return not self.problems

    def histories(self, events: Accepted, verdicts: Mapping[str, Verdict]) -> None:
        """Say what of the events is not in the histories of each place, or too often."""
        lost = set().union(*(verdict.lost for verdict in verdicts.values()))
        self.figures |= {
            "events": len(events),
            "users": len(events.by_user),
            "lost": len(lost),
            "doubled": max(verdict.doubled for verdict in verdicts.values()),
            "of_aborted_transactions": max(verdict.phantoms for verdict in verdicts.values()),
            "misplaced_users": max(verdict.misplaced for verdict in verdicts.values()),
        }
        for place, verdict in verdicts.items():
            self.figures[f"lost_in_{place}"] = len(verdict.lost)
            self.figures[f"doubled_in_{place}"] = verdict.doubled
        for number in sorted(lost)[:_SHOWN]:
            missing_in = [place for place, verdict in verdicts.items() if number in verdict.lost]
            self.problems.append(f"event {number} at {events.offset_of[number]} is not in {', '.join(missing_in)}")

    def answers(self, events: Accepted, given: Answers, injected: Faults, logs: Iterable[Path]) -> None:
        """Say what was answered, and how long the users of a lost worker waited."""
        found = failovers(events, given, injected, logs)
        alone = [seconds for of_kind in found.alone.values() for seconds in of_kind]
        self.figures |= {
            "unanswered": given.unanswered,
            "answers": given.distinct,
            "raw_duplicates": given.raw - given.distinct,
            "rungs": dict(given.rungs),
            "failover_seconds": _percentiles(alone),
            "failovers": len(alone),
            "failover_seconds_by_kind": {kind: _percentiles(seconds) for kind, seconds in found.alone.items()},
            "recovery_seconds_by_kind": {kind: _percentiles(seconds) for kind, seconds in found.recovery.items()},
            "failover_seconds_disturbed": _percentiles(found.disturbed),
            "failovers_disturbed": len(found.disturbed),
            "failovers_left_out_for_broker_outages": found.broker,
        }

    def learned(self, events: Accepted, found: Learned, *, with_learner: bool) -> None:
        """Say which events no example carries, and what the learner learned against them."""
        self.figures["example_outcomes_missing"] = found.missing
        self.figures["example_outcomes_repeated"] = found.outcomes + found.missing - len(events)
        if found.missing:
            self.problems.append(f"{found.missing} events in no example")
        if with_learner:
            self.figures["learned_minus_events"] = found.difference
            if found.difference:
                self.problems.append(f"the learner learned {found.difference:+} outcomes against the events")

    def judge(self) -> None:
        """Say which figures should be nothing and are not."""
        for name in _MUST_BE_NONE:
            if self.figures[name]:
                self.problems.append(f"{self.figures[name]} {name.replace('_', ' ')}")

    def life(self, act: str, left: str, events: int, verdicts: Iterable[Verdict], unanswered: int) -> None:
        """Say what came of the events after an act."""
        some = list(verdicts)
        wrong = {
            "lost": len(set().union(*(verdict.lost for verdict in some))),
            "doubled": max(verdict.doubled for verdict in some),
            "of_the_life_before": max(verdict.phantoms for verdict in some),
            "unanswered": unanswered,
        }
        self.faults[act] = 1
        self.figures |= {f"{act}_{name}": value for name, value in {"events": events, **wrong}.items()}
        self.problems += [f"after {act}: {value} {name.replace('_', ' ')}" for name, value in wrong.items() if value]
        self.problems += [f"after {act}: {left}"] if left else []


def _percentiles(seconds: list[float]) -> dict[str, float]:
    if not seconds:
        return {"p50": 0.0, "p95": 0.0, "max": 0.0}
    p50, p95, most = np.percentile(seconds, (50, 95, 100)).round(2).tolist()
    return {"p50": p50, "p95": p95, "max": most}
