"""What a run did -> its figures. Everything is computed from what was read back; nothing is assumed."""

import bisect
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Any, Final

import numpy as np

from streams.demo.observe import Answer, Event, Learned, Observations
from streams.settings import StateSettings

Remembered = tuple[str, str, int]
"""item_id, type and event time of an interaction."""

CONTENDERS: Final = ("model", "popularity", "item_knn")
METRICS: Final = ("ndcg@10", "recall@10", "mrr@10")
_DAY_MS: Final = 86_400_000


def report(
    seen: Observations,
    *,
    started_ms: int,
    settings: StateSettings,
    states: Mapping[str, Sequence[Remembered]],
    quality: Mapping[str, Mapping[str, float]],
) -> dict[str, Any]:
    """Return the figures of a run.

    Args:
        seen: what the topics held.
        started_ms: when the run began, epoch milliseconds.
        settings: how long a history may be.
        states: histories as the workers tell them, by user.
        quality: prequential, as the learner tells it.
    """
    accepted = [event for event in seen.events if (event.partition, event.offset) not in seen.rejected]
    streamed = [event for event in accepted if not event.history]
    waits_ms, unanswered = latencies(streamed, seen.answers)
    learned_seconds = seconds_to_learned(streamed, seen.answers, seen.generations)
    lost, doubled = differences(accepted, states, settings)
    first_ms = min((answer.written_ms for answer in seen.answers), default=None)
    rejected = Counter(
        seen.rejected.get((event.partition, event.offset), "accepted") for event in seen.events if not event.history
    )
    del rejected["accepted"]
    return {
        "events_in": seen.streamed,
        "events_rejected": rejected.total(),
        "rejected_by_reason": dict(rejected),
        "history_events": sum(event.history for event in seen.events),
        "recommendations_out": len(seen.answers),
        "repeated_recommendations": seen.repeated,
        "unanswered": unanswered,
        "first_recommendation_seconds": None if first_ms is None else round((first_ms - started_ms) / 1000, 2),
        "latency_ms": percentiles(waits_ms, (50, 95, 99)),
        "rungs": dict(seen.rungs),
        "cold_item_share": cold_item_share(accepted, seen.answers),
        "generations_served": len({answer.generation for answer in seen.answers if answer.generation}),
        "versions_served": len({answer.version for answer in seen.answers if answer.version}),
        "event_to_learned_seconds": percentiles(learned_seconds, (50, 95)),
        "events_learned": len(learned_seconds),
        "quality": {name: {metric: quality.get(name, {}).get(metric) for metric in METRICS} for name in CONTENDERS},
        "users": len(states),
        "lost": lost,
        "doubled": doubled,
    }


def percentiles(values: Sequence[float], wanted: Iterable[int]) -> dict[str, float | None]:
    """Return percentiles by name, None where there is nothing to measure.

    >>> percentiles([1.0, 2.0, 3.0], (50,)), percentiles([], (99,))
    ({'p50': 2.0}, {'p99': None})
    """
    return {f"p{p}": round(float(np.percentile(values, p)), 3) if len(values) else None for p in wanted}


def cold_item_share(events: Iterable[Event], answers: Iterable[Answer]) -> float | None:
    """Return the share of what was listed that nobody had touched by then, None without lists."""
    first: dict[str, int] = {}
    for event in events:
        first[event.item_id] = min(event.written_ms, first.get(event.item_id, event.written_ms))
    cold = [first.get(item, answer.written_ms + 1) > answer.written_ms for answer in answers for item in answer.items]
    return round(sum(cold) / len(cold), 5) if cold else None


def latencies(events: Iterable[Event], answers: Iterable[Answer]) -> tuple[list[int], int]:
    """Return the milliseconds from each event to its list, and how many events have none.

    Events of one user that were read together share a list, which names the last of them as its cause.
    """
    of_user: dict[tuple[int, str], list[tuple[int, int]]] = defaultdict(list)
    for answer in answers:
        of_user[answer.partition, answer.user_id].append((answer.offset, answer.written_ms))
    for causes in of_user.values():
        causes.sort()
    waits, unanswered = [], 0
    for event in events:
        causes = of_user.get((event.partition, event.user_id), [])
        at = bisect.bisect_left(causes, (event.offset, 0))
        if at == len(causes):
            unanswered += 1
        else:
            waits.append(causes[at][1] - event.written_ms)
    return waits, unanswered


def seconds_to_learned(
    events: Iterable[Event], answers: Iterable[Answer], generations: Iterable[Learned]
) -> list[float]:
    """Return the seconds from each event to the first list of anybody by a generation that has learned from it.

    Events after which no such list was seen are left out.
    """
    marks: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for learned in sorted(generations, key=lambda learned: learned.generation):
        for partition, until in learned.until.items():
            if not marks[partition] or until > marks[partition][-1][0]:
                marks[partition].append((until, learned.generation))
    served = sorted((answer.generation, answer.written_ms) for answer in answers)
    numbers = [generation for generation, _ in served]
    earliest = list(accumulate((written for _, written in reversed(served)), min))[::-1]
    found = []
    for event in events:
        of_partition = marks[event.partition]
        at = bisect.bisect_right(of_partition, event.offset, key=lambda mark: mark[0])
        if at < len(of_partition):
            first = bisect.bisect_left(numbers, of_partition[at][1])
            if first < len(earliest):
                found.append((earliest[first] - event.written_ms) / 1000)
    return found


def differences(
    accepted: Iterable[Event], states: Mapping[str, Sequence[Remembered]], settings: StateSettings
) -> tuple[int, int]:
    """Return how many accepted interactions no history holds, and how many positions hold one too many.

    A history keeps a user's newest interactions only, so it is compared with that tail of what was accepted.
    """
    sent: dict[str, list[Remembered]] = defaultdict(list)
    for event in sorted(accepted, key=lambda event: (event.timestamp, event.partition, event.offset)):
        sent[event.user_id].append((event.item_id, event.type, event.timestamp))
    lost = doubled = 0
    for user_id in sent.keys() | states.keys():
        wanted = tail(sent.get(user_id, []), settings)
        held = states.get(user_id, [])
        lost += (Counter(wanted) - Counter(held)).total()
        doubled += (Counter(held) - Counter(wanted)).total()
    return lost, doubled


def tail(entries: Sequence[Remembered], settings: StateSettings) -> list[Remembered]:
    """Return what a history keeps of entries in event time: the newest, by number and by age."""
    if not entries:
        return []
    oldest = entries[-1][2] - settings.max_age_days * _DAY_MS
    return [entry for entry in entries[-settings.history_length :] if entry[2] >= oldest]
