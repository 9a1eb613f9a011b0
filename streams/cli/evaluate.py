"""headrace evaluate: a data set and a protocol in, a report of the model beside its baselines out."""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer


def evaluate(
    data: Annotated[
        str,
        typer.Option(
            help="A sequence file (`user item item …`, .txt, .txt.gz), a folder of periods (`session item`), a csv, "
            "jsonl or parquet file, or online-retail.",
        ),
    ],
    protocol: Annotated[str, typer.Option(help="leave-one-out, continual, time-split or stream.")] = "leave-one-out",
    report: Annotated[Path | None, typer.Option(help="Where the JSON report goes; a markdown table beside it.")] = None,
    preset: Annotated[str, typer.Option(help="quick (some 2 CPU minutes) or default.")] = "default",
    method: Annotated[
        str,
        typer.Option(
            help="How a continual run takes in a period, parts by `+`: finetune, rows, top, lora, adalora or adapter; "
            "replay, reservoir or herding; distillation, ewc, dropout."
        ),
    ] = "finetune+replay",
    models: Annotated[str, typer.Option(help="Models to compare, by comma; all without it.")] = "",
    columns: Annotated[
        str,
        typer.Option(metavar="FIELD=COLUMN,…", help="Which column of a table holds which field, as in `validate`."),
    ] = "",
    types: Annotated[
        str, typer.Option(metavar="NAME=TYPE,…", help="Which event name is which type; scroll= leaves its rows out.")
    ] = "",
    exclude: Annotated[str, typer.Option(metavar="COLUMN=PREFIX,…", help="Lines of a table to leave out.")] = "",
    filter_seen: Annotated[
        bool | None,
        typer.Option(
            "--filter-seen/--rank-seen", help="Leave items of the history out; the protocol's custom without it."
        ),
    ] = None,
    text: Annotated[str, typer.Option(help="What makes vectors of a table's titles: hash, or none.")] = "hash",
    catalogue: Annotated[
        str,
        typer.Option(help="stream: an item can be proposed once it was `seen`, or all, `announced` before it begins."),
    ] = "seen",
    limit: Annotated[int | None, typer.Option(min=1, help="Interactions to read at most.")] = None,
    max_cases: Annotated[int, typer.Option(min=0, help="Test cases a fold at most, drawn at random.")] = 0,
    max_folds: Annotated[int, typer.Option(min=0, help="Only the first folds.")] = 0,
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
    device: Annotated[str, typer.Option(help="cpu, cuda, or auto: the GPU where there is one.")] = "auto",
) -> None:
    """Measure the model on a data set, beside popularity, item-kNN, session-kNN and sequential rules."""
    import torch  # a second to import: not for --help

    from engine.evaluation import evaluate as engine_evaluate
    from engine.evaluation.interactions import DataError
    from engine.evaluation.sequence_ranker import PRESETS, with_method
    from engine.memory import keep_freed_memory
    from engine.text import ENCODERS
    from streams.files.columns import Columns
    from streams.files.data_sets import read
    from streams.records import TYPE_CODES

    if preset not in PRESETS:
        raise typer.BadParameter(f"{preset} is none of {', '.join(PRESETS)}", param_hint="--preset")
    if protocol not in engine_evaluate.PROTOCOLS:
        raise typer.BadParameter(
            f"{protocol} is none of {', '.join(engine_evaluate.PROTOCOLS)}", param_hint="--protocol"
        )
    if text not in ENCODERS:
        raise typer.BadParameter(f"{text} is none of {', '.join(ENCODERS)}", param_hint="--text")
    if catalogue not in engine_evaluate.CATALOGUES:
        raise typer.BadParameter(
            f"{catalogue} is none of {', '.join(engine_evaluate.CATALOGUES)}", param_hint="--catalogue"
        )
    try:
        chosen = with_method(PRESETS[preset], method)
    except ValueError as exc:
        raise typer.BadParameter(str(exc), param_hint="--method") from exc
    torch.set_num_threads(1)
    keep_freed_memory()
    wanted = tuple(models.split(",")) if models else engine_evaluate.Settings().models
    if unknown := set(wanted) - set(engine_evaluate.Settings().models):
        raise typer.BadParameter(f"no model {', '.join(sorted(unknown))}", param_hint="--models")
    if report:  # which is written after minutes
        report.parent.mkdir(parents=True, exist_ok=True)
        report.touch()
    try:
        read_in = read(data, Columns.parse(columns, types), limit, TYPE_CODES, tuple(_pairs(exclude).items()))
        result = engine_evaluate.run(
            read_in,
            engine_evaluate.Settings(
                protocol=protocol,
                preset=preset,
                models=wanted,
                filter_seen=filter_seen,
                max_cases=max_cases,
                max_folds=max_folds,
                text=text,
                catalogue=catalogue,
                seed=seed,
                device=("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device,
            ),
            chosen,
            time.process_time,
            lambda so_far: _write(report, so_far, engine_evaluate.markdown(so_far)),
        )
    except DataError as exc:
        raise typer.BadParameter(str(exc), param_hint="--data") from exc
    table = engine_evaluate.markdown(result)
    _write(report, result, table)
    typer.echo(table)


def _write(report: Path | None, result: Mapping[str, Any], table: str) -> None:
    if report:
        report.parent.mkdir(parents=True, exist_ok=True)
        report.write_text(json.dumps(result, indent=1) + "\n")
        report.with_suffix(".md").write_text(table + "\n")


def _pairs(text: str) -> dict[str, str]:
    """The parts of `a=b,c=d`."""
    pairs = [part.partition("=") for part in text.split(",") if part]
    if wrong := [key for key, sign, value in pairs if not (key and sign and value)]:
        raise typer.BadParameter(f"{wrong[0]} has no NAME=VALUE form")
    return {key: value for key, _, value in pairs}
