"""`headrace models`: which versions there are, which serves and why; and to have it another way."""

import getpass
import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Final

import typer

from streams.cli.options import load
from streams.errors import StartError

if TYPE_CHECKING:
    from streams.learning.models_admin import Action

app = typer.Typer(
    help="Which model versions there are and which serves. What you ask for, the learner carries out.",
)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return f"user {os.getuid()}"


By = Annotated[str, typer.Option("--by", help="Who asks; it is written down.", default_factory=_user)]
Version = Annotated[int, typer.Argument(metavar="VERSION", help="A number that `headrace models` lists.")]


_STAGES: Final = {
    "serving": "and what was learned since",
    "shadow": "what is learned waits for the gate",
    "canary": "what is learned serves a share",
    "pinned": "pinned",
}


@app.callback(invoke_without_command=True)
def versions(context: typer.Context) -> None:
    """List the versions on disk, and what serves."""
    if context.invoked_subcommand:
        return
    from rich.console import Console
    from rich.table import Table

    from streams.learning import models_admin

    settings = load()
    table = Table("version", "generation", "NDCG@10 when written", "", box=None, header_style="bold")
    try:
        current, note = models_admin.current(settings), ""
    except StartError as exc:
        current, note = None, f"Which one serves is not known: {exc}"
    for found in models_admin.versions(settings):
        quality = found.quality.get("model", {}).get("ndcg@10")
        serves = f"serves, {_STAGES[current.stage]}" if current and current.version == found.version else ""
        table.add_row(str(found.version), str(found.generation), "" if quality is None else f"{quality:.4f}", serves)
    console = Console(highlight=False, soft_wrap=True)
    console.print(table if table.rows else "There is no version yet; the first one is made by `headrace up`.")
    if note:
        console.print(note)


@app.command()
def log() -> None:
    """Print every decision with its figures, oldest first."""
    from rich.console import Console
    from rich.markup import escape

    from streams.learning import models_admin

    console = Console(highlight=False, soft_wrap=True)
    records = models_admin.log(load())
    if not records:
        console.print("No decision yet.")
    for record in records:
        when = datetime.fromtimestamp(record.at / 1000, UTC)
        console.print(
            f"{when:%Y-%m-%d %H:%M:%S}  [bold]{record.action} {record.stage}[/bold] by {escape(record.by)}: "
            f"version {record.version}, generation {record.generation}, share {record.share:g}"
        )
        if record.why:
            console.print(escape(f"{'':21}{record.why}"), style="dim")
        if record.outcomes:
            console.print(
                f"{'':21}NDCG@10 against {record.against} {record.mean:+.4f}, between {record.low:+.4f} and "
                f"{record.high:+.4f}, over {record.outcomes:,} outcomes",
                style="dim",
            )


@app.command()
def pin(version: Version, by: By) -> None:
    """Serve this version and no other until the pin is taken back by promote or rollback."""
    _ask("pin", by, version)


@app.command()
def promote(by: By) -> None:
    """Serve what is being learned, whatever the gate thinks."""
    _ask("promote", by)


@app.command()
def rollback(
    by: By,
    version: Annotated[int | None, typer.Argument(metavar="VERSION", help="Default: the last good one.")] = None,
) -> None:
    """Go back to a version."""
    _ask("rollback", by, version)


@app.command()
def freeze(by: By) -> None:
    """Let the gate decide nothing until unfreeze."""
    _ask("freeze", by)


@app.command()
def unfreeze(by: By) -> None:
    """Let the gate decide again."""
    _ask("unfreeze", by)


def _ask(action: "Action", by: str, version: int | None = None) -> None:
    from streams.learning import models_admin

    models_admin.command(load(), action, by=by.strip() or _user(), version=version)
    typer.echo(f"Asked for {action}; `headrace models log` shows when the learner has done it.")
