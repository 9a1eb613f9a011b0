"""A running worker keeps histories in event time and answers what is asked, whatever becomes of Triton."""

import json
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from engine.weights import Weights
from streams.learning.publisher import Publisher
from streams.local.local_broker import LocalBroker
from streams.local.local_triton import LocalTriton
from tests.integration.real_worker import Cable, Deployment, RealWorker, deployment, now_ms, until

pytestmark = pytest.mark.integration

ITEMS = [f"i{number}" for number in range(1, 21)]
DAY_MS = 86_400_000


@pytest.fixture(scope="module")
def cable(triton: LocalTriton) -> Cable:
    return Cable(triton.address)


@pytest.fixture(scope="module")
def real(broker: LocalBroker, cable: Cable, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """Seen items are left out; candidates are all rows of the seed model, so that its lists are of every item."""
    settings = {
        "HEADRACE_TRITON__URL": cable.address,
        "HEADRACE_TRITON__CANDIDATES": "1023",
        "HEADRACE_TRITON__TIMEOUT_MS": "300",
        "HEADRACE_SERVING__DEADLINE_MS": "600",
        "HEADRACE_SERVING__FILTER_SEEN": "true",
    }
    with deployment(broker.address, tmp_path_factory.mktemp("worker"), **settings) as made:
        for item_id in ITEMS:
            made.send("items", item_id, {"item_id": item_id, "title": f"Item {item_id}"})
        worker = made.start()
        until(lambda: set(ids(worker.recommended("nobody", 100))) == set(ITEMS))
        yield made


@pytest.fixture
def worker(real: Deployment) -> RealWorker:
    return real.workers[0]


def ids(recommendation: dict[str, Any]) -> list[str]:
    return [item["item_id"] for item in recommendation["items"]]


def answer_to(real: Deployment, position: str) -> dict[str, Any]:
    """Return the recommendation that a record caused."""
    found = real.topic("recommendations").find(lambda m: json.loads(m.value())["recommendation_id"] == position)
    return dict(json.loads(found.value()))


def test_an_event_is_answered_under_the_id_of_its_position(real: Deployment) -> None:
    position = real.click("u1", "i1")
    answer = answer_to(real, position)
    assert (answer["user_id"], answer["rung"], answer["version"]) == ("u1", "triton", 1)
    assert len(set(ids(answer))) == 10
    assert {item["source"] for item in answer["items"]} == {"sequence"}
    assert set(answer["stage_ms"]) == {"fold", "score", "total"}


def test_an_event_becomes_an_example_with_the_history_before_it(real: Deployment) -> None:
    real.click("learnt", "i1")
    real.click("learnt", "i2", type="purchase")
    examples = real.topic("examples")
    examples.find(lambda m: json.loads(m.value())["outcomes"][-1]["item_id"] == "i2" and m.key() == b"learnt")
    of_user = [json.loads(m.value()) for m in examples.seen if m.key() == b"learnt"]
    history = [*of_user[-1]["history"]["items"], *(outcome["item_id"] for outcome in of_user[-1]["outcomes"])]
    assert history == ["i1", "i2"]


def test_a_request_is_answered_as_it_asks(real: Deployment) -> None:
    asked = {"request_id": "r1", "user_id": "asker", "k": 3, "exclude": ["i1", "i2"]}
    partition, offset = real.send("requests", "asker", asked)
    answer = answer_to(real, f"requests/{partition}/{offset}")
    assert len(ids(answer)) == 3
    assert not {"i1", "i2"} & set(ids(answer))
    everything = real.send("requests", "asker", {**asked, "k": 100})
    assert set(ids(answer_to(real, "requests/{}/{}".format(*everything)))) == set(ITEMS) - {"i1", "i2"}


def test_items_of_the_history_are_left_out_when_the_setting_says_so(real: Deployment, worker: RealWorker) -> None:
    position = [real.click("reader", item_id) for item_id in ("i3", "i4", "i5")][-1]
    assert worker.history("reader", position) == ["i3", "i4", "i5"]
    assert set(ids(worker.recommended("reader", 100))) == set(ITEMS) - {"i3", "i4", "i5"}


def test_an_item_appears_without_a_restart_and_disappears_for_good_when_retired(
    real: Deployment, worker: RealWorker
) -> None:
    real.send("items", "new", {"item_id": "new", "title": "New"})
    until(lambda: "new" in ids(worker.recommended("nobody", 100)))
    real.send("items", "new", None)
    until(lambda: "new" not in ids(worker.recommended("nobody", 100)))
    worker.history("fan", real.click("fan", "new"))
    assert "new" not in ids(worker.recommended("nobody", 100))
    assert "new" not in ids(answer_to(real, real.click("another fan", "i1")))


def test_an_item_out_of_stock_is_not_recommended_until_it_is_back(real: Deployment, worker: RealWorker) -> None:
    real.send("items", "i20", {"item_id": "i20", "in_stock": False})
    until(lambda: "i20" not in ids(worker.recommended("nobody", 100)))
    real.send("items", "i20", {"item_id": "i20"})
    until(lambda: "i20" in ids(worker.recommended("nobody", 100)))


def test_what_was_shown_and_passed_over_comes_with_the_click_and_also_when_it_arrives_after_it(
    real: Deployment,
) -> None:
    shown = [{"item_id": item_id, "position": place} for place, item_id in enumerate(("i1", "i2", "i3"))]
    impression = {"event_id": "m1", "user_id": "viewer", "items": shown, "timestamp": now_ms()}
    real.send("impressions", "viewer", impression)
    until(lambda: real.workers[0].metric("headrace_impressions_total", fate="shown") == 1)
    assert real.workers[0].history("viewer", real.click("viewer", "i2")) == ["i2"]
    real.send("impressions", "viewer", {**impression, "event_id": "m2", "timestamp": now_ms() - 1000})
    examples = real.topic("examples")
    found = [examples.find(lambda m: m.key() == b"viewer" and b"shown" in m.value()) for _ in range(2)]
    # The late one has no list to wait for and may overtake the click's.
    exposures = {shown["impression_id"]: shown for m in found for shown in json.loads(m.value())["shown"]}
    with_click, late = exposures["m1"], exposures["m2"]
    assert with_click["taken"]["item_id"] == "i2"
    assert [item["item_id"] for item in with_click["passed"]] == ["i1", "i3"]
    assert (late["taken"]["item_id"], "offset" in late) == ("i2", False)


def test_a_late_event_takes_its_place_by_event_time_and_one_too_late_is_set_aside(
    real: Deployment, worker: RealWorker
) -> None:
    now = now_ms()
    real.click("late", "i2", timestamp=now)
    position = real.click("late", "i1", timestamp=now - 7 * DAY_MS)
    assert worker.history("late", position) == ["i1", "i2"]
    real.click("late", "i3", timestamp=now - 31 * DAY_MS)
    found = real.topic("dead-letters").find(lambda m: m.key() == b"late")
    assert dict(found.headers())["reason"] == b"too_late"
    assert worker.history("late") == ["i1", "i2"]


def test_a_repeated_event_is_dropped_and_counted(real: Deployment, worker: RealWorker) -> None:
    before = worker.metric("headrace_duplicate_interactions_total")
    for _ in range(3):
        position = real.click("doubler", "i1", event_id="same")
    assert worker.history("doubler", position) == ["i1"]
    until(lambda: worker.metric("headrace_duplicate_interactions_total") == before + 2)


def test_without_triton_the_list_comes_in_time_from_a_lower_rung_and_from_triton_again_when_it_is_back(
    real: Deployment, worker: RealWorker, cable: Cable
) -> None:
    rows = [message.key().decode() for message in real.topic("rows").drain()]
    row_of = {item_id: row for row, item_id in enumerate(dict.fromkeys(rows), start=1)}
    publish_neighbours(real, row_of)
    cable.pull()
    until(lambda: answer_to(real, real.click("shopper", "i1"))["rung"] == "covisit")
    answer = answer_to(real, real.click("shopper", "i1"))
    assert ids(answer)[0] == "i9"
    assert (answer["rung"], answer["version"], answer["generation"]) == ("covisit", 0, 1)
    assert answer["items"][1] == {"item_id": "i7", "score": 5.0, "source": "popular"}
    assert answer["stage_ms"]["total"] < 600
    stranger = worker.recommended("stranger", 2)
    assert (stranger["rung"], ids(stranger)[0]) == ("popular", "i7")
    failures = worker.metric("headrace_scorer_failures_total")
    assert failures > 0

    cable.plug()
    began = time.monotonic()
    until(lambda: worker.recommended("stranger")["rung"] == "triton")
    assert time.monotonic() - began < 2.0  # one, and one for a busy machine


def test_a_late_triton_costs_no_list_its_deadline(real: Deployment, worker: RealWorker, cable: Cable) -> None:
    cable.delay_seconds = 3.0
    try:
        answer = answer_to(real, real.click("hurried", "i2"))
        assert answer["rung"] != "triton"
        assert len(ids(answer)) == 10
        assert answer["stage_ms"]["total"] < 1000  # the deadline is 600
    finally:
        cable.delay_seconds = 0.0
    until(lambda: worker.recommended("hurried")["rung"] == "triton")


def publish_neighbours(real: Deployment, row_of: dict[str, int]) -> None:
    """Whoever took i1 took i9, and i7 is what everybody takes."""
    rows = len(row_of) + 1
    neighbours, weights = np.zeros((rows, 2), np.int32), np.zeros((rows, 2), np.float32)
    popularity = np.zeros(rows, np.float32)
    neighbours[row_of["i1"], 0], weights[row_of["i1"], 0] = row_of["i9"], 1.0
    popularity[row_of["i7"]] = 5.0
    tables = {"neighbour_rows": neighbours, "neighbour_weights": weights, "popularity": popularity}
    Publisher(real.settings).publish(Weights({}, tables, {}), None, 1, 1, learned={})
