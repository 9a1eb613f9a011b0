"""`headrace replay`: a file or a topic goes in again, with a progress bar."""

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

from streams.errors import SettingsError
from streams.files.cells import moment
from streams.files.columns import Columns, ga4_hint
from streams.files.event_files import EventFile, FileRow, open_events
from streams.files.order import in_event_order, runs_back
from streams.files.outcome import Replayed
from streams.files.pace import Pace
from streams.files.progress import Progress as Reached
from streams.files.progress import ProgressLog
from streams.files.readers import count_rows, line_of
from streams.files.replay import between, replay
from streams.files.sender import EventSender
from streams.files.topic_rows import SentBefore, topic_rows
from streams.local.processes import stop_signals
from streams.settings import Settings

_LINGER_MS = 5.0
_SHOWN_SECONDS = 0.2
_SAVED_SECONDS = 0.5


@dataclass
class _Run:
    """What is replayed, and where its progress is kept."""

    rows: Iterator[FileRow]
    total: int | None = None
    left_out: dict[str, int] | None = None
    log: ProgressLog | None = None
    reached: Reached | None = None
    """How far it came before; None for a topic."""
    end_mark: str = ""
    """Of the whole file, where its rows are not sent in its order."""

    def save(self, done: Replayed, *, finished: bool) -> None:
        """Keep how far it came."""
        if self.log and self.reached and (done.mark or self.end_mark):
            before = self.reached
            self.reached = self.log.save(Reached(
                before.target, before.plan, self.end_mark or done.mark, before.points | done.points, before.partitions,
                finished, name=before.name,
            ))  # fmt: skip


def run_replay(
    settings: Settings,
    file: str | None,
    *,
    topic: str | None,
    columns: str | None,
    types: str | None,
    speed: str,
    since: str | None,
    until: str | None,
    resume: bool,
    as_history: bool,
) -> int:
    """Replay what the options name; return 1 when a worker would not take some of it, or Kafka did not.

    Raises:
        SettingsError: the options contradict each other or cannot be read.
        StartError: the file or Kafka cannot be used.
    """
    if (file is None) == (topic is None):
        raise SettingsError("replay takes a FILE or --topic NAME: one of the two.")
    if topic is not None and (columns or types or resume):
        raise SettingsError("--columns, --types and --resume are for files; the records of a topic are events already.")
    pace, span = Pace.parse(speed), (_time("--from", since), _time("--until", until))
    console = Console(highlight=False, soft_wrap=True)
    sender = EventSender(settings, linger_ms=0.0 if pace.per_second else _LINGER_MS)
    sent_before = None
    if file is not None:
        path, mapping = open_events(file, Columns.parse(columns, types))
        run = _of_file(settings, path, mapping, span, sender, as_history=as_history, say=console.print)
        sent_before = _before(run, settings, sender, console.print, resume=resume)
    else:
        run = _Run(topic_rows(settings, str(topic), *span))
    began = time.monotonic()
    with stop_signals() as stop:
        stopped = False
        try:
            _show(replay(run.rows, sender, pace, stop=stop, history=as_history, sent_before=sent_before), run)
            stopped = stop.is_set()
            sender.flush()
        finally:
            run.save(sender.done, finished=not stopped and sys.exc_info()[0] is None)
    _summarise(sender.done, time.monotonic() - began, run.left_out or {}, stopped=stopped)
    return int(sender.done.refused > 0 or sender.done.rejected.total() > 0)


def _of_file(
    settings: Settings,
    path: Path,
    columns: Columns,
    span: tuple[int | None, int | None],
    sender: EventSender,
    *,
    as_history: bool,
    say: Callable[[str], None],
) -> _Run:
    """Open a file. The past is sent oldest first, so that nothing of it is too late for its user."""
    opened = EventFile(path, columns)
    if opened.layout.sentence:
        say(escape(opened.layout.sentence))
    rows: Iterator[FileRow] = between(opened, *span)
    end_mark = ""
    if as_history and runs_back((row.user_id, row.timestamp) for row in EventFile(path, columns)):
        say("The file does not run from old to new: its rows are sent in the order of their times.")
        found: Sequence[FileRow] = list(rows)
        end_mark = max(found, key=lambda row: row.line).mark if found else ""
        rows = iter(in_event_order(found))
    plan = json.dumps([columns.fingerprint, *span, as_history, bool(end_mark)])
    target = f"{sender.cluster}/{sender.topic}"
    log = ProgressLog(settings.data_dir / "replays")
    log.tidy()
    found_before = log.find(path, target, plan)
    if found_before and end_mark and found_before.mark != end_mark:
        found_before = None  # it has grown, and what came has its place among what was
    reached = found_before or Reached(target, plan, "", {}, sender.partitions, finished=False)
    return _Run(rows, count_rows(path), opened.left_out, log, reached, end_mark)


