"""What a user of a batch gets and what the learner learns from it: the records, made from values."""

from collections.abc import Iterator, Mapping
from typing import Final

from msgspec.structs import replace

from streams.lists.ladder import RankedList
from streams.records import TYPE_CODES, Cause, Example, ExampleHistory, Outcome, Recommendation, encode
from streams.state.batch_fold import Touched
from streams.state.fold import before
from streams.state.user_state import UserState

MAX_OUTCOMES: Final = 1000
"""Of one example."""
MAX_EXAMPLE_BYTES: Final = 900_000
"""Below Kafka's own limit of 1 MiB, whatever the ids are."""


def recommendation(
    user_id: str, cause: Cause, ranking: RankedList, now_ms: int, stage_ms: Mapping[str, float]
) -> Recommendation:
    """Return the answer to a cause; its id is the cause's position, the same however often it is computed."""
    return Recommendation(
        recommendation_id=cause.position,
        user_id=user_id,
        cause=cause,
        items=ranking.items,
        version=ranking.version,
        generation=ranking.generation,
        rung=ranking.rung,
        timestamp=now_ms,
        stage_ms=dict(stage_ms),
        slot=ranking.slot,
    )


def encoded_examples(
    touched: Touched, partition: int, now_ms: int, length: int, max_bytes: int = MAX_EXAMPLE_BYTES
) -> Iterator[bytes]:
    """Yield a user's example, cut into several where there is too much of it for one record.

    Args:
        touched: the user.
        partition: of the user's interactions.
        now_ms: the time, epoch milliseconds.
        length: how many interactions a history has at most.
        max_bytes: of a record.
    """
    waiting = [example(touched, partition, now_ms)]
    while waiting:
        one = waiting.pop()
        if len(one.outcomes) <= MAX_OUTCOMES and len(value := encode(one)) <= max_bytes:
            yield value
        elif len(one.outcomes) + len(one.shown) > 1:
            first, second = _halves(one, length)
            waiting += [second, first]
        elif one.history.items:
            waiting.append(_younger_half(one))
        # What is left is one impression, larger than a record may be: the learner does without it.


def example(touched: Touched, partition: int, now_ms: int) -> Example:
    """Return the history before the batch's interactions, and these as outcomes.

    Interactions that are read again were folded before: they are taken out of the history that holds them. Without any,
    the example is of impressions that came after what was taken of them: the history is the one before the first.
    """
    held = UserState(heads=touched.heads_before, tails=touched.tails_before)
    history = before(held, [event for event, _ in touched.replayed])
    if not touched.added and not touched.replayed:
        shown_at = min(exposure.timestamp for exposure in touched.exposures)
        history = [entry for entry in history if entry.timestamp < shown_at]
    outcomes = [
        Outcome(event.item_id, TYPE_CODES[event.type], event.timestamp, offset)  # type: ignore[arg-type]
        for event, offset in (*touched.replayed, *touched.added)
    ]
    lists = ExampleHistory(
        [entry.item_id for entry in history], [entry.type for entry in history], [entry.timestamp for entry in history]
    )
    return Example(touched.user_id, partition, lists, outcomes, now_ms, touched.exposures)


def _halves(one: Example, length: int) -> tuple[Example, Example]:
    """Return two examples that say the same: the first one's outcomes are history to the second."""
    if len(one.outcomes) < 2:  # noqa: PLR2004 - only what was shown can be halved
        middle = len(one.shown) // 2
        return replace(one, shown=one.shown[:middle]), replace(one, outcomes=[], shown=one.shown[middle:])
    middle = len(one.outcomes) // 2
    early, late = one.outcomes[:middle], one.outcomes[middle:]
    history = ExampleHistory(
        [*one.history.items, *(outcome.item_id for outcome in early)][-length:],
        [*one.history.types, *(outcome.type for outcome in early)][-length:],
        [*one.history.timestamps, *(outcome.timestamp for outcome in early)][-length:],
    )
    later = {outcome.offset for outcome in late}
    shown = [exposure for exposure in one.shown if exposure.offset not in later]
    shown_later = [exposure for exposure in one.shown if exposure.offset in later]
    return (
        replace(one, outcomes=early, shown=shown),
        replace(one, history=history, outcomes=late, shown=shown_later),
    )


def _younger_half(one: Example) -> Example:
    history, half = one.history, (len(one.history.items) + 1) // 2
    younger = ExampleHistory(history.items[half:], history.types[half:], history.timestamps[half:])
    return replace(one, history=younger)
