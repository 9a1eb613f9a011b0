"""The command line: a few lines a command; what it does is imported when it runs, so that --help answers at once.

A HeadraceError becomes one sentence on stderr: exit code 2 for a wrong option or setting, 1 for the rest.
"""

import errno
import os
import sys
from typing import Annotated

import typer

from streams.cli import events, look, models, roles
from streams.cli.evaluate import evaluate

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

_PANELS = {
    "Run it": (roles.demo, roles.up, roles.broker, roles.triton, roles.worker, roles.learner),
    "Bring events in": (events.replay, events.validate),
    "Look into it": (look.recommend, look.history, look.topics, look.reset, look.doctor, look.config),
}


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


for _panel, _commands in _PANELS.items():
    for _command in _commands:
        app.command(rich_help_panel=_panel)(_command)
app.add_typer(models.app, name="models", rich_help_panel="Look into it")
app.command(rich_help_panel="Look into it")(evaluate)


def _complain(sentence: str, code: int = 1) -> int:
    typer.echo(f"headrace: {sentence}", err=True)
    return code
