"""a worker's topics -> whether they are still those that its states and tables were made of; asked at the start and on.

A worker that goes on beside a topic that was made anew takes its events for events that it has read, and drops them.
"""

import asyncio
from pathlib import Path
from typing import Final

import structlog

from streams.errors import StartError
from streams.kafka.anew import IDS, clear_tables, make_states_anew
from streams.kafka.identity import OtherTopicError, changed, identities, remember, remembered, topic_ids
from streams.kafka.origins import Parted, parted
from streams.kafka.positions import places
from streams.kafka.topic_check import moved_users
from streams.settings import Settings
from streams.topics import CHANGELOG

_log = structlog.get_logger()
_LOOK_SECONDS: Final = 10.0
_WATCHED: Final = ("interactions", "impressions", CHANGELOG, "rows")
_POSITIONED: Final = ("interactions", "impressions")
"""Whose offsets are in the states."""
_BY_ITSELF: Final = "HEADRACE_KAFKA__ON_NEW_TOPICS=anew does so by itself."


class TopicGuard:
    """Of one worker.

    Args:
        settings: all of them.
        folder: of the worker, held by it.
    """

    def __init__(self, settings: Settings, folder: Path) -> None:
        self._settings = settings
        self._folder = folder
        self._anew = settings.kafka.on_new_topics == "anew"
        self._ids: dict[str, str] = {}
        self._told: set[tuple[str, int]] = set()

    def check(self) -> None:
        """Make sure of all topics before the worker starts, or make anew what was made of others.

        Raises:
            StartError: a topic is not the one that something was made of; it says what to do.
        """
        if weights := parted(self._settings, "weights"):
            raise OtherTopicError(other_rows(self._settings, weights))
        why = self._parted_states() or self._lost_end()
        if why and not self._anew:
            raise OtherTopicError(why)
        if why:
            _log.warning("states_made_anew", why=why)
            make_states_anew(self._settings)
        self._ids = topic_ids(identities(self._settings, _WATCHED))
        self._check_tables()

    async def watch(self) -> None:
        """Look now and then, for ever; a topic must be found changed twice, because brokers that start know little.

        Raises:
            OtherTopicError: a topic was made anew or deleted, or its end was lost.
        """
        doubt = False
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            try:
                why = await asyncio.to_thread(self._look)
            except StartError:
                continue  # a Kafka that is away is noticed by whoever reads and sends
            if why and doubt:
                raise OtherTopicError(why)
            doubt = why is not None

    def _look(self) -> str | None:
        if new := changed(self._ids, topic_ids(identities(self._settings, _WATCHED))):
            return f"{self._named(new)} was made anew or deleted while the worker ran; the worker ends."
        return self._lost_end()

    def _parted_states(self) -> str | None:
        states = parted(self._settings, CHANGELOG)
        if states is None:
            return None
        topics = self._settings.topics
        if not states.new:
            now = identities(self._settings, ["interactions"])["interactions"].partitions
            return f"Topic {topics.changelog}: {moved_users(self._settings, states.partitions, now)}"
        return (
            f"{self._named(states.new)} was made anew, and the states in {topics.changelog} are of the one before: new "
            "events would be taken for events that were read already. Stop all workers and run `headrace reset "
            f"--state`, which gives up the histories and reads {topics.interactions} from its beginning; {_BY_ITSELF}"
        )

    def _lost_end(self) -> str | None:
        for place in places(self._settings, _POSITIONED):
            if place.read > place.end:
                return (
                    f"Partition {place.partition} of {place.topic} ends at {place.end}, and the workers have read up "
                    f"to {place.read}: the brokers have lost its newest events, and new ones would be taken for them. "
                    "Stop all workers and run `headrace reset --state`, which gives up the histories and reads what is "
                    f"there from its beginning; {_BY_ITSELF}"
                )
            if place.read < place.begin and (place.topic, place.partition) not in self._told:
                self._told.add((place.topic, place.partition))
                _log.error(
                    "events_expired_unread", topic=place.topic, partition=place.partition,
                    events=place.begin - place.read, why="The topic's retention is shorter than the workers were away.",
                )  # fmt: skip
        return None

    def _check_tables(self) -> None:
        """Make sure that the tables on disk are copies of this changelog."""
        ids = {CHANGELOG: self._ids.get(CHANGELOG, "")}
        if changed(remembered(self._folder / IDS), ids):
            why = (
                f"The tables in {self._folder} are copies of another {self._settings.topics.changelog} than this one: "
                "it was made anew, or this is another Kafka. Run `headrace reset --tables`, and they are made anew "
                f"from this one; or set HEADRACE_BROKER back. {_BY_ITSELF}"
            )
            if not self._anew:
                raise OtherTopicError(why)
            _log.warning("tables_made_anew", why=why)
            clear_tables(self._folder)
        remember(self._folder / IDS, ids)

    def _named(self, names: "list[str] | tuple[str, ...]") -> str:
        return " and ".join(self._settings.topics.named(name) for name in names)


def other_rows(settings: Settings, weights: Parted) -> str:
    """Return what to do when the weights are of other rows than there are now."""
    made_anew = " and ".join(settings.topics.named(name) for name in weights.new)
    return (
        f"{made_anew} was made anew, and {settings.topics.weights} is of the one before: each row of the model would "
        "show another item than it was learned of. Stop all roles, run `headrace reset --model` and start the learner; "
        "HEADRACE_KAFKA__ON_NEW_TOPICS=anew has the learner do so by itself."
    )
