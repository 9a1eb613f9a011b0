"""what was made of topics that are no more -> given up, after a question, so that the next start makes it anew."""

import os
from collections.abc import Callable
from pathlib import Path

import typer

from streams.errors import StartError
from streams.folder_lock import take_lock
from streams.kafka.anew import clear_tables, make_states_anew, make_weights_anew
from streams.learning.learned_topics import set_aside
from streams.settings import Settings


def reset(settings: Settings, *, tables: bool, state: bool, model: bool, yes: bool) -> int:
    """Give up what is named, once the operator agrees; return 1 when not.

    Args:
        settings: all of them.
        tables: of the workers on this machine, which are copies of the changelog.
        state: the states of all users, in the changelog too.
        model: what was learned and published.
        yes: whether not to ask.

    Raises:
        StartError: a role runs that uses it, or Kafka does not answer or refuses.
    """
    topics = settings.topics
    steps: list[tuple[str, Callable[[Settings], None]]] = []
    if tables or state:
        folders = ", ".join(map(str, _workers(settings))) or "none"
        steps.append((f"delete the tables of the workers here, copies of the changelog ({folders})", _clear_tables))
    if state:
        told = f"make {topics.changelog} anew: all histories are forgotten"
        told += f"; workers then read {topics.interactions} from its beginning and answer what is there again"
        steps.append((told, make_states_anew))
    if model:
        told = f"make {topics.weights} anew and move the learner's checkpoint and versions aside: learning begins anew"
        steps.append((told, _forget_model))
    if not steps:
        raise StartError("Say what is to be made anew: --tables, --state or --model.")
    typer.echo("This will\n" + "\n".join(f"  - {told}" for told, _ in steps), err=True)
    if not yes and not typer.confirm("Go on?", err=True):
        return 1
    for _, step in steps:
        step(settings)
    typer.echo("Done; start the roles.", err=True)
    return 0


def _workers(settings: Settings) -> list[Path]:
    return sorted(path.parent for path in settings.data_dir.glob("*/worker.lock"))


def _clear_tables(settings: Settings) -> None:
    for folder in _workers(settings):
        lock = take_lock(folder / "worker.lock")
        if lock is None:
            raise StartError(f"A worker is running on {folder}; stop it first.")
        clear_tables(folder)
        os.close(lock)


def _forget_model(settings: Settings) -> None:
    folder = settings.data_dir / "learner"
    lock = take_lock(folder / "learner.lock")
    if lock is None:
        raise StartError(f"The learner is running on {folder}; stop it first.")
    make_weights_anew(settings)
    set_aside(settings)
    os.close(lock)
