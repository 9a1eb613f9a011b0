"""rows -> interactions and items: events go in again, as fast as they happened or faster.

What a worker would not take is not sent: it is counted, and the first of it is told.
"""

import threading
import time
from collections.abc import Iterable, Iterator

from streams.errors import RejectedEventError
from streams.files.event_files import FileRow
from streams.files.outcome import Replayed
from streams.files.pace import Pace
from streams.files.sender import EventSender
from streams.files.topic_rows import SentBefore
from streams.files.validate import Acceptance


def replay(
    rows: Iterable[FileRow],
    sender: EventSender,
    pace: Pace,
    *,
    stop: threading.Event,
    history: bool = False,
    sent_before: SentBefore | None = None,
) -> Iterator[Replayed]:
    """Send rows at their pace; yield what was done after each, so that the caller can show it.

    Args:
        rows: see between and read_rows.
        sender: where they go.
        pace: how fast.
        stop: ends the replay when it is set.
        history: the rows are the past: folded into the histories, not answered.
        sent_before: what an interrupted replay of these rows has sent.
    """
    began, first, count = time.monotonic(), None, 0
    acceptance, done = Acceptance(sender.settings.state), sender.done
    for position, row in enumerate(rows, start=1):
        try:
            interaction = acceptance.accept(row)
        except RejectedEventError as exc:
            done.reject(row, exc)
            continue
        key = interaction.user_id.encode()
        if sent_before and sent_before.holds(sender.partition_of(key), position, row.value):
            done.before += 1
            done.passed(row)
            continue
        at = int(row.timestamp or interaction.timestamp)
        first = at if first is None else first
        _wait_until(began + pace.due_seconds(count, at - first), sender, stop)
        if stop.is_set():
            return
        if row.item:
            sender.describe(row.item)
        sender.send(row.value, key, history=history or row.history, position=position)
        count += 1
        if count % 64 == 0:
            sender.poll()
        done.noted += bool(row.notes)
        done.passed(row)
        yield done


def between(rows: Iterable[FileRow], since_ms: int | None, until_ms: int | None) -> Iterator[FileRow]:
    """Yield the rows from one event time on and before another; without a readable time only when neither is set."""
    for row in rows:
        if row.timestamp is None:
            if since_ms is None and until_ms is None:
                yield row
        elif (since_ms is None or row.timestamp >= since_ms) and (until_ms is None or row.timestamp < until_ms):
            yield row


def _wait_until(due: float, sender: EventSender, stop: threading.Event) -> None:
    while (left := due - time.monotonic()) > 0 and not stop.is_set():
        sender.poll()
        stop.wait(min(left, 0.5))
