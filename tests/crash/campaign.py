"""Feed, kill, wait until all is answered, stop, count: one campaign and its report."""

import random
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import httpx

from streams.kafka.topic_setup import ensure_topics
from streams.settings import Settings
from tests.crash import count
from tests.crash.acts import ACTS
from tests.crash.faults import Faults
from tests.crash.feed import Feed
from tests.crash.report import Report
from tests.crash.roles import Deployment, Role

_TICK_SECONDS: Final = 0.05
_START_SECONDS: Final = 90.0
_DRAIN_SECONDS: Final = 180.0
_LIFE_SECONDS: Final = 8.0
"""How long events come after an act."""
_HTTP_CLIENTS: Final = 4
_CALM_CHECKS: Final = 40


@dataclass
class Campaign:
    """One run on one deployment.

    Args:
        deployment: not started yet.
        rate: events a second.
        seed: of the faults and of the feed.
        cold: at the end also recover every history into an empty disk.
        passing: users do not come back.
        acts: names of tests.crash.acts.ACTS, done one after another when all is counted.
    """

    deployment: Deployment
    rate: float
    seed: int
    workers: int = 2
    cold: bool = True
    passing: bool = False
    acts: Sequence[str] = ()
    say: Callable[[str], None] = lambda line: print(line, file=sys.stderr, flush=True)  # noqa: T201 - for people

    def run(self, faults: Iterator[str], kills: int, seconds: float) -> Report:
        """Inject so many faults in about so many seconds, then count."""
        report = Report(self.seed)
        settings = self._settings()
        try:
            self._start(settings)
            feed = Feed(settings, self.rate, self.seed, passing=self.passing)
            injected = Faults(self.deployment, random.Random(self.seed), settings, feed)
            feed.start()
            self._inject(injected, faults, kills, seconds)
            self._settle(injected)
            feed.stop()
            self.say(f"fed {feed.sent} events; waiting until all is answered and learned")
            left = self._drain(settings)
            self._count(report, settings, feed, injected)
            if left:
                report.problems.append(f"after {_DRAIN_SECONDS:.0f} s: {left}")
            report.figures["longest_clean_stop_seconds"] = self._longest_stop()
            for name in self.acts:
                self._live_on(name, report, settings)
        finally:
            self.deployment.stop()
        return report

    def _settings(self) -> Settings:
        environment = self.deployment.environment
        return Settings(
            broker=environment["HEADRACE_BROKER"],
            prefix=environment["HEADRACE_PREFIX"],
            data_dir=self.deployment.folder,
            http={"port": 0},  # type: ignore[arg-type] # pydantic makes it one
        )

    def _start(self, settings: Settings) -> None:
        broker = self.deployment.broker
        if broker:
            broker.start()
            self._until(lambda: _kafka_answers(settings), _START_SECONDS, "Kafka answers")
        ensure_topics(settings)
        for role in (self.deployment.triton, self.deployment.learner, *self.deployment.workers[: self.workers]):
            if role:
                role.start()
        self._until(
            lambda: all(self.deployment.ready(worker) for worker in self.deployment.workers[: self.workers]),
            _START_SECONDS,
            "all workers are ready",
        )
        if self.deployment.triton:
            triton = self.deployment.triton
            self._until(lambda: triton.descendant("triton_python_b") is not None, _START_SECONDS, "Triton runs")

    def _inject(self, injected: Faults, faults: Iterator[str], kills: int, seconds: float) -> None:
        began, done = time.monotonic(), 0
        rng = random.Random(self.seed + 1)
        due = began + rng.uniform(0.3, 1.0) * seconds / kills
        while done < kills and time.monotonic() - began < 2 * seconds:
            self._tick(injected)
            if time.monotonic() < due:
                continue
            name = next(faults)
            if injected.inject(name):
                done += 1
                self.say(f"{time.monotonic() - began:7.1f} s  {done:4}  {name}")
                due = began + (done + rng.uniform(0.3, 1.0)) * seconds / kills

    def _settle(self, injected: Faults) -> None:
        """Wait until every fault has ended and somebody answers again."""
        began = time.monotonic()
        while time.monotonic() - began < _DRAIN_SECONDS:
            self._tick(injected)
            if not injected.pending and all(role.pid for role in self.deployment.roles if role.wanted):
                return

    def _drain(self, settings: Settings, *, learned: bool = True) -> str:
        """Wait until everything is committed, and learned; return what is not."""
        deadline = time.monotonic() + _DRAIN_SECONDS
        left = ""
        ends = None
        while time.monotonic() < deadline:
            for _ in range(10):
                self._tick(None)
            try:
                ends = ends or count.ends(settings)
                uncommitted = count.uncommitted(settings, ends)
                learner = self.deployment.learner if learned else None
                unlearned = ends.events - count.learned_count(settings.data_dir) if learner else 0
                if not uncommitted and unlearned <= 0:
                    return ""
                left = f"uncommitted by partition {uncommitted}, not learned {unlearned}"
            except Exception as exc:  # noqa: BLE001 - Kafka may still be starting
                left = str(exc)
            if left != getattr(self, "_left", ""):
                self._left = left
                self.say(left)
        return left

    def _count(self, report: Report, settings: Settings, feed: Feed, injected: Faults) -> None:
        events = count.accepted(settings, feed.start_ms)
        places = {"changelog": count.histories_in_changelog(settings, feed.start_ms)}
        places["workers"] = self._histories_over_http(events, feed.start_ms)
        if self.cold:
            places["recovered"] = self._recovered(events, feed.start_ms)
        report.faults = dict(sorted(injected.done.items()))
        report.figures["kills"] = sum(injected.done.values())
        report.figures["dead_letters_missing"] = len(feed.rejected - count.dead_lettered(settings))
        report.histories(events, {p: count.judge(events, found, self._history_length) for p, found in places.items()})
        logs = [worker.log_file for worker in self.deployment.workers]
        report.answers(events, count.answers(settings, events), injected, logs)
        report.judge()
        if feed.sent != len(events):
            report.problems.append(f"the feed sent {feed.sent} events and Kafka has {len(events)}")
        with_learner = self.deployment.learner is not None
        report.learned(events, count.learned(settings, events), with_learner=with_learner)

    def _live_on(self, name: str, report: Report, settings: Settings) -> None:
        """End a life, and count what comes of the events of the next one, of the same users."""
        self.say(f"then {name}")
        wanted = [worker for worker in self.deployment.workers if worker.wanted]
        starts, since = [worker.starts for worker in wanted], time.time()
        ACTS[name](self.deployment, settings)
        feed = Feed(settings, self.rate, self.seed + 1, passing=self.passing)
        feed.start()
        begun_anew = lambda: all(worker.starts > before for worker, before in zip(wanted, starts, strict=True))  # noqa: E731
        self._until(begun_anew, _START_SECONDS, "the workers have noticed")
        self._until(lambda: all(map(self.deployment.ready, wanted)), _START_SECONDS, "all workers are ready")
        until = time.monotonic() + _LIFE_SECONDS
        self._until(lambda: time.monotonic() > until, 2 * _LIFE_SECONDS, "the clock goes on")
        feed.stop()
        left = self._drain(settings, learned=False)
        events = count.accepted(settings, feed.start_ms)
        places = [
            count.histories_in_changelog(settings, feed.start_ms),
            self._histories_over_http(events, feed.start_ms),
        ]
        verdicts = (count.judge(events, found, self._history_length) for found in places)
        report.life(name, left, len(events), verdicts, count.answers(settings, events, since).unanswered)

    @property
    def _history_length(self) -> int:
        return int(self.deployment.environment["HEADRACE_STATE__HISTORY_LENGTH"])

    def _histories_over_http(self, events: count.Accepted, start_ms: int) -> count.Histories:
        """Ask one worker for every user; it asks the others for theirs."""
        wanted = [worker for worker in self.deployment.workers if worker.wanted]
        for _ in range(_CALM_CHECKS):  # a rebalance may be about to begin
            self._tick(None)
            self._until(lambda: all(map(self.deployment.ready, wanted)), _START_SECONDS, "all workers are ready")
        worker = wanted[0]
        with (
            httpx.Client(base_url=self.deployment.api(worker), timeout=30, trust_env=False) as client,
            ThreadPoolExecutor(_HTTP_CLIENTS) as pool,
        ):

            def history(user: str) -> list[int]:
                answer = client.get(f"/v1/users/{user}/history").raise_for_status().json()
                return [entry["timestamp"] - start_ms for entry in answer["interactions"]]

            return dict(zip(events.by_user, pool.map(history, events.by_user), strict=True))

    def _recovered(self, events: count.Accepted, start_ms: int) -> count.Histories:
        """Stop all workers, take their disks, let one recover everything from the changelog."""
        for worker in self.deployment.workers:
            worker.wanted = False
            worker.send(signal.SIGTERM)
        self._until(lambda: not any(w.child for w in self.deployment.workers), _START_SECONDS, "the workers have ended")
        for worker in self.deployment.workers:
            self.deployment.wipe(worker)
        fresh: Role = self.deployment.workers[0]
        fresh.start()
        self._until(lambda: self.deployment.ready(fresh), _START_SECONDS, "a worker has recovered")
        return self._histories_over_http(events, start_ms)

    def _longest_stop(self) -> float:
        return round(max((s for worker in self.deployment.workers for s in worker.stop_seconds), default=0.0), 2)

    def _until(self, holds: Callable[[], bool], seconds: float, what: str) -> None:
        deadline = time.monotonic() + seconds
        while not holds():
            if time.monotonic() > deadline:
                raise TimeoutError(f"{what}: not so after {seconds:.0f} s; see the logs in {self.deployment.folder}")
            self._tick(None)

    def _tick(self, injected: Faults | None) -> None:
        """Let the supervisor and the faults do what is due, then give the processors to others."""
        self.deployment.keep()
        if injected:
            injected.tick()
        time.sleep(_TICK_SECONDS)


def _kafka_answers(settings: Settings) -> bool:
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import AdminClient

    from streams.kafka.clients import librdkafka_config

    try:
        return bool(AdminClient(librdkafka_config(settings)).list_topics(timeout=2).brokers)
    except KafkaException:
        return False
