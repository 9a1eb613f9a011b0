"""A run gives a full report: every model on the same cases, ranked over all items, the better model ahead."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.continual.measures import Measure
from engine.evaluation import sequence_ranker
from engine.evaluation.evaluate import MODEL, Settings, markdown, run
from engine.evaluation.fitting import ranks
from engine.evaluation.interactions import DataError, Interactions
from engine.evaluation.protocols import Fold, cases, folds
from engine.evaluation.sequence_ranker import PRESETS, SequenceRanker, held_out_T, with_validation
from streams.files.data_sets import read

QUICK = PRESETS["quick"]
TINY = replace(
    QUICK,
    model=replace(QUICK.model, dim=16, dropout=0.0),
    fit=replace(QUICK.fit, epochs=6, batch=32),
)


@pytest.fixture
def chain(tmp_path: Path) -> Interactions:
    """Each user walks round a ring of 12 items: the next item is certain, popularity says nothing."""
    starts = np.random.default_rng(0).integers(0, 12, 200)
    walks = (" ".join(f"i{(start + step) % 12}" for step in range(6)) for start in starts)
    (tmp_path / "s.txt").write_text("".join(f"u{number} {walk}\n" for number, walk in enumerate(walks)))
    return read(tmp_path / "s.txt")


def test_a_report_has_every_metric_of_every_model(chain: Interactions) -> None:
    report = run(chain, Settings(), TINY, time.process_time)
    assert list(report["metrics"]) == list(Settings().models)
    names = {f"{metric}@{k}" for metric in ("recall", "ndcg", "mrr", "hit_rate") for k in (5, 10, 20)}
    beyond = {f"{metric}@10" for metric in ("coverage", "novelty", "popularity_bias", "cold_share")}
    for model, values in report["metrics"].items():
        assert names | beyond == set(values)
        low, high = report["intervals"][model]["ndcg@10"]
        assert low <= values["ndcg@10"] <= high
    assert report["filtered_seen"]
    assert set(report["seconds"]) == {"train", "evaluate"}
    assert report["data"]["cases"] == 200
    assert markdown(report).count("\n") == 3 + len(report["metrics"])


def test_what_follows_for_certain_is_found_and_popularity_does_not_find_it(chain: Interactions) -> None:
    metrics = run(chain, Settings(models=(MODEL, "popularity", "sequential_rules")), TINY, time.process_time)["metrics"]
    assert metrics["sequential_rules"]["mrr@20"] == pytest.approx(1.0)
    assert metrics[MODEL]["mrr@20"] > 0.9
    assert metrics["popularity"]["mrr@20"] < 0.5


def test_a_run_can_be_repeated_exactly(chain: Interactions) -> None:
    runs = [run(chain, Settings(models=(MODEL,), seed=3), TINY, lambda: 0.0)["metrics"] for _ in range(2)]
    assert runs[0] == runs[1]


@pytest.fixture
def periods(tmp_path: Path) -> Interactions:
    """The same ring in three periods, a session a walk."""
    generator = np.random.default_rng(1)
    for period in range(3):
        starts = generator.integers(0, 12, 60)
        lines = [f"{period}-{s} i{(start + step) % 12}\n" for s, start in enumerate(starts) for step in range(4)]
        (tmp_path / f"p{period}.txt").write_text("".join(lines))
    return read(tmp_path)


def test_the_continual_protocol_runs_on_a_folder_and_ranks_what_was_seen(periods: Interactions) -> None:
    report = run(periods, Settings(protocol="continual", models=(MODEL, "item_knn")), TINY, time.process_time)
    assert report["folds"] == ["period 1", "period 2"]
    assert not report["filtered_seen"]
    assert report["metrics"][MODEL]["recall@5"] > 0.9
    assert len(report["by_fold"][MODEL]) == 2


def test_forgetting_is_measured_on_periods_that_were_learned_before_the_update(
    periods: Interactions, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    class Watched(Measure):
        def __init__(self, model: Any, period: str, older: Any, newest: Any, clock: Any) -> None:
            asked.append([len(each) for each in older])
            super().__init__(model, period, older, newest, clock)

    monkeypatch.setattr(sequence_ranker, "Measure", Watched)
    ranker = SequenceRanker(TINY, 0, lambda: 0.0)
    for fold in folds("continual", periods):
        ranker.fit(fold)
    assert asked == [[18]]  # of period 0, six sessions of three cases were held out; period 1 is what is learned now
    assert [len(each) for each in ranker._older] == [18, 180]


def test_each_fold_leaves_the_report_of_the_folds_so_far(periods: Interactions) -> None:
    left: list[dict[str, Any]] = []
    wanted = Settings(protocol="continual", models=("item_knn", "popularity"))
    report = run(periods, wanted, TINY, lambda: 0.0, left.append)
    assert [each["folds"] for each in left] == [["period 1"], ["period 1", "period 2"]]
    assert left[1] == report
    assert left[0]["metrics"]["item_knn"] != left[1]["metrics"]["item_knn"]
    first = run(periods, replace(wanted, max_folds=1), TINY, lambda: 0.0)
    assert left[0]["intervals"] == first["intervals"]


@pytest.fixture
def held_items(tmp_path: Path) -> Fold:
    """Every tenth session takes each second item from a ring of its own."""
    walks = (f"{s} {'ab'[step % 2 and s % 10 == 0]}{(s + step) % 12}\n" for s in range(400) for step in range(6))
    (tmp_path / "p0.txt").write_text("".join(walks))
    (tmp_path / "p1.txt").write_text("s a1\ns a2\n")
    return next(folds("continual", read(tmp_path)))


def test_what_was_held_out_to_know_when_to_stop_is_learned_at_the_end(held_items: Fold) -> None:
    held = held_items.train.take(held_out_T(held_items))
    asked = cases(held, held.positions_T % 2 == 1)
    ranker = SequenceRanker(TINY, 0, lambda: 0.0)
    ranker.fit(held_items)
    before, after = (ranks(model, asked, filter_seen=False).mean() for model in (ranker.unseeing, ranker.model))
    assert before > 10  # of 24 items
    assert after < before / 2
    other = SequenceRanker(replace(TINY, fit=replace(TINY.fit, finish=0.0)), 0, lambda: 0.0)
    other.fit(held_items)
    assert ranks(other.model, asked, filter_seen=False).mean() == before


def test_items_that_only_held_out_histories_have_are_not_asked(held_items: Fold) -> None:
    validation = with_validation(held_items).validation
    # 40 sessions a b a b a b with three items that others have: two have another before them
    assert len(validation) == 80
    assert set(validation.targets_B) <= set(with_validation(held_items).train.rows_T)


def test_the_validation_items_of_a_protocol_are_not_learned(chain: Interactions) -> None:
    (fold,) = folds("leave-one-out", chain)
    ranker = SequenceRanker(TINY, 0, lambda: 0.0)
    ranker.fit(fold)
    assert ranker.unseeing is ranker.model


def test_the_stream_protocol_scores_each_interaction_before_it_is_learned(tmp_path: Path) -> None:
    lines = "".join(f"u{time % 20},i{(time // 20 + time % 20) % 12},{time}\n" for time in range(1200))
    (tmp_path / "t.csv").write_text(f"user,item,timestamp\n{lines}")
    report = run(read(tmp_path / "t.csv"), Settings(protocol="stream"), TINY, time.process_time)
    assert {MODEL, "sequence", "item_knn", "popularity"} <= set(report["metrics"])
    assert report["curve"][-1]["events"] == 1200
    assert not report["filtered_seen"]
    assert report["metrics"][MODEL]["ndcg@10"] > report["metrics"]["popularity"]["ndcg@10"]


def test_a_stream_without_an_order_is_refused(chain: Interactions) -> None:
    with pytest.raises(DataError, match="order across users"):
        run(chain, Settings(protocol="stream"), TINY, time.process_time)


@pytest.mark.parametrize("protocol", ["time-split", "stream"])
def test_titles_find_what_only_they_tell_and_can_be_left_out(tmp_path: Path, protocol: Any) -> None:
    """Each user takes lamps or bags, and most items are taken once: nothing but the title says what comes next."""
    generator = np.random.default_rng(0)
    kinds = ("brass lamp", "red bag")
    lines = [f"u{time % 60},{kinds[time % 2]} {generator.integers(400)},{time}" for time in range(1500)]
    table = "\n".join(f"{user},i{title},{title},{time}" for user, title, time in (line.split(",") for line in lines))
    (tmp_path / "t.csv").write_text(f"user,item,title,timestamp\n{table}\n")
    data = read(tmp_path / "t.csv")
    found = {
        text: run(data, Settings(protocol=protocol, models=(MODEL, "sequence"), text=text), TINY, time.process_time)
        for text in ("hash", "none")
    }
    assert found["hash"]["data"]["items_with_title"] == data.rows - 1
    assert found["hash"]["metrics"]["sequence"]["ndcg@20"] > found["none"]["metrics"]["sequence"]["ndcg@20"]


def test_an_item_that_is_left_out_as_seen_is_not_asked_for(tmp_path: Path) -> None:
    """C.3: it was ranked against nothing, which gave everybody, a constant too, recall 1.0."""
    (tmp_path / "s.txt").write_text("".join(f"u{n} i{n % 9} i{(n + 1) % 9} i{(n + 2) % 9}\n" for n in range(20)))
    with (tmp_path / "s.txt").open("a") as file:
        file.write("v i1 i2 i1\n")
    data = read(tmp_path / "s.txt")
    report = run(data, Settings(models=("popularity",)), TINY, lambda: 0.0)
    assert (report["data"]["cases"], report["data"]["cases_of_seen_items"]) == (20, 1)
    assert "Left out: 1 cases, because the item asked for was in the history" in markdown(report)
    assert report["metrics"]["popularity"]["coverage@10"] <= 1.0
    asked = run(data, Settings(models=("popularity",), filter_seen=False), TINY, lambda: 0.0)
    assert asked["data"]["cases"] == 21


@pytest.mark.parametrize(
    ("protocol", "says"), [("leave-one-out", "--rank-seen asks them"), ("time-split", "take more")]
)
def test_a_test_without_cases_is_an_error(protocol: Any, says: str) -> None:
    """C.3: the report said nan, or recall 1.0."""
    data = read(Path(__file__).parents[1] / "cases" / "repeat_clicks.csv")
    with pytest.raises(DataError, match=f"{protocol} asks nothing; .*{says}"):
        run(data, Settings(protocol=protocol, models=("popularity",)), TINY, lambda: 0.0)


def test_data_of_nothing_is_an_error_that_says_what_became_of_it(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("user,item,timestamp\n,a,1760000000\n")
    with pytest.raises(DataError, match=r"no interaction could be taken: .*line 2: it has no user or no item"):
        run(read(tmp_path / "t.csv"), Settings(protocol="stream"), TINY, lambda: 0.0)


def test_a_report_says_what_was_guessed_of_the_file_and_what_was_left_out() -> None:
    """C.3: session_id was taken for the user before user_id, and date for the time before timestamp, in silence."""
    cases_of = Path(__file__).parents[1] / "cases"
    data = read(cases_of / "date_before_timestamp.csv")
    assert len(np.unique(data.users_N)) == 20
    assert data.times_N.min() == 1_760_000_000
    bad = run(read(cases_of / "one_bad_time.csv"), Settings(models=("popularity",)), TINY, lambda: 0.0)
    assert bad["data"]["left_out"] == {"without a time": 1}
    assert "line 122: timestamp 'n/a' stands for no value" in markdown(bad)
    guessed = run(read(cases_of / "recbole.inter.txt"), Settings(models=("popularity",)), TINY, lambda: 0.0)
    assert guessed["data"]["users"] == 20
    assert "user_id=user_id:token,item_id=item_id:token,timestamp=timestamp:float" in markdown(guessed)
