"""Faust's messages -> none was left out: a batch is folded only when the one before it was begun.

Faust now and then drops a delivered batch. Folding the next one would raise the offsets in the states of its users, and
the events of the dropped one would look as if they had been read before.
"""

from typing import Any

from streams.errors import HeadraceError


class SkippedBatchError(HeadraceError):
    """A batch was delivered and never folded."""


def refuse_gap(message: Any) -> None:  # noqa: ANN401 - faust has no types here
    """Make sure that the batch before this one was begun; the first one after a seek has none before it.

    Raises:
        SkippedBatchError: it was not.
    """
    before = getattr(message, "after", None)
    if before is not None and not before.begun:
        raise SkippedBatchError(
            f"The batch up to offset {before.offset} of partition {message.partition} was delivered and not folded; "
            "the worker ends, is to be started again, and reads it again."
        )
    message.after, message.begun = None, True
