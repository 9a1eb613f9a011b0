"""The commands that look into what runs, and put it right."""

from typing import Annotated

import typer

from streams.cli.options import Json, load


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

    show_recommendations(load(), user, k, as_json=as_json)


def history(user: Annotated[str, typer.Argument(metavar="USER", help="A user id.")], *, as_json: Json = False) -> None:
    """What is remembered of a user, oldest first."""
    from streams.commands.ask import show_history

    show_history(load(), user, as_json=as_json)


def topics(*, check: Annotated[bool, typer.Option("--check", help="Create nothing.")] = False) -> None:
    """Create the topics that are missing and check the others: partitions, retention, compaction."""
    from streams.commands.show import show_topics

    raise typer.Exit(show_topics(load(), create=not check))


def reset(
    *,
    tables: Annotated[bool, typer.Option("--tables", help="The tables of the workers on this machine.")] = False,
    state: Annotated[bool, typer.Option("--state", help="The states of all users: their histories.")] = False,
    model: Annotated[bool, typer.Option("--model", help="What was learned and published.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Give up what was made from topics that no longer exist; the next start makes it anew from those that do.

    A role that finds such topics names the option. It says what it will do and asks; stop the roles before.

    **Examples:** `headrace reset --tables` · `headrace reset --state --model --yes`
    """
    from streams.commands.reset import reset as run_reset

    raise typer.Exit(run_reset(load(), tables=tables, state=state, model=model, yes=yes))


def doctor() -> None:
    """Check this machine and what runs on it; say what to do about each problem."""
    from streams.commands.doctor import show_checks

    raise typer.Exit(show_checks(load()))


def config(*, as_json: Json = False) -> None:
    """Print the settings in force, secrets masked; those that were changed are marked."""
    from streams.commands.show import show_settings

    show_settings(load(), as_json=as_json)
