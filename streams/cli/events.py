"""The commands that bring events in."""

from typing import Annotated

import typer

from streams.cli.options import ColumnsOption, File, TypesOption, load


def replay(
    file: Annotated[str | None, typer.Argument(metavar="FILE", help="jsonl, csv or parquet, or online-retail.")] = None,
    *,
    topic: Annotated[
        str | None, typer.Option(metavar="NAME", help="Replay a topic, by its full name, instead of a file.")
    ] = None,
    columns: ColumnsOption = None,
    types: TypesOption = None,
    speed: Annotated[str, typer.Option(help="1x as it happened, 100x, 200/s or max.")] = "max",
    since: Annotated[
        str | None,
        typer.Option(
            "--from", metavar="TIME", help="Begin with this event time (RFC 3339 or ms); of a topic, Kafka's."
        ),
    ] = None,
    until: Annotated[str | None, typer.Option(metavar="TIME", help="End before this time.")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on where an interrupted replay of this file ended.")
    ] = False,
    as_history: Annotated[
        bool, typer.Option("--as-history", help="The past: keep it in histories, do not answer it.")
    ] = False,
) -> None:
    """Put the events of a file, or of a topic, onto `interactions`, and items nobody has described onto `items`.

    What a worker would reject is not sent, and the exit code is 1. A row without an id of its own gets one by the
    file's content, so the same content sent again is known again, under whatever name.

    **Examples:** `headrace replay online-retail --speed 100x` ·
    `headrace replay sales.csv.gz --columns user_id=customer,item_id=sku,timestamp=at,type==purchase` ·
    `headrace replay --topic headrace.interactions --from 2026-11-25T10:00:00Z`
    """
    from streams.commands.replay_command import run_replay

    code = run_replay(
        load(), file, topic=topic, columns=columns, types=types, speed=speed, since=since, until=until,
        resume=resume, as_history=as_history,
    )  # fmt: skip
    raise typer.Exit(code)


def validate(
    file: File,
    *,
    columns: ColumnsOption = None,
    types: TypesOption = None,
    limit: Annotated[int, typer.Option(min=0, help="Print at most so many lines; all are counted.")] = 20,
) -> None:
    """Say line by line what a worker would reject, what is odd, and why. Exit code 1 when something is rejected.

    **Example:** `headrace validate events.jsonl`
    """
    from streams.commands.show import show_findings
    from streams.files.columns import Columns
    from streams.files.event_files import open_events

    path, mapping = open_events(file, Columns.parse(columns, types))
    raise typer.Exit(show_findings(path, mapping, load().state, limit))
