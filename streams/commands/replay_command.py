"""`headrace replay`: a file or a topic goes in again, with a progress bar."""

import sys
import time
from collections.abc import Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

from streams.errors import RejectedEventError, SettingsError
from streams.files.event_files import Columns, FileRow, count_rows, open_events, read_rows
from streams.files.pace import Pace
from streams.files.replay import EventSender, Replayed, between, replay, resume_points, topic_rows
from streams.local.processes import stop_signals
from streams.records import epoch_ms
from streams.settings import Settings

_LINGER_MS = 5.0
_SHOWN_SECONDS = 0.2


def run_replay(
    settings: Settings,
    file: str | None,
    *,
    topic: str | None,
    columns: str | None,
    speed: str,
    since: str | None,
    until: str | None,
    resume: bool,
    as_history: bool,
) -> int:
    """Replay what the options name; return 1 when Kafka refused events.

    Raises:
        SettingsError: the options contradict each other or cannot be read.
        StartError: the file or Kafka cannot be used.
    """
    if (file is None) == (topic is None):
        raise SettingsError("replay takes a FILE or --topic NAME: one of the two.")
    if topic is not None and columns:
        raise SettingsError("--columns is for files; the records of a topic are events already.")
    pace, since_ms, until_ms = Pace.parse(speed), _time("--from", since), _time("--until", until)
    sender = EventSender(settings, linger_ms=0.0 if pace.per_second else _LINGER_MS)
    points: dict[int, int] = {}
    total: int | None = None
    rows: Iterator[FileRow]
    if file is not None:
        path, mapping = open_events(file, Columns.parse(columns) if columns else None)
        points = resume_points(settings, path) if resume else {}
        total = count_rows(path)
        rows = between(read_rows(path, mapping), since_ms, until_ms)
    else:
        rows = topic_rows(settings, str(topic), since_ms, until_ms)
    began = time.monotonic()
    with stop_signals() as stop:
        _show(replay(rows, sender, pace, stop=stop, history=as_history, sent_before=points), total)
        sender.flush()
        stopped = stop.is_set()
    _summarise(sender.done, time.monotonic() - began, stopped=stopped)
    return int(sender.done.refused > 0)


def _show(steps: Iterator[Replayed], total: int | None) -> None:
    columns = (
        SpinnerColumn(), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]:,.0f} events/s"),
        TimeRemainingColumn(),
    )  # fmt: skip
    began = time.monotonic()
    shown = 0.0
    with Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task("replay", total=total, rate=0.0)
        for done in steps:
            now = time.monotonic()
            if now - shown > _SHOWN_SECONDS:
                shown = now
                progress.update(task, completed=done.line or done.sent, rate=done.sent / max(now - began, 1e-9))


def _summarise(done: Replayed, seconds: float, *, stopped: bool) -> None:
    console = Console(highlight=False, soft_wrap=True)
    console.print(
        f"{done.acknowledged - done.items:,} events and {done.items:,} items acknowledged in {seconds:.1f} s "
        f"({done.sent / max(seconds, 1e-9):,.0f} events/s)"
    )
    if done.refused:
        console.print(f"{done.refused:,} refused by Kafka, the last because: {done.problem}")
    if stopped:
        console.print(f"Stopped at line {done.line:,}; --resume goes on from here.")


def _time(option: str, text: str | None) -> int | None:
    if text is None:
        return None
    try:
        return epoch_ms(int(text) if text.isdecimal() else text)
    except RejectedEventError as exc:
        raise SettingsError(f"{option} {text} is no time; write 2011-12-01T10:00:00Z or epoch milliseconds.") from exc
