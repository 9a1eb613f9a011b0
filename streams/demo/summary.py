"""The figures of a demo -> what a person reads at its end."""

from collections.abc import Mapping
from typing import Any, Final

from rich.console import Group
from rich.table import Table

from streams.demo.report import METRICS

_NAMES: Final = {"model": "model", "item_knn": "item-kNN", "popularity": "popularity"}


def summary(figures: Mapping[str, Any], past: tuple[int, int], present: tuple[int, int]) -> Group:
    """Return the summary of a run.

    Args:
        figures: see streams.demo.report.report.
        past: first and last line of the shop's file that were learned before.
        present: first and last line that were streamed.
    """
    return Group(_facts(figures, past, present), "", _quality(figures))


def shortfall(figures: Mapping[str, Any]) -> str | None:
    """Return what the accounting of a run lacks, None when every event is where it should be."""
    wrong = {name: figures[name] for name in ("lost", "doubled", "unanswered") if figures[name]}
    return f"{figures['events_in']:,} events went in, but: {_counts(wrong)}" if wrong else None


def _facts(figures: Mapping[str, Any], past: tuple[int, int], present: tuple[int, int]) -> Table:
    latency, learned = figures["latency_ms"], figures["event_to_learned_seconds"]
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold")
    rows = {
        "learned before": f"lines {past[0]:,} to {past[1]:,} of Online Retail, the shop's past",
        "streamed": f"lines {present[0]:,} to {present[1]:,}: {figures['events_in']:,} events, "
        f"{figures['events_rejected']:,} rejected ({_counts(figures['rejected_by_reason'])})",
        "recommendations": f"{figures['recommendations_out']:,} ({_counts(figures['rungs'])}), "
        f"the first {figures['first_recommendation_seconds']} s after the start",
        "latency": f"{_percentiles(latency, 'ms')}, from the broker's timestamp of an event to that of its list",
        "learning": f"{figures['generations_served']} generations and {figures['versions_served']} versions served; "
        f"an event is reflected after {_percentiles(learned, 's')}",
        "accounting": f"{figures['lost']} lost, {figures['doubled']} doubled, {figures['unanswered']} unanswered, "
        f"over the histories of {figures['users']:,} users",
    }
    for name, text in rows.items():
        table.add_row(name, text)
    return table


def _quality(figures: Mapping[str, Any]) -> Table:
    title = f"next item, predicted before it was learned ({figures['quality_outcomes']:,} outcomes)"
    table = Table("", *METRICS, title=title, title_justify="left", title_style="bold", box=None)
    for name, label in _NAMES.items():
        values = figures["quality"][name]
        table.add_row(label, *("…" if values[metric] is None else f"{values[metric]:.4f}" for metric in METRICS))
    return table


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items()) or "none"


def _percentiles(values: Mapping[str, float | None], unit: str) -> str:
    return ", ".join(f"{name} {'…' if value is None else f'{value:.3g} {unit}'}" for name, value in values.items())
