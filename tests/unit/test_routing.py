"""A canary serves the share of users that the decision in force names, the same ones on every worker."""

from types import SimpleNamespace

import pytest

from engine.weights import CHALLENGER, CHAMPION
from streams.followers.decisions import DecisionFollower, Routing
from streams.records import DecisionRecord, encode


@pytest.mark.parametrize(("share", "least", "most"), [(0.0, 0, 0), (0.1, 850, 1150), (1.0, 10_000, 10_000)])
def test_the_share_of_users_is_the_one_decided(share: float, least: int, most: int) -> None:
    slots = [Routing(share, 7).slot_of(f"u{number}") for number in range(10_000)]
    assert least <= slots.count(CHALLENGER) <= most


def test_a_user_keeps_its_slot_and_another_canary_takes_others() -> None:
    first = {number for number in range(1000) if Routing(0.5, 1).slot_of(f"u{number}") == CHALLENGER}
    wider = {number for number in range(1000) if Routing(0.7, 1).slot_of(f"u{number}") == CHALLENGER}
    other = {number for number in range(1000) if Routing(0.5, 2).slot_of(f"u{number}") == CHALLENGER}
    assert first < wider
    assert 150 < len(first & other) < 350


def test_the_newest_decision_counts_and_what_is_no_decision_changes_nothing() -> None:
    follower = DecisionFollower({}, "decisions")

    def take(key: bytes | None, value: bytes | None) -> None:
        follower._take(SimpleNamespace(key=lambda: key, value=lambda: value))  # type: ignore[arg-type]

    assert follower.slot_of("u1") == CHAMPION
    take(b"champion", encode(DecisionRecord("canary", "gate", 0, canary=1.0, salt=3)))
    for key, value in ((b"log/1", encode(DecisionRecord("reject", "gate", 0))), (b"champion", b"{"), (None, None)):
        take(key, value)
    assert follower.slot_of("u1") == CHALLENGER
    take(b"champion", encode(DecisionRecord("reject", "gate", 0)))
    assert follower.slot_of("u1") == CHAMPION
