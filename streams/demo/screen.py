"""What the demo is doing -> the terminal: a live screen, or plain lines where there is no terminal."""

import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Protocol, Self

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from streams.demo.report import METRICS

_RATE_SECONDS: Final = 5.0
_PLAIN_EVERY_SECONDS: Final = 5.0
SHOWN_LISTS: Final = 8
_NAMES: Final = {"model": "model", "item_knn": "item-kNN", "popularity": "popularity"}


@dataclass
class Rate:
    """Counts a second over the last few seconds."""

    _points: deque[tuple[float, int]] = field(default_factory=deque)

    def of(self, count: int) -> float:
        """Take the count as it is now; return how fast it rises."""
        now = time.monotonic()
        self._points.append((now, count))
        while len(self._points) > 2 and now - self._points[0][0] > _RATE_SECONDS:  # noqa: PLR2004 - a rate needs two
            self._points.popleft()
        (then, before), (last, after) = self._points[0], self._points[-1]
        return (after - before) / (last - then) if last > then else 0.0


@dataclass(frozen=True)
class Shown:
    """One list, by product name."""

    user_id: str
    did: str
    items: Sequence[str]


@dataclass
class View:
    """What there is to see."""

    phase: str = ""
    seconds: float = 0.0
    events: int = 0
    rejected: int = 0
    lists: int = 0
    events_per_second: float = 0.0
    lists_per_second: float = 0.0
    latency_ms: Mapping[str, float | None] = field(default_factory=dict)
    rungs: Mapping[str, int] = field(default_factory=dict)
    generation: int = 0
    generations: int = 0
    version: int = 0
    quality: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    outcomes: int = 0
    """How many the quality is over."""
    shown: Sequence[Shown] = ()
    addresses: Mapping[str, str] = field(default_factory=dict)
    restarts: int = 0


class Screen(Protocol):
    """Where a view goes."""

    def __enter__(self) -> Self:
        """Take the terminal."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give it back."""

    def say(self, line: str) -> None:
        """Print a line that stays."""

    def show(self, view: View) -> None:
        """Show what there is to see now."""


def screen(console: Console) -> Screen:
    """Return what fits the console."""
    return LiveScreen(console) if console.is_terminal else PlainScreen(console)


class PlainScreen:
    """A line every few seconds, for logs."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._next = 0.0
        self._phase = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def say(self, line: str) -> None:
        """Print a line."""
        self._console.print(line, highlight=False, soft_wrap=True, markup=False)

    def show(self, view: View) -> None:
        """Print a line when it is time or a new phase began."""
        if view.seconds < self._next and view.phase == self._phase:
            return
        self._next, self._phase = view.seconds + _PLAIN_EVERY_SECONDS, view.phase
        line = f"{view.seconds:5.0f} s  {view.phase}"
        if view.events:
            ndcg = ", ".join(
                f"{_NAMES[name]} {view.quality[name]['ndcg@10']:.3f}" for name in _NAMES if name in view.quality
            )
            line += (
                f"; {view.events:,} events ({view.events_per_second:.0f}/s), {view.lists:,} lists "
                f"({view.lists_per_second:.0f}/s), {_latency(view) or 'latency …'}, generation {view.generation}"
                + (f", NDCG@10: {ndcg}" if ndcg else "")
            )
        self.say(line)


class LiveScreen:
    """The whole view, drawn again and again."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, auto_refresh=False, transient=True)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def say(self, line: str) -> None:
        """Print a line above the view."""
        self._console.print(line, highlight=False, markup=False)

    def show(self, view: View) -> None:
        """Draw the view."""
        self._live.update(drawing(view), refresh=True)


def drawing(view: View) -> Group:
    """Return a view as rich draws it."""
    return Group(
        Text.assemble(("Headrace ", "bold"), (f"{view.seconds:4.0f} s  ", "cyan"), view.phase),
        _side_by_side(
            Panel(_numbers(view), title="stream", title_align="left", border_style="dim"),
            Panel(_quality(view), title=_quality_title(view), title_align="left", border_style="dim"),
        ),
        Panel(_lists(view), title="who is recommended what", title_align="left", border_style="dim"),
        _addresses(view),
    )


def _numbers(view: View) -> Table:
    table = _grid()
    table.add_row("events", f"{view.events:,} · {view.events_per_second:,.0f}/s · {view.rejected:,} rejected")
    table.add_row("lists", f"{view.lists:,} · {view.lists_per_second:,.0f}/s")
    table.add_row("latency", _latency(view) or "…")
    table.add_row("rungs", " · ".join(f"{rung} {count:,}" for rung, count in view.rungs.items()) or "…")
    table.add_row("model", f"generation {view.generation} · {view.generations} served · version {view.version}")
    if view.restarts:
        table.add_row("restarts", f"{view.restarts}, see the logs")
    return table


def _quality(view: View) -> Table:
    table = Table(box=None, pad_edge=False, expand=True)
    table.add_column("")
    for metric in METRICS:
        table.add_column(metric, justify="right", style="none", header_style="dim")
    best = max((view.quality[name]["ndcg@10"] for name in view.quality), default=None)
    for name, label in _NAMES.items():
        values = view.quality.get(name)
        style = "bold green" if values and values["ndcg@10"] == best else ""
        table.add_row(label, *(f"{values[metric]:.4f}" if values else "…" for metric in METRICS), style=style)
    return table


def _quality_title(view: View) -> str:
    return f"next item, predicted before it was learned ({view.outcomes:,})" if view.outcomes else "next item"


def _lists(view: View) -> Table:
    table = Table(box=None, pad_edge=False, expand=True, show_header=False)
    table.add_column(ratio=1, no_wrap=True, style="dim")
    table.add_column(ratio=4, no_wrap=True, overflow="ellipsis")
    table.add_column(ratio=8, no_wrap=True, overflow="ellipsis", style="green")
    for shown in list(view.shown)[-SHOWN_LISTS:]:
        table.add_row(shown.user_id, shown.did, "→ " + " · ".join(shown.items))
    for _ in range(SHOWN_LISTS - len(view.shown)):
        table.add_row("", "", "")
    return table


def _addresses(view: View) -> Text:
    return Text(
        "   ".join(f"{name} {address}" for name, address in view.addresses.items()), style="dim", overflow="fold"
    )


def _latency(view: View) -> str:
    known = {name: value for name, value in view.latency_ms.items() if value is not None}
    return " · ".join(f"{name} {value:.0f} ms" for name, value in known.items())


def _grid() -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True, min_width=8)
    table.add_column(no_wrap=True, overflow="ellipsis")
    return table


def _side_by_side(left: Panel, right: Panel) -> Table:
    table = Table.grid(expand=True)
    table.add_column(ratio=1)
    table.add_column(ratio=1)
    table.add_row(left, right)
    return table
