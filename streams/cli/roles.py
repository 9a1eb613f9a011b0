"""The commands that run a role, or all of them."""

from typing import Annotated

import typer

from streams.cli.options import ColumnsOption, TypesOption, load


def demo(
    *,
    keep: Annotated[bool, typer.Option("--keep", help="Stay up after the stream, until Ctrl-C.")] = False,
    report: Annotated[str | None, typer.Option(metavar="FILE", help="Write what the run measured as JSON.")] = None,
    minutes: Annotated[float, typer.Option(min=0.1, help="How long to stream.")] = 2.0,
    speed: Annotated[str, typer.Option(help="200/s, 1x, 100x or max.")] = "200/s",
    events: Annotated[int | None, typer.Option(min=1, help="Stop after so many events.")] = None,
    past: Annotated[int, typer.Option(min=1, help="Lines of the shop's file to learn before.")] = 50_000,
) -> None:
    """The whole loop on this machine, live: Kafka, Triton, a worker, a learner, and a real shop's stream.

    Ends by itself; Ctrl-C ends it at once and leaves nothing behind.

    **Examples:** `headrace demo` · `headrace demo --keep` · `headrace demo --report report.json --minutes 1`
    """
    from streams.demo.demo import run_demo

    settings = load(logs=False)
    code = run_demo(settings, keep=keep, report=report, minutes=minutes, speed=speed, events=events, past=past)
    raise typer.Exit(code)


def up() -> None:
    """All four roles here, restarted when they die, until Ctrl-C.

    Ports that are taken are replaced by free ones; the addresses are printed. An external Kafka is used when
    HEADRACE_BROKER names one.
    """
    from streams.local.up import run_up

    raise typer.Exit(run_up(load()))


def broker() -> None:
    """A local Apache Kafka on HEADRACE_BROKER's port, its data under HEADRACE_DATA_DIR."""
    from streams.local.local_servers import run_local_broker

    run_local_broker(load())


def triton() -> None:
    """A local Triton Inference Server on HEADRACE_TRITON__URL's port, with the models under HEADRACE_DATA_DIR."""
    from streams.local.local_servers import run_local_triton

    run_local_triton(load())


def worker() -> None:
    """A worker: folds events into histories, asks Triton, sends recommendations, serves HTTP.

    A second one shares the load: `HEADRACE_WORKER_ID=worker-2 HEADRACE_HTTP__PORT=8081 headrace worker`
    """
    from streams.worker import run_worker

    raise typer.Exit(run_worker(load()))


def learner(
    *,
    backfill: Annotated[
        str | None, typer.Option(metavar="FILE", help="Learn from a file first; online-retail is one.")
    ] = None,
    columns: ColumnsOption = None,
    types: TypesOption = None,
    until_line: Annotated[int | None, typer.Option(help="Of that file, learn no further than this line.")] = None,
) -> None:
    """The learner: predicts, scores and learns each example, and publishes what it learned about every second.

    **Examples:** `headrace learner` · `headrace learner --backfill past.csv --columns user_id=customer,type==purchase`
    """
    from streams import learner as role

    settings = load()
    if backfill:
        from streams.files.columns import Columns
        from streams.files.event_files import open_events

        path, mapping = open_events(backfill, Columns.parse(columns, types))
        role.backfill(settings, path, mapping, until_line=until_line)
    raise typer.Exit(role.run_learner(settings))
