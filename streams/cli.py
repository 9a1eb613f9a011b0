"""The command line: a few lines a command; what it does is imported when it runs, so that --help answers at once.

A HeadraceError becomes one sentence on stderr: exit code 2 for a wrong option or setting, 1 for the rest.
"""

import errno
import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from streams.commands import cli_models as models
from streams.commands.cli_evaluate import evaluate

if TYPE_CHECKING:
    from streams.settings import Settings

app = typer.Typer(
    name="headrace",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="""Streaming recommendations: a shop's events go in on Kafka, each user's history changes, a model on Triton
    scores, recommendations go out, and a learner trains from the same stream.

    **Begin with** `headrace demo`: it starts everything here and replays a real shop.
    Something wrong? `headrace doctor` says what to do.""",
    epilog="Settings are environment variables HEADRACE_… or lines of headrace.toml; `headrace config` lists them.",
)

_ROLES, _EVENTS, _LOOK = "Run it", "Bring events in", "Look into it"

File = Annotated[
    str, typer.Argument(metavar="FILE", help="A jsonl, csv or parquet file, or the word online-retail: a real shop.")
]
ColumnsOption = Annotated[
    str | None,
    typer.Option(
        "--columns", metavar="FIELD=COLUMN,…", help="Which column holds which field; type==purchase is a constant."
    ),
]
TypesOption = Annotated[
    str | None,
    typer.Option(
        "--types",
        metavar="NAME=TYPE,…",
        help="Event names of the file: view_item=view,add_to_cart=cart; scroll= leaves out.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


def main() -> None:
    """Run the command line."""
    from streams.errors import HeadraceError, SettingsError

    try:
        app()
    except HeadraceError as exc:
        sys.exit(_complain(str(exc), 2 if isinstance(exc, SettingsError) else 1))
    except BrokenPipeError:  # whoever read our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except ModuleNotFoundError as exc:
        from streams.extras import sentence

        sys.exit(_complain(sentence(f"`headrace {' '.join(sys.argv[1:2])}`", exc.name or str(exc))))
    except Exception as exc:
        if os.environ.get("HEADRACE_LOG__LEVEL", "").lower() == "debug":
            raise
        if isinstance(exc, OSError) and (exc.filename or exc.errno == errno.ENOSPC):
            wrong = f"{exc.filename or 'The disk'} cannot be used ({exc.strerror})"
            sys.exit(_complain(f"{wrong}; make room, correct its permissions, or set HEADRACE_DATA_DIR elsewhere."))
        sys.exit(_complain(f"A defect in Headrace: {exc!r}; with HEADRACE_LOG__LEVEL=debug it shows where."))


def _print_version(wanted: bool) -> None:  # noqa: FBT001 - typer calls it so
    if wanted:
        from importlib.metadata import version

        typer.echo(version("headrace"))
        raise typer.Exit


@app.callback()
def _options(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Take what stands before a command."""


@app.command(rich_help_panel=_ROLES)
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

    settings = _settings(logs=False)
    code = run_demo(settings, keep=keep, report=report, minutes=minutes, speed=speed, events=events, past=past)
    raise typer.Exit(code)


@app.command(rich_help_panel=_ROLES)
def up() -> None:
    """All four roles here, restarted when they die, until Ctrl-C.

    Ports that are taken are replaced by free ones; the addresses are printed. An external Kafka is used when
    HEADRACE_BROKER names one.
    """
    from streams.local.up import run_up

    raise typer.Exit(run_up(_settings()))


@app.command(rich_help_panel=_ROLES)
def broker() -> None:
    """A local Apache Kafka on HEADRACE_BROKER's port, its data under HEADRACE_DATA_DIR."""
    from streams.local.local_servers import run_local_broker

    run_local_broker(_settings())


@app.command(rich_help_panel=_ROLES)
def triton() -> None:
    """A local Triton Inference Server on HEADRACE_TRITON__URL's port, with the models under HEADRACE_DATA_DIR."""
    from streams.local.local_servers import run_local_triton

    run_local_triton(_settings())


@app.command(rich_help_panel=_ROLES)
def worker() -> None:
    """A worker: folds events into histories, asks Triton, sends recommendations, serves HTTP.

    A second one shares the load: `HEADRACE_WORKER_ID=worker-2 HEADRACE_HTTP__PORT=8081 headrace worker`
    """
    from streams.worker import run_worker

    raise typer.Exit(run_worker(_settings()))


@app.command(rich_help_panel=_ROLES)
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

    settings = _settings()
    if backfill:
        from streams.files.columns import Columns
        from streams.files.event_files import open_events

        path, mapping = open_events(backfill, Columns.parse(columns, types))
        role.backfill(settings, path, mapping, until_line=until_line)
    raise typer.Exit(role.run_learner(settings))


@app.command(rich_help_panel=_EVENTS)
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
        _settings(), file, topic=topic, columns=columns, types=types, speed=speed, since=since, until=until,
        resume=resume, as_history=as_history,
    )  # fmt: skip
    raise typer.Exit(code)


@app.command(rich_help_panel=_EVENTS)
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
    raise typer.Exit(show_findings(path, mapping, _settings().state, limit))


@app.command(rich_help_panel=_LOOK)
def recommend(
    user: Annotated[str, typer.Argument(metavar="USER", help="A user id.")],
    *,
    k: Annotated[int, typer.Option("-k", min=1, max=100, help="How many items.")] = 10,
    as_json: Json = False,
) -> None:
    """What a user would be recommended now, by name.

    **Example:** `headrace recommend 17850`
    """
    from streams.commands.ask import show_recommendations

    show_recommendations(_settings(), user, k, as_json=as_json)


@app.command(rich_help_panel=_LOOK)
def history(user: Annotated[str, typer.Argument(metavar="USER", help="A user id.")], *, as_json: Json = False) -> None:
    """What is remembered of a user, oldest first."""
    from streams.commands.ask import show_history

    show_history(_settings(), user, as_json=as_json)


@app.command(rich_help_panel=_LOOK)
def topics(*, check: Annotated[bool, typer.Option("--check", help="Create nothing.")] = False) -> None:
    """Create the topics that are missing and check the others: partitions, retention, compaction."""
    from streams.commands.show import show_topics

    raise typer.Exit(show_topics(_settings(), create=not check))


@app.command(rich_help_panel=_LOOK)
def reset(
    *,
    tables: Annotated[bool, typer.Option("--tables", help="The tables of the workers on this machine.")] = False,
    state: Annotated[bool, typer.Option("--state", help="The states of all users: their histories.")] = False,
    model: Annotated[bool, typer.Option("--model", help="What was learned and published.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Give up what was made of topics that are no more, so that it is made anew of those that there are.

    A role that finds such topics names the option. It says what it will do and asks; stop the roles before.

    **Examples:** `headrace reset --tables` · `headrace reset --state --model --yes`
    """
    from streams.commands.reset import reset as run_reset

    raise typer.Exit(run_reset(_settings(), tables=tables, state=state, model=model, yes=yes))


@app.command(rich_help_panel=_LOOK)
def doctor() -> None:
    """Check this machine and what runs on it; say what to do about each problem."""
    from streams.commands.doctor import show_checks

    raise typer.Exit(show_checks(_settings()))


@app.command(rich_help_panel=_LOOK)
def config(*, as_json: Json = False) -> None:
    """Print the settings in force, secrets masked; those that were changed are marked."""
    from streams.commands.show import show_settings

    show_settings(_settings(), as_json=as_json)


app.add_typer(models.app, name="models", rich_help_panel=_LOOK)
app.command(rich_help_panel=_LOOK)(evaluate)


def _settings(*, logs: bool = True) -> "Settings":
    from streams.settings import load_settings

    settings = load_settings()
    if logs:
        from streams.logs import configure_logs

        configure_logs(settings.log)
    return settings


def _complain(sentence: str, code: int = 1) -> int:
    typer.echo(f"headrace: {sentence}", err=True)
    return code
