"""The whole loop on this machine, live: a real shop's past is learned, then what follows is streamed and answered."""

import json
import shutil
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import islice
from pathlib import Path
from string import capwords
from typing import Any, Final
from urllib.parse import quote

import httpx
import psutil
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console

from streams.commands.ask import WorkerApi
from streams.demo.observe import Answer, Event, Observations, Observer, stamp_by_broker
from streams.demo.report import CONTENDERS, Remembered, percentiles, report
from streams.demo.screen import SHOWN_LISTS, Rate, Screen, Shown, View, screen
from streams.demo.summary import shortfall, summary
from streams.errors import HeadraceError, StartError
from streams.files.event_files import SHOP, FileRow, open_events, read_rows
from streams.files.pace import Pace
from streams.files.replay import replay
from streams.files.sender import EventSender
from streams.kafka.topic_setup import ensure_topics
from streams.local.processes import stop_signals
from streams.local.up import Plan, plan, prepare
from streams.logs import configure_logs
from streams.settings import Settings

_TRICKLE: Final = Pace(per_second=20)
"""While the learner is busy with the past, so that the first users need not wait for it."""
_REFRESH_SECONDS: Final = 0.5
_SCRAPE_SECONDS: Final = 2.0
_READY_SECONDS: Final = 120.0
_LEARN_SECONDS: Final = 180.0
_SETTLE_SECONDS: Final = 60.0
_READERS: Final = 4
_SHOWN_NAMES: Final = 4


def run_demo(
    settings: Settings, *, keep: bool, report: str | None, minutes: float, speed: str, events: int | None, past: int
) -> int:
    """Run the demo; return its exit code: 1 when an event is lost, doubled or unanswered, 130 when it was stopped.

    Args:
        settings: what is not about ports and folders is taken from here.
        keep: stay up after the stream, until told to stop.
        report: file for the figures, JSON.
        minutes: how long to stream.
        speed: how fast, see Pace.parse.
        events: stop after so many.
        past: lines of the shop's file that are learned, and folded into the histories, before the stream begins.

    Raises:
        SettingsError: the speed is none.
        StartError: a role cannot start, or the report cannot be written.
    """
    pace = Pace.parse(speed)
    if report:
        _refuse_unwritable(Path(report))
    configure_logs(settings.log.model_copy(update={"level": "error"}))  # the screen has the terminal
    folder = settings.data_dir / "demo"
    shutil.rmtree(folder, ignore_errors=True)  # figures are of this run only
    planned = plan(
        settings.model_copy(update={"data_dir": folder}),
        learner_arguments=("--backfill", SHOP, "--until-line", str(past)),
        own_servers=True,
    )
    console = Console()
    with stop_signals() as stop:
        demo = _Demo(planned, screen(console), stop, past)
        try:
            figures = demo.run(pace, minutes * 60, events)
            if figures is None:
                return 130
            if report:
                Path(report).write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
            console.print(summary(figures, demo.past, demo.present), highlight=False)
            if wrong := shortfall(figures):
                console.print(f"[bold red]{wrong}.[/] The logs of this run are in {folder / 'logs'}.", highlight=False)
            if keep:
                console.print(f"Still up: {planned.api}/docs, until Ctrl-C.", highlight=False)
                demo.stay()
        finally:
            demo.close()
    return 1 if wrong else 0


class _StoppedError(HeadraceError):
    """The user has seen enough."""


