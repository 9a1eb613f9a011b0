"""The model server is asked for what it answers in time: late is not dead; one that answers nobody is closed."""

import pytest

from streams.lists.admission import PROBE_SECONDS, Admission


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr("streams.lists.admission.time.monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def in_flight(made: Admission) -> int:
    """Return how many users may be in flight at once."""
    ticket = made.admit(10_000, 0.040)
    made._in_flight -= ticket.users
    return made._in_flight + ticket.users


def answer(clock: Clock, made: Admission, users: int, took: float) -> None:
    ticket = made.admit(users, 0.040)
    clock.now += took
    made.answered(ticket)


def settled(clock: Clock) -> Admission:
    """Return one of which 32 users may be in flight: one answer for a single user was late."""
    made = Admission()
    answer(clock, made, 1, 0.1)
    return made


def test_nothing_is_refused_before_an_answer_was_late() -> None:
    assert Admission().admit(5000, 0.040).users == 5000


def test_no_more_users_are_in_flight_than_the_limit_and_a_batch_may_be_admitted_in_part(clock: Clock) -> None:
    made = settled(clock)
    first = made.admit(20, 0.040)
    assert (first.users, made.admit(20, 0.040).users) == (20, 12)
    refused = made.admit(8, 0.040)
    assert (refused.users, refused.refusal) == (0, "busy")
    made.answered(first)
    assert made.admit(100, 0.040).users == 20


def test_the_limit_grows_while_answers_are_in_time_and_shrinks_when_one_is_not(clock: Clock) -> None:
    made = settled(clock)
    for _ in range(10):
        answer(clock, made, in_flight(made), 0.020)
    assert in_flight(made) == 42
    answer(clock, made, 42, 0.030)
    assert in_flight(made) == 33  # 42 * 0.8


def test_answers_that_were_late_together_shrink_it_once(clock: Clock) -> None:
    made = settled(clock)
    tickets = [made.admit(8, 0.040) for _ in range(4)]
    clock.now += 0.040
    for ticket in tickets:
        made.late(ticket)
    clock.now += 0.100
    for ticket in tickets:
        made.answered(ticket)
    assert in_flight(made) == 16  # half: the first of them was one of 8 in flight


def test_a_few_users_who_are_answered_in_time_do_not_prove_that_more_would_be(clock: Clock) -> None:
    made = settled(clock)
    for _ in range(100):
        answer(clock, made, 16, 0.001)
    assert in_flight(made) == 32


def test_a_server_that_is_slower_than_the_deadline_is_asked_for_one_user_at_a_time(clock: Clock) -> None:
    made = settled(clock)
    for _ in range(50):
        answer(clock, made, 1, 0.5)
    assert [made.admit(8, 0.040).users for _ in range(3)] == [1, 0, 0]


def test_a_far_server_is_asked_for_many_at_once(clock: Clock) -> None:
    """Each answer takes as long as the line is, 25 of 40 ms, however many are asked for."""
    made = settled(clock)
    for _ in range(200):
        answer(clock, made, in_flight(made), 0.025)
    assert in_flight(made) > 200


def test_a_late_answer_keeps_its_place_until_it_comes_and_closes_nothing(clock: Clock) -> None:
    made = settled(clock)
    late = made.admit(32, 0.040)
    clock.now += 0.040
    made.late(late)
    assert made.admit(1, 0.040).users == 0
    clock.now += 0.5
    made.answered(late)
    assert made.admit(1, 0.040).users == 1


# A.10: one failure closed the server for everybody.
def test_failures_between_answers_close_nothing(clock: Clock) -> None:
    made = Admission()
    for _ in range(10):
        for _ in range(2):
            made.failed(made.admit(1, 0.040), gone=False)
        clock.now += 0.001
        made.answered(made.admit(1, 0.040))
        assert made.admit(0, 0.040).refusal != "down"


@pytest.mark.parametrize(("failures", "gone"), [(1, True), (3, False)])
def test_a_server_that_answers_nobody_is_asked_by_one_probe_at_a_time(clock: Clock, failures: int, gone: bool) -> None:  # noqa: FBT001 - it is one
    made = Admission()
    for _ in range(failures):
        ticket = made.admit(1, 0.040)
        assert ticket.users == 1
        made.failed(ticket, gone=gone)
    assert made.admit(1, 0.040).refusal == "down"
    clock.now += PROBE_SECONDS
    probe = made.admit(1, 0.040)
    assert (probe.users, made.admit(1, 0.040).users) == (1, 0)
    made.answered(probe)
    assert [made.admit(1, 0.040).users for _ in range(3)] == [1, 1, 1]
