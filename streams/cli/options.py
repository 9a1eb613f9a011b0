"""What several commands take, and the settings that all of them read."""

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from streams.settings import Settings

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


def load(*, logs: bool = True) -> "Settings":
    """Return the settings in force, and write logs as they say.

    Raises:
        SettingsError: one of them is wrong.
    """
    from streams.settings import load_settings

    settings = load_settings()
    if logs:
        from streams.logs import configure_logs

        configure_logs(settings.log)
    return settings
