"""One run of a protocol: every ranker fitted and asked on the same cases, full ranking, one report.

Knows nothing of the command line; the clock is an argument. Legend: B cases, I rows, K length of a list.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from engine import metrics
from engine.blending.scoring import FEATURES
from engine.continual.measures import summary
from engine.evaluation.baselines import BASELINES, Ranker
from engine.evaluation.blended_ranker import BlendedRanker
from engine.evaluation.fitting import Clock, mask, ranks_of
from engine.evaluation.interactions import DataError, Interactions
from engine.evaluation.prequential_run import prequential_run
from engine.evaluation.protocols import Cases, Fold, ProtocolName, folds
from engine.evaluation.sequence_ranker import Preset, SequenceRanker, with_text
from engine.text import EncoderName, text_encoder

MODEL: Final = "headrace"
"""The model as it is served; `sequence` is the transformer within it, alone."""
CatalogueName = Literal["seen", "announced"]
CATALOGUES: Final[tuple[CatalogueName, ...]] = get_args(CatalogueName)
PROTOCOLS: Final[tuple[ProtocolName, ...]] = get_args(ProtocolName)
_LIST: Final = 10
_LISTED_CASES: Final = 20_480
"""Lists are kept for this many cases a fold: coverage and its kin need lists, the accuracy of all cases only ranks."""
_BATCH: Final = 512


@dataclass(frozen=True)
class Settings:
    """What a run was asked for; it is in the report."""

    protocol: ProtocolName = "leave-one-out"
    preset: str = "default"
    models: Sequence[str] = (MODEL, "sequence", *BASELINES)
    filter_seen: bool | None = None
    """Whether items of the history are left out; None is the protocol's custom: only leave-one-out leaves them out."""
    max_cases: int = 0
    """Cases a fold, drawn at random; 0 is all."""
    max_folds: int = 0
    """Only the first folds; 0 is all."""
    seed: int = 0
    device: str = "cpu"
    text: EncoderName = "hash"
    """What makes vectors of titles, where the data has some."""
    catalogue: CatalogueName = "seen"
    """Stream only: an item can be proposed once it was seen, or all of them from the beginning."""


@dataclass
class _Results:
    folds: list[dict[str, NDArray[np.float64]]] = field(default_factory=list)
    bounds: list[dict[str, tuple[float, float]]] = field(default_factory=list)
    beyond: list[dict[str, float]] = field(default_factory=list)
    train_seconds: float = 0.0
    evaluate_seconds: float = 0.0


def run(
    data: Interactions,
    settings: Settings,
    preset: Preset,
    clock: Clock,
    after_fold: Callable[[dict[str, Any]], None] | None = None,
) -> dict[str, Any]:
    """Fits and asks every model of the settings.

    Args:
        data: Interactions in their order.
        settings: Protocol, models and limits.
        preset: The sequence model and its training.
        clock: CPU seconds.
        after_fold: Gets the report of the folds so far after each of them, so that a run that is stopped leaves it.

    Returns:
        The report: `metrics.MODEL.METRIC` (mean over the folds), `intervals.MODEL.METRIC` (bootstrap, 95 %), `folds`,
        `seconds` (of the served model), `seconds_by_model`, `curve` (CPU seconds, validation NDCG@10), `blend`,
        `filtered_seen`, `settings`, `data`.

    Raises:
        DataError: There is nothing to ask, or the protocol needs what the data lacks.
    """
    if not len(data):
        raise DataError(f"no interaction could be taken: {'; '.join(data.notes) or 'there is none'}")
    if settings.filter_seen is None:
        settings = replace(settings, filter_seen=settings.protocol == "leave-one-out")
    texts_IF = None
    if (encoder := text_encoder(settings.text)) and any(data.titles):
        texts_IF, preset = encoder.encode(data.titles), with_text(preset, encoder.width)
    if settings.protocol == "stream":
        return _run_stream(data, settings, preset, texts_IF)
    sequence = SequenceRanker(preset, settings.seed, clock, settings.device, texts_IF)
    blended = BlendedRanker(sequence)
    own: dict[str, Ranker] = {MODEL: blended, "sequence": sequence}
    rankers = {name: own[name] if name in own else BASELINES[name]() for name in settings.models}
    results = {name: _Results() for name in rankers}
    names, asked, dropped, report = [], 0, 0, dict[str, Any]()
    for number, fold in enumerate(folds(settings.protocol, data)):
        if settings.max_folds and number == settings.max_folds:
            break
        test, repeated = _asked(fold, settings)
        names.append(fold.name)
        dropped += repeated
        asked += len(test)
        for name, ranker in rankers.items():
            _ask(ranker, fold, test, results[name], settings, clock)
        report = _report(results, settings) | {
            "curve": [[passed.seconds, passed.ndcg] for passed in sequence.curve],
            "continual": summary(sequence.updates),
            "updates": [asdict(each) for each in sequence.updates],
            "blend": dict(zip(FEATURES, blended.weights, strict=True)),
            "folds": list(names),
            "data": _described(data) | {"cases": asked, "cases_of_seen_items": dropped},
        }
        if after_fold:
            after_fold(report)
    return report