def _before(
    run: _Run, settings: Settings, sender: EventSender, say: Callable[[str], None], *, resume: bool
) -> SentBefore | None:
    """Return what of the file was sent before, when it is to be gone on from; tell it, when it is not."""
    reached = run.reached
    assert reached is not None
    known = bool(reached.mark)
    line = line_of(reached.mark)
    if resume and known:
        return SentBefore(reached, settings, sender.topic, sender.partitions)
    if resume:
        say("No replay of this content is known here: it begins with its first line.")
    elif known and reached.finished:
        when = datetime.fromtimestamp(reached.at / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")
        say(f"This content was replayed up to line {line:,} at {when}; its events go again, under the same ids. "
            "--resume sends only what follows.")  # fmt: skip
    elif known:
        say(f"A replay of this content was interrupted about line {line:,}: its events go again, under the same ids. "
            "--resume goes on from there.")  # fmt: skip
    run.reached = Reached(reached.target, reached.plan, "", {}, sender.partitions, finished=False, name=reached.name)
    return None


def _show(steps: Iterator[Replayed], run: _Run) -> None:
    columns = (
        SpinnerColumn(), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]:,.0f} events/s"),
        TimeRemainingColumn(),
    )  # fmt: skip
    began = time.monotonic()
    shown = saved = 0.0
    with Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task("replay", total=run.total, rate=0.0)
        for done in steps:
            now = time.monotonic()
            if now - shown > _SHOWN_SECONDS:
                shown = now
                progress.update(task, completed=done.line or done.sent, rate=done.sent / max(now - began, 1e-9))
            if now - saved > _SAVED_SECONDS:
                saved = now
                run.save(done, finished=False)


def _summarise(done: Replayed, seconds: float, left_out: dict[str, int], *, stopped: bool) -> None:
    console = Console(highlight=False, soft_wrap=True)
    console.print(
        f"{done.acknowledged:,} events and {done.items_acknowledged:,} items acknowledged in {seconds:.1f} s "
        f"({done.sent / max(seconds, 1e-9):,.0f} events/s)"
    )
    if done.before:
        console.print(f"{done.before:,} events were sent by the replay before.")
    if done.items_left:
        console.print(f"{done.items_left:,} items left as the catalogue has them: `items` speaks of them already.")
    for reason, count in left_out.items():
        console.print(escape(f"{count:,} rows left out: {reason}."))
    if done.noted:
        console.print(f"{done.noted:,} rows hold something odd; `headrace validate` says what.")
    if done.rejected:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in done.rejected.most_common())
        console.print(f"{done.rejected.total():,} rows not sent, because a worker would reject them ({reasons}):")
        for told in done.told:
            console.print(escape(f"  {told}"))
        for hint in filter(None, (ga4_hint(done.unknown_types), _late_hint(done))):
            console.print(hint)
    if done.refused:
        console.print(escape(f"{done.refused:,} refused by Kafka, the last because: {done.problem}"))
    if stopped:
        console.print(f"Stopped at line {done.line:,}; --resume goes on from here.")


def _late_hint(done: Replayed) -> str:
    return "What is too late as an event can be sent as the past: --as-history." if done.rejected["too_late"] else ""


def _time(option: str, text: str | None) -> int | None:
    if text is None:
        return None
    found, _ = moment(text)
    if found is None:
        raise SettingsError(f"{option} {text} is no time; write 2011-12-01T10:00:00Z or epoch milliseconds.")
    return found
