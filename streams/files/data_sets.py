"""a data set -> interactions of the engine: a table of events, a sequence file, or a folder of periods.

Tables are read by the rules of every other command; what a row lacks is counted and told.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from engine.evaluation.interactions import Events, Interactions
from streams.errors import StartError
from streams.files.columns import PAIR, Columns, usual_column
from streams.files.csv_rows import cells_of, separator_of
from streams.files.event_files import EventFile, FileRow, open_events
from streams.files.lines import Lines

_TOLD: Final = 5
_SEQUENCES: Final = (".txt", ".txt.gz")


def read(
    data: str | Path,
    columns: Columns | None = None,
    limit: int | None = None,
    types: Mapping[str, int] | None = None,
    exclude: Sequence[tuple[str, str]] = (),
) -> Interactions:
    """Read a data set in whichever of its three shapes it is.

    Args:
        data: `.txt` or `.txt.gz` with lines `user item item …`; a folder of such files with lines `session item`, one
            file a period, sorted by name; else a table of events, see open_events.
        columns: Mapping of a table.
        limit: Interactions to read at most, after those left out.
        types: Code of each interaction type; other types are 0.
        exclude: Column and prefix: rows of a table whose value begins so are left out, such as ("InvoiceNo", "C").

    Raises:
        StartError: It is none of them, or a column is missing.
    """
    path = Path(data)
    if path.is_dir():
        files = sorted(child for child in path.iterdir() if child.name.lower().endswith(_SEQUENCES))
        if not files:
            raise StartError(f"{path} holds no .txt or .txt.gz file; name a folder of periods.")
        return _sequences(files, limit, ordered=True)
    if path.is_file() and path.name.lower().endswith(_SEQUENCES) and not _is_table(path):
        return _sequences([path], limit, ordered=False)
    return _table(*open_events(str(data), columns), limit, types or {}, exclude)


def _sequences(files: Sequence[Path], limit: int | None, *, ordered: bool) -> Interactions:
    events, left_out = Events(), _LeftOut()
    for period, path in enumerate(files):
        for user, items in _lines_of(path, left_out):
            events.users += [user] * len(items)
            events.items += items
            events.periods += [period] * len(items)
    return events.interactions(ordered=ordered, limit=limit, left_out=left_out.counts, notes=left_out.notes)


def _lines_of(path: Path, left_out: "_LeftOut") -> Iterator[tuple[str, list[str]]]:
    try:
        for line in Lines(path):
            try:
                words = line.value.decode().split()
            except UnicodeDecodeError:
                left_out.add("lines that are not UTF-8", f"{path.name}:{line.number}: it is not UTF-8")
                continue
            if line.number == 1 and _is_header(words):
                left_out.add("headers", f"{path.name}:1: it names columns")
            elif words:
                yield words[0], words[1:]
    except (OSError, EOFError) as exc:
        raise StartError(f"{path} cannot be read: {exc}.") from exc


def _is_table(path: Path) -> bool:
    """Whether the first line names columns, of which there are more than a sequence file has.

    Raises:
        StartError: it does, and blanks separate them.
    """
    try:
        first = next((line.value.decode("utf-8", "replace") for line in Lines(path) if line.value.strip()), "")
    except (OSError, EOFError) as exc:
        raise StartError(f"{path} cannot be read: {exc}.") from exc
    if _is_header(cells_of(first, separator_of(first))):
        return True
    if len(words := first.split()) > len(PAIR) and _is_header(words):
        raise StartError(f"{path} is a table whose columns are separated by blanks; separate them by tabs or commas.")
    return False


def _is_header(words: Sequence[str]) -> bool:
    return len(words) > 1 and all(usual_column(name, words) for name in PAIR)


def _table(
    path: Path, columns: Columns, limit: int | None, types: Mapping[str, int], exclude: Sequence[tuple[str, str]]
) -> Interactions:
    file, events, left_out = EventFile(path, columns, needed=PAIR, exclude=exclude), Events(), _LeftOut()
    timed = "timestamp" in file.layout.column
    taken = [row for row in file if _has_ids(row, left_out)]
    if counted := timed and bool(taken) and all(row.timestamp is None and row.ordinal is not None for row in taken):
        left_out.notes.append(f"{file.layout.column['timestamp']} holds no times, but numbers: taken as an order.")
    for row in taken:
        at = row.ordinal if counted else None if row.timestamp is None else row.timestamp / 1000
        if timed and at is None:
            left_out.add("without a time", _why(row, "it has no time"))
            continue
        events.users.append(str(row.user_id))
        events.items.append(str(row.item_id))
        events.types.append(types.get(row.type or "", 0))
        events.titles.append(row.item.title if row.item else "")
        if at is not None:
            events.times.append(at)
    if not any(events.titles):
        events.titles = []
    counts = Counter({f"rows: {why}": count for why, count in file.left_out.items()}) + left_out.counts
    notes = [sentence for sentence in (file.layout.sentence,) if sentence] + left_out.notes
    return events.interactions(ordered=True, limit=limit, left_out=counts, notes=notes)


def _has_ids(row: FileRow, left_out: "_LeftOut") -> bool:
    if row.user_id is not None and row.item_id is not None:
        return True
    left_out.add("without a user or an item", _why(row, "it has no user or no item"))
    return False


def _why(row: FileRow, otherwise: str) -> str:
    return f"line {row.line}: {row.problem.detail if row.problem else otherwise}"


class _LeftOut:
    """Lines that are not taken: all are counted, the first few told."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.notes: list[str] = []

    def add(self, reason: str, told: str) -> None:
        """Count one."""
        self.counts[reason] += 1
        if self.counts[reason] <= _TOLD:
            self.notes.append(told)
