"""A. and A.1: records that are hard on a worker stop it neither for a moment nor for ever."""

import sys
from pathlib import Path

import pytest

from streams.agents.answers import MAX_OUTCOMES
from streams.decoding import decode_example
from streams.local.local_broker import LocalBroker
from tests.integration.real_worker import deployment, now_ms

pytestmark = pytest.mark.integration

MAX_MESSAGE_BYTES = 1_048_588
"""Kafka's own limit, which the tests' broker has too."""


def test_a_user_with_fifteen_thousand_events_in_one_fetch_is_folded_and_answered(
    broker: LocalBroker, tmp_path: Path
) -> None:
    """One `examples` record of 1.08 MiB was refused, and its partition read again for ever."""
    with deployment(broker.address, tmp_path) as real:
        began, events = now_ms(), 15_000
        for number in range(events):
            event = {
                "event_id": f"e{number}", "user_id": "crawler", "item_id": f"item-{number % 997}", "type": "view",
                "timestamp": began - events + number,
            }  # fmt: skip
            real.queue("interactions", "crawler", event)
        real.flush()
        last = real.click("crawler", "the last one")
        worker = real.start()
        assert worker.history("crawler", last)[-1] == "the last one"
        assert worker.history("quiet", real.click("quiet", "i1")) == ["i1"]
        answers, topic = real.topic("recommendations"), real.topic("examples")
        answers.find(lambda message: message.key() == b"quiet")
        values = [message.value() for message in topic.drain() if message.key() == b"crawler"]
        examples = [decode_example(value) for value in values]
        assert sum(len(example.outcomes) for example in examples) == events + 1
        assert max(len(example.outcomes) for example in examples) <= MAX_OUTCOMES
        assert max(map(len, values)) < MAX_MESSAGE_BYTES
        assert not real.topic("dead-letters").drain()


def test_a_record_that_the_worker_fails_on_is_set_aside_and_those_beside_it_are_folded(
    broker: LocalBroker, tmp_path: Path
) -> None:
    """The worker ended, was started again and read the same record, for ever."""
    with deployment(broker.address, tmp_path) as real:
        real.program = (sys.executable, "-m", "tests.crash.mutant", "poison")
        for number in range(40):
            real.click("u1", "poison" if number == 17 else f"i{number}")
        last = real.click("u1", "the last one")
        worker = real.start()
        assert worker.history("u1", last) == [*(f"i{number}" for number in range(40) if number != 17), "the last one"]
        [letter] = real.topic("dead-letters").drain()
        said = {name: text.decode() for name, text in letter.headers()}
        assert (said["reason"], said["offset"], letter.key()) == ("unprocessable", "17", b"u1")
        assert b'"item_id": "poison"' in letter.value()
        assert worker.metric("headrace_interactions_total") == 40
        real.click("u1", "poison")
        assert worker.history("u1", real.click("u1", "after"))[-1] == "after"
        assert worker.child.running