def markdown(report: Mapping[str, Any]) -> str:
    """The report's main figures as a table, with the interval of each accuracy."""
    shown = (
        "recall@10",
        "ndcg@10",
        "recall@20",
        "mrr@20",
        "coverage@10",
        "novelty@10",
        "popularity_bias@10",
        "cold_share@10",
    )
    lines = [f"| model | {' | '.join(shown)} | train s | evaluate s |", f"|---|{'---|' * (len(shown) + 2)}"]
    for model, values in report["metrics"].items():
        cells = [_cell(values.get(name), report["intervals"][model].get(name)) for name in shown]
        seconds = report["seconds_by_model"][model]
        lines.append(f"| {model} | {' | '.join(cells)} | {seconds['train']:.1f} | {seconds['evaluate']:.1f} |")
    seen = "filtered" if report["filtered_seen"] else "not filtered"
    if report.get("continual"):
        names = report["continual"]
        lines += ["", f"| {' | '.join(names)} |", f"|{'---|' * len(names)}"]
        lines.append(f"| {' | '.join(f'{value:.4g}' for value in names.values())} |")
    return "\n".join(
        [*lines, "", f"Full ranking; seen items {seen}; 95 % bootstrap intervals over cases.", *_told(report)]
    )


def _told(report: Mapping[str, Any]) -> list[str]:
    """What the reader must know of the data."""
    data = report["data"]
    left = [f"{count:,} {reason}" for reason, count in data["left_out"].items() if count]
    if repeated := data.get("cases_of_seen_items"):
        left.append(f"{repeated:,} cases, because the item asked for was in the history and seen items are left out")
    return [*([f"Left out: {'; '.join(left)}."] if left else []), *data["notes"]]


def _cell(value: float | None, bounds: Sequence[float] | None) -> str:
    if value is None:
        return ""
    return f"{value:.4f}" + (f" ({bounds[0]:.4f} to {bounds[1]:.4f})" if bounds else "")


def _run_stream(
    data: Interactions, settings: Settings, preset: Preset, texts_IF: NDArray[np.float16] | None
) -> dict[str, Any]:
    """Each interaction once and in order: predicted, scored, then learned; the metrics are those of the last window."""
    if not data.ordered:
        raise DataError("a stream needs the order across users: use a table with a time column or a period folder")
    announced = settings.catalogue == "announced"
    found = prequential_run(data, preset.stream, texts_IF, seed=settings.seed, announced=announced)
    names = {name: MODEL if name == "model" else name for name in found["ranks"]}
    windows = {names[name]: metrics.accuracy(ranks_P) for name, ranks_P in found["ranks"].items()}
    generator = np.random.default_rng(settings.seed)
    seconds = {"train": found["seconds"]["learn"], "evaluate": found["seconds"]["score"]}
    means = {name: metrics.means(cases) for name, cases in windows.items()}
    means[MODEL][f"cold_share@{_LIST}"] = found[f"cold_share@{_LIST}"]
    return {
        "metrics": means,
        "intervals": {name: _intervals([cases], [_bounds(cases, generator)]) for name, cases in windows.items()},
        "seconds": seconds,
        "seconds_by_model": dict.fromkeys(windows, seconds),
        "filtered_seen": False,
        "settings": _plain(settings),
        "curve": found["curve"],
        "data": _described(data) | {"cases": found["events"], "window": preset.stream.window},
    }


def _plain(settings: Settings) -> dict[str, Any]:
    return {name: getattr(settings, name) for name in settings.__dataclass_fields__}


def _described(data: Interactions) -> dict[str, Any]:
    return {
        "interactions": len(data),
        "users": len(np.unique(data.users_N)),
        "items": data.rows - 1,
        "items_with_title": sum(map(bool, data.titles)),
        "left_out": dict(data.left_out),
        "notes": list(data.notes),
    }


def _asked(fold: Fold, settings: Settings) -> tuple[Cases, int]:
    """What is asked of a fold, and how many cases cannot be: their item is one that is left out as seen.

    Were they asked, whoever has nothing else to show would be right.

    Raises:
        DataError: nothing is left to ask.
    """
    test, repeated = fold.test, 0
    if settings.filter_seen:
        of_case_T = np.repeat(np.arange(len(test)), test.histories.lengths_B)
        seen_B = np.bincount(of_case_T, test.histories.rows_T == test.targets_B[of_case_T], len(test)) > 0
        repeated = int(seen_B.sum())
        test = test.part(np.flatnonzero(~seen_B))
    if not len(test):
        why = f"all {repeated} items asked for are in their user's history: --rank-seen asks them"
        none = "no interaction follows another one of its user and has an item that was learned: take more data"
        raise DataError(f"{fold.name} asks nothing; {why if repeated else none}")
    return _sample(test, settings), repeated


