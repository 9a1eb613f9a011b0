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


def admission(clock: Clock, seconds_per_user: float) -> Admission:
    """Return one that has heard for a while what a user costs."""
    made = Admission()
    for _ in range(50):
        ticket = made.admit(1, 1.0)
        clock.now += seconds_per_user
        made.answered(ticket)
    return made


def test_no_more_users_are_asked_for_than_are_answered_in_time(clock: Clock) -> None:
    made = admission(clock, 0.002)
    first = made.admit(8, 0.040)  # 0.7 * 40 ms are 14 users of 2 ms
    assert (first.users, made.admit(8, 0.040).users) == (8, 6)
    refused = made.admit(8, 0.040)
    assert (refused.users, refused.refusal) == (0, "busy")
    clock.now += 0.016
    made.answered(first)
    assert made.admit(20, 0.040).users == 8


def test_a_server_that_is_slower_than_the_deadline_is_asked_for_one_user_at_a_time(clock: Clock) -> None:
    made = admission(clock, 0.5)
    assert [made.admit(8, 0.040).users for _ in range(3)] == [1, 0, 0]


def test_a_late_answer_keeps_its_place_until_it_comes_and_closes_nothing(clock: Clock) -> None:
    made = admission(clock, 0.010)
    late = made.admit(2, 0.040)
    clock.now += 0.5
    assert made.admit(1, 0.040).users == 0
    made.answered(late)
    assert made.admit(1, 0.040).users == 1


# A.10: one failure closed the server for everybody.
def test_failures_between_answers_close_nothing(clock: Clock) -> None:
    made = admission(clock, 0.001)
    for _ in range(10):
        for _ in range(2):
            made.failed(made.admit(1, 0.040), gone=False)
        clock.now += 0.001
        made.answered(made.admit(1, 0.040))
        assert made.admit(0, 0.040).refusal != "down"


@pytest.mark.parametrize(("failures", "gone"), [(1, True), (3, False)])
def test_a_server_that_answers_nobody_is_asked_by_one_probe_at_a_time(clock: Clock, failures: int, gone: bool) -> None:  # noqa: FBT001 - it is one
    made = admission(clock, 0.001)
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
