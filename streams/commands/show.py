"""What is asked of Headrace itself -> the terminal: settings, topics and what a worker would say to a file."""

import itertools
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from streams.files.cells import MILLISECONDS
from streams.files.columns import Columns, ga4_hint
from streams.files.event_files import EventFile
from streams.files.validate import Counts, validate
from streams.kafka.topic_check import risks
from streams.kafka.topic_setup import ensure_topics
from streams.settings import PREFIX, Settings, StateSettings, describe

_ANSWER_SECONDS = 5.0


def show_settings(settings: Settings, *, as_json: bool) -> None:
    """Print the settings in force as environment variables, the changed ones marked."""
    plain = describe(settings)
    if as_json:
        print(json.dumps(plain, indent=2))  # noqa: T201 - for programs
        return
    folder = Path(Settings.model_fields["data_dir"].default).absolute()
    defaults = dict(_flat(describe(Settings.model_construct(data_dir=folder))))
    console = Console(highlight=False, soft_wrap=True)
    for name, value in _flat(plain):
        line = escape(f"{name}={value}")
        console.print(line if defaults.get(name) == value else f"[bold]{line}[/bold]  [dim]# changed[/dim]")


def show_topics(settings: Settings, *, create: bool) -> int:
    """Create and check the topics; return 1 when one is not as Headrace needs it."""
    table = Table("topic", "partitions", "kept", "state", box=None, header_style="bold")
    states = ensure_topics(settings, create=create, timeout_seconds=_ANSWER_SECONDS)
    for state in states:
        kept = "compacted" if state.cleanup_policy == "compact" else _days(state.retention)
        found = f"[red]{escape(state.problem)}[/red]" if state.problem else "created" if state.created else "ok"
        table.add_row(state.name, str(state.partitions), kept, found)
    console = Console()
    console.print(table)
    for risk in risks(states):
        console.print(f"[yellow]{escape(risk)}[/yellow]", soft_wrap=True)
    return int(any(state.problem for state in states))


def show_findings(path: Path, columns: Columns, settings: StateSettings, limit: int) -> int:
    """Print the lines that would be rejected or hold something odd, and the counts; return 1 when any is rejected."""
    console = Console(highlight=False, soft_wrap=True)
    file, counts = EventFile(path, columns), Counts()
    findings = validate(file, settings, counts)
    for found in itertools.islice(findings, limit):
        console.print(escape(f"{path.name}:{found.line}: {found.reason}: {found.detail}"))
    more = sum(1 for _ in findings)
    if more:
        console.print(f"… and {more:,} more")
    accepted = ", ".join(f"{count:,} {name}" for name, count in counts.types.most_common())
    console.print(
        f"{counts.rows:,} rows: {counts.rows - counts.rejected:,} would be accepted ({accepted or 'none'}; "
        f"{len(counts.users):,} users, {len(counts.items):,} items), {counts.rejected:,} rejected"
    )
    for reason, count in counts.reasons.most_common():
        console.print(f"  {count:>10,}  {reason}")
    if counts.notes:
        console.print(f"  {counts.notes:>10,}  accepted, though something in them is odd")
    for reason, count in file.left_out.items():
        console.print(escape(f"  {count:>10,}  left out: {reason}"))
    for sentence in filter(None, (_units(counts), file.layout.sentence, ga4_hint(counts.unknown_types))):
        console.print(escape(sentence))
    return int(counts.rejected > 0)


def _units(counts: Counts) -> str:
    """What the times count in, where that is not milliseconds throughout."""
    units = [f"{count:,} in {unit}" for unit, count in counts.units.most_common()]
    if not units or list(counts.units) == [MILLISECONDS]:
        return ""
    mixed = "The times are of several kinds, each taken by its size: " if len(units) > 1 else "Times: "
    return f"{mixed}{', '.join(units)}."


def _flat(values: Mapping[str, Any], prefix: str = PREFIX) -> Iterator[tuple[str, str]]:
    for name, value in values.items():
        if isinstance(value, Mapping) and value and name != "tokens":
            yield from _flat(value, f"{prefix}{name.upper()}__")
        else:
            shown = json.dumps(value) if isinstance(value, Mapping | list) else "" if value is None else str(value)
            yield f"{prefix}{name.upper()}", shown


def _days(retention_ms: str) -> str:
    if not retention_ms.isdigit():
        return "for ever" if retention_ms == "-1" else ""
    return f"{int(retention_ms) / 86_400_000:g} days"