def _sample(test: Cases, settings: Settings) -> Cases:
    if not settings.max_cases or len(test) <= settings.max_cases:
        return test
    drawn = np.random.default_rng(settings.seed).permutation(len(test))[: settings.max_cases]
    return test.part(np.sort(drawn))


def _ask(ranker: Ranker, fold: Fold, test: Cases, results: _Results, settings: Settings, clock: Clock) -> None:
    begin = clock()
    ranker.fit(fold)
    fitted = clock()
    ranks_B, shown_I = _answers(ranker, fold.rows, test, filter_seen=bool(settings.filter_seen))
    targets_I = np.bincount(test.targets_B[:_LISTED_CASES], minlength=fold.rows)
    popularity_I = np.bincount(fold.train.rows_T, minlength=fold.rows).astype(np.float64)
    cases = metrics.accuracy(ranks_B)
    results.folds.append(cases)
    results.bounds.append(_bounds(cases, np.random.default_rng((settings.seed, len(results.folds)))))
    results.beyond.append(
        {
            f"coverage@{_LIST}": metrics.coverage(shown_I, fold.rows - 1),
            f"novelty@{_LIST}": metrics.novelty(shown_I, popularity_I),
            f"popularity_bias@{_LIST}": metrics.popularity_bias(shown_I, popularity_I, targets_I),
            f"cold_share@{_LIST}": metrics.cold_share(shown_I, popularity_I),
        }
    )
    results.train_seconds += fitted - begin
    results.evaluate_seconds += clock() - fitted


@torch.inference_mode()
def _answers(
    ranker: Ranker, rows: int, test: Cases, *, filter_seen: bool
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rank of each target, and how often each row was listed for the first cases."""
    ranks, shown_I = [np.empty(0, np.int64)], np.zeros(rows, np.int64)
    for begin in range(0, len(test), _BATCH):
        part = test.part(np.arange(begin, min(begin + _BATCH, len(test))))
        scores_BI = ranker.scores(part.histories)
        if begin < _LISTED_CASES:
            allowed_BI = scores_BI.clone()
            mask(allowed_BI, part.histories, filter_seen=filter_seen)
            best = allowed_BI.topk(min(_LIST, rows - 1), 1)
            shown_I += np.bincount(best.indices[best.values.isfinite()].cpu().numpy(), minlength=rows)
        ranks.append(ranks_of(scores_BI, part, filter_seen=filter_seen))
    return np.concatenate(ranks), shown_I


def _report(results: Mapping[str, _Results], settings: Settings) -> dict[str, Any]:
    seconds = {
        name: {"train": result.train_seconds, "evaluate": result.evaluate_seconds} for name, result in results.items()
    }
    return {
        "metrics": {
            name: _mean_of(metrics.means(cases) for cases in result.folds) | _mean_of(result.beyond)
            for name, result in results.items()
        },
        "intervals": {name: _intervals(result.folds, result.bounds) for name, result in results.items()},
        "by_fold": {name: [metrics.means(cases) for cases in result.folds] for name, result in results.items()},
        "seconds": seconds.get(MODEL, next(iter(seconds.values()))),
        "seconds_by_model": seconds,
        "filtered_seen": settings.filter_seen,
        "settings": _plain(settings),
    }


def _mean_of(folds: Iterable[Mapping[str, float]]) -> dict[str, float]:
    listed = list(folds)
    return {name: float(np.mean([fold[name] for fold in listed])) for name in listed[0]} if listed else {}


def _bounds(cases: Mapping[str, NDArray[np.float64]], generator: np.random.Generator) -> dict[str, tuple[float, float]]:
    return {name: metrics.interval(values_B, generator) for name, values_B in cases.items()}


def _intervals(
    folds: Sequence[Mapping[str, NDArray[np.float64]]], bounds: Sequence[Mapping[str, tuple[float, float]]]
) -> dict[str, list[float]]:
    """Of the mean over folds: half widths of independent folds add in squares."""
    if len(folds) == 1:
        return {name: list(both) for name, both in bounds[0].items()}
    found = {}
    for name in folds[0]:
        mean = np.mean([fold[name].mean() if len(fold[name]) else np.nan for fold in folds])
        half = np.sqrt(np.sum([(high - low) ** 2 for low, high in (each[name] for each in bounds)])) / 2 / len(folds)
        found[name] = [float(mean - half), float(mean + half)]
    return found