class _Demo:
    """One run."""

    def __init__(self, planned: Plan, shown_on: Screen, stop: threading.Event, past: int) -> None:
        self._plan = planned
        self._settings = planned.settings
        self._screen = shown_on
        self._stop = stop
        self._supervisor = planned.supervisor()
        self._started_ms = psutil.Process().create_time() * 1000
        self._view = View(
            addresses={"API": f"{planned.api}/docs", **{f"{n} metrics": a for n, a in planned.metrics.items()}}
        )
        self._titles: dict[str, str] = {}
        self._observer: Observer | None = None
        self._event_rate, self._list_rate = Rate(), Rate()
        self._http = httpx.Client(timeout=5.0, trust_env=False)
        self._scraped = 0.0
        path, self._columns = open_events(SHOP)
        self._path = path
        self.past = (1, past)
        """First and last line of the shop's file."""
        self.present = (past + 1, past)
        self._streamed = 0

    def run(self, pace: Pace, seconds: float, events: int | None) -> dict[str, Any] | None:
        """Go through all phases; return the figures, None when the user stopped it."""
        try:
            with self._screen:
                self._start()
                rows = self._recall_past()
                self._stream(rows, pace, seconds, events)
                self._settle()
                return self._figures()
        except _StoppedError:
            return None

    def stay(self) -> None:
        """Keep the roles running until told to stop."""
        while not self._stop.wait(_REFRESH_SECONDS):
            self._supervisor.check()

    def close(self) -> None:
        """Stop everything."""
        if self._observer:
            self._observer.stop()
        self._supervisor.stop()

    def _start(self) -> None:
        self._view.phase = "starting Kafka, Triton, worker and learner"
        self._refresh()
        prepare(self._plan)
        self._supervisor.start()
        self._supervisor.wait_until_ready(["broker"], _READY_SECONDS, self._refresh)
        ensure_topics(self._settings)
        stamp_by_broker(self._settings)
        self._observer = Observer(self._settings)

    def _recall_past(self) -> Iterator[FileRow]:
        """Put the past into the histories; return the rows that follow it."""
        self._view.phase = f"the shop's past, lines 1 to {self.past[1]:,}, goes into the histories"
        sender = EventSender(self._settings, linger_ms=5.0)
        rows = read_rows(self._path, self._columns)
        known = (self._named(row) for row in islice(rows, self.past[1]) if row.user_id)
        for done in replay(known, sender, Pace(), stop=self._stop, history=True):
            if done.sent % 2000 == 0:
                self._refresh()
        sender.flush()
        self._supervisor.wait_until_ready(["triton", "worker"], _READY_SECONDS, self._refresh)
        return rows

    def _stream(self, rows: Iterator[FileRow], pace: Pace, seconds: float, events: int | None) -> None:
        sender = EventSender(self._settings)
        done, failed = threading.Event(), []
        ready = threading.Event()
        limited = islice((self._named(row) for row in rows if row.user_id), events)  # the others are no events

        def send() -> None:
            try:
                for _ in replay(_until(ready, limited, done), sender, _TRICKLE, stop=done):
                    pass
                began = time.monotonic()
                for _ in replay(limited, sender, pace, stop=done):
                    if time.monotonic() - began > seconds:
                        break
                sender.flush()
            except HeadraceError as exc:
                failed.append(exc)
            finally:
                done.set()

        thread = threading.Thread(target=send, name="stream", daemon=True)
        self._view.phase = "first users are answered while the learner learns the past"
        thread.start()
        try:
            self._supervisor.wait_until_ready(["learner"], _LEARN_SECONDS, self._refresh)
            ready.set()
            self._view.phase = f"streaming what follows, from line {self.present[0]:,} on"
            while not done.wait(0.05):
                self._refresh()
        finally:
            done.set()
            thread.join()
        if failed:
            raise failed[0]
        self.present = (self.present[0], sender.done.line)
        self._streamed = sender.done.sent

    def _settle(self) -> None:
        """Wait until the last event is answered and the learner has learned it."""
        self._view.phase = "waiting for the last answers"
        seen = self._observed
        deadline = time.monotonic() + _SETTLE_SECONDS
        last: dict[int, int] = {}
        while time.monotonic() < deadline:
            self._refresh()
            for event in seen.events[-2000:]:
                if event.user_id and not event.history:
                    last[event.partition] = max(last.get(event.partition, -1), event.offset)
            until = seen.generations[-1].until if seen.generations else {}
            # The topics are read a little later than they are written: on a busy machine the last events were missing.
            if seen.streamed == self._streamed and all(
                until.get(partition, 0) > offset for partition, offset in last.items()
            ):
                return
            time.sleep(0.05)

    def _figures(self) -> dict[str, Any]:
        self._view.phase = "comparing the histories with the topics"
        self._refresh(now=True)
        states = self._states()
        quality, outcomes = self._quality()
        figures = report(
            self._observed,
            started_ms=int(self._started_ms),
            settings=self._settings.state,
            states=states,
            quality=quality,
        )
        return figures | {"quality_outcomes": outcomes, "past_lines": self.past, "streamed_lines": self.present}

    def _states(self) -> dict[str, list[Remembered]]:
        users = sorted({event.user_id for event in self._observed.events if event.user_id})

        api = WorkerApi(self._settings.http)

        def history(user_id: str) -> list[Remembered]:
            found = api.get(f"/v1/users/{quote(user_id, safe='')}/history")["interactions"]
            return [(entry["item_id"], entry["type"], entry["timestamp"]) for entry in found]

        with ThreadPoolExecutor(_READERS) as pool:
            return dict(zip(users, pool.map(history, users), strict=True))

    def _quality(self) -> tuple[dict[str, dict[str, float]], int]:
        """Return prequential quality by contender, and the number of outcomes learned from the stream."""
        response = self._http.get(self._plan.metrics["learner"])
        quality: dict[str, dict[str, float]] = {}
        learned = 0
        for family in text_string_to_metric_families(response.text):
            for sample in family.samples:
                if sample.name == "headrace_prequential_quality" and sample.labels["model"] in CONTENDERS:
                    quality.setdefault(sample.labels["model"], {})[sample.labels["metric"]] = sample.value
                elif sample.name == "headrace_learned_examples_total":
                    learned = int(sample.value)
        return quality, learned

    @property
    def _observed(self) -> Observations:
        assert self._observer
        return self._observer.seen

    def _named(self, row: FileRow) -> FileRow:
        if row.item and row.user_id:
            self._titles.setdefault(row.item.item_id, row.item.title)
        return row

    def _refresh(self, *, now: bool = False) -> None:
        if self._stop.is_set():
            raise _StoppedError("stopped")
        clock = time.time() - self._started_ms / 1000
        if not now and clock - self._view.seconds < _REFRESH_SECONDS:
            return
        self._supervisor.check()
        view = self._view
        view.seconds = clock
        view.restarts = self._supervisor.restarts
        if self._observer:
            self._look(view)
        self._screen.show(view)

    def _look(self, view: View) -> None:
        seen = self._observed
        view.events, view.lists, view.rejected = seen.streamed, len(seen.answers), len(seen.rejected)
        view.events_per_second = self._event_rate.of(view.events)
        view.lists_per_second = self._list_rate.of(view.lists)
        recent = list(seen.recent)
        view.latency_ms = percentiles([answer.written_ms - event.written_ms for event, answer in recent], (50, 95, 99))
        view.rungs = dict(seen.rungs)
        if recent:
            view.generations = len({answer.generation for answer in seen.answers})
            view.generation = max(answer.generation for _, answer in recent)  # a lower rung may have none
            view.version = max(answer.version for _, answer in recent)
            newest = {event.user_id: (event, answer) for event, answer in reversed(recent)}
            view.shown = [self._shown(event, answer) for event, answer in islice(newest.values(), SHOWN_LISTS)][::-1]
        if view.seconds - self._scraped > _SCRAPE_SECONDS:
            self._scraped = view.seconds
            with suppress(httpx.HTTPError):
                view.quality, view.outcomes = self._quality()

    def _shown(self, event: Event, answer: Answer) -> Shown:
        def name(item_id: str) -> str:
            return capwords(self._titles.get(item_id, item_id))

        names = [name(item_id) for item_id in answer.items[:_SHOWN_NAMES]]
        return Shown(event.user_id, f"{event.type} {name(event.item_id)}", names)


def _until(ready: threading.Event, rows: Iterator[FileRow], done: threading.Event) -> Iterator[FileRow]:
    """Yield rows until ready; the next one is then still to be taken from them."""
    while not ready.is_set() and not done.is_set() and (row := next(rows, None)):
        yield row


def _refuse_unwritable(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    except OSError as exc:
        raise StartError(f"The report {path} cannot be written ({exc.strerror}); choose another file.") from exc
