"""The figures of a run follow from what the topics and the histories hold, by hand on small cases."""

from dataclasses import replace

import pytest

from streams.demo.observe import Answer, Event, Learned, Observations
from streams.demo.report import cold_item_share, differences, latencies, report, seconds_to_learned
from streams.demo.summary import shortfall
from streams.settings import StateSettings

DAY_MS = 86_400_000


def event(
    offset: int, written_ms: int = 0, *, user: str = "u", item: str = "i", timestamp: int = 1, history: bool = False
) -> Event:
    return Event(0, offset, written_ms, history, user, item, "click", timestamp)


def answer(offset: int, written_ms: int, *, user: str = "u", generation: int = 0, rung: str = "triton") -> Answer:
    return Answer(user, 0, offset, written_ms, rung, 1, generation, ())


def test_an_event_waits_for_the_first_list_of_its_user_that_covers_it() -> None:
    events = [event(1, 100), event(2, 110, user="v"), event(3, 120), event(5, 200)]
    waits, unanswered = latencies(events, [answer(3, 130), answer(2, 150, user="v")])
    assert waits == [30, 40, 10]
    assert unanswered == 1


def test_an_item_in_a_list_is_cold_until_somebody_has_touched_it() -> None:
    answers = [replace(answer(1, at), items=("i", "j")) for at in (99, 100, 250)]  # both, j, none
    assert cold_item_share([event(1, 200, item="j"), event(2, 100), event(3, 300)], answers) == round(3 / 6, 5)
    assert cold_item_share([event(1)], []) is None


def test_an_event_is_learned_when_a_generation_that_knows_it_is_served() -> None:
    generations = [Learned(1, {0: 2}), Learned(2, {0: 5}), Learned(3, {0: 5})]
    answers = [answer(1, 1000, generation=1), answer(2, 2000, generation=1), answer(3, 4000, generation=3)]
    found = seconds_to_learned([event(1, 500), event(4, 1500), event(5, 1600)], answers, generations)
    assert found == [0.5, 2.5]  # the third was not learned by any


def test_a_generation_that_went_back_in_what_it_knows_teaches_nothing_new() -> None:
    generations = [Learned(1, {0: 5}), Learned(2, {0: 3}), Learned(3, {0: 9})]
    assert seconds_to_learned(
        [event(7, 0)], [answer(1, 900, generation=2), answer(2, 1000, generation=3)], generations
    ) == [1.0]


def test_histories_that_hold_what_was_accepted_differ_in_nothing() -> None:
    events = [event(1, item="a", timestamp=5), event(2, item="b", timestamp=3)]
    assert differences(events, {"u": [("b", "click", 3), ("a", "click", 5)]}, StateSettings()) == (0, 0)


@pytest.mark.parametrize(
    ("held", "found"),
    [
        ([("a", "click", 5)], (1, 0)),
        ([("a", "click", 5), ("b", "click", 3), ("b", "click", 3)], (0, 1)),
        ([], (2, 0)),
    ],
)
def test_what_a_history_lacks_is_lost_and_what_it_has_twice_is_doubled(
    held: list[tuple[str, str, int]], found: tuple[int, int]
) -> None:
    events = [event(1, item="a", timestamp=5), event(2, item="b", timestamp=3)]
    assert differences(events, {"u": held}, StateSettings()) == found


def test_a_history_is_compared_with_the_tail_that_it_keeps() -> None:
    events = [event(n, item=f"i{n}", timestamp=n + 1) for n in range(5)]
    newest = [("i3", "click", 4), ("i4", "click", 5)]
    assert differences(events, {"u": newest}, StateSettings(history_length=2)) == (0, 0)
    old = [event(1, item="a", timestamp=1), event(2, item="b", timestamp=3 * DAY_MS)]
    assert differences(old, {"u": [("b", "click", 3 * DAY_MS)]}, StateSettings(max_age_days=2)) == (0, 0)


def test_the_report_has_every_figure() -> None:
    seen = Observations(
        events=[event(0, history=True), event(1, 1000), event(2, 1010), event(3, 1020, user="")],
        answers=[answer(1, 1005, generation=1), answer(2, 1020, generation=2, rung="covisit")],
        rejected={(0, 3): "missing_field"},
        generations=[Learned(2, {0: 2})],
        streamed=3,
    )
    seen.rungs.update(triton=1, covisit=1)
    quality = {"model": {"ndcg@10": 0.3, "recall@10": 0.4, "mrr@10": 0.2}}
    held = [("i", "click", 1)] * 3
    found = report(seen, started_ms=0, settings=StateSettings(), states={"u": held}, quality=quality)
    counts = ("events_in", "events_rejected", "recommendations_out", "unanswered", "lost", "doubled")
    assert [found[name] for name in counts] == [3, 1, 2, 0, 0, 0]
    assert found["first_recommendation_seconds"] == 1.0
    assert found["latency_ms"]["p50"] == 7.5
    assert found["event_to_learned_seconds"] == {"p50": 0.02, "p95": 0.02}
    assert found["rungs"] == {"triton": 1, "covisit": 1}
    assert (found["generations_served"], found["versions_served"]) == (2, 1)
    assert found["quality"]["model"]["mrr@10"] == 0.2
    assert found["quality"]["item_knn"] == {"ndcg@10": None, "recall@10": None, "mrr@10": None}


def test_a_run_that_comes_out_says_nothing_and_one_that_does_not_says_what_is_missing() -> None:
    figures = {"events_in": 1200, "lost": 0, "doubled": 0, "unanswered": 0}
    assert shortfall(figures) is None
    assert shortfall(figures | {"unanswered": 1100}) == "1,200 events went in, but: unanswered 1,100"
