"""What a user of a batch gets and what the learner learns from it: the records, made from values."""

from collections.abc import Mapping

from streams.lists.ladder import RankedList
from streams.records import TYPE_CODES, Cause, Example, ExampleHistory, Outcome, Recommendation
from streams.state.batch_fold import Touched
from streams.state.fold import before
from streams.state.user_state import UserState


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
