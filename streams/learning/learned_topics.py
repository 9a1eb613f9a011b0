"""topics -> whether a checkpoint is of them: the model's rows are ranks in `rows`, its positions offsets of the others.

With other rows the model means other items, and nothing may be learned on or shown. With another `examples` or
`interactions` it is the model that it was, and only begins to read where they begin.
"""

import shutil
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from typing import Final

import structlog

from streams.errors import StartError
from streams.kafka.anew import make_weights_anew
from streams.kafka.identity import OtherTopicError, changed, identities, topic_ids
from streams.kafka.origins import parted
from streams.kafka.topic_guard import other_rows
from streams.settings import Settings

log = structlog.get_logger()

_MODEL: Final = ("rows",)
_POSITIONS: Final = ("examples", "interactions")


class LearnedTopics:
    """Which topics the learner learns from.

    Raises:
        StartError: what is published was learned of other rows, or Kafka does not answer.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._anew = settings.kafka.on_new_topics == "anew"
        if weights := parted(settings, "weights"):
            why = other_rows(settings, weights)
            if not self._anew:
                raise OtherTopicError(why)
            log.warning("weights-made-anew", why=why)
            make_weights_anew(settings)
        self.ids = self._now()
        """To be remembered in each checkpoint."""

    def have_the_rows(self, learned: Mapping[str, str], checkpoint: Path) -> bool:
        """Return whether a checkpoint's model is of these rows; otherwise it was moved away, to begin anew.

        Args:
            learned: the ids that it holds; none of a release that remembered none.
            checkpoint: its file.

        Raises:
            OtherTopicError: it is not, and nobody said that it may be given up.
        """
        if not changed(_of(learned, _MODEL), self.ids):
            return True
        rows = self._settings.topics.rows
        why = (
            f"The checkpoint {checkpoint} was learned of another {rows} than this one: it was made anew, or this is "
            "another Kafka, and each row of the model would be another item. Run `headrace reset --model` to begin "
            "anew, or set HEADRACE_BROKER back; HEADRACE_KAFKA__ON_NEW_TOPICS=anew does so by itself."
        )
        if not self._anew:
            raise OtherTopicError(why)
        log.warning("checkpoint-moved-away", why=why, to=str(set_aside(self._settings)))
        return False

    def have_the_positions(self, learned: Mapping[str, str]) -> bool:
        """Return whether a checkpoint's positions are places in these topics."""
        if not (new := changed(_of(learned, _POSITIONS), self.ids)):
            return True
        log.warning("positions-begin-anew", topics=new, why="They were made anew; what was learned is kept.")
        return False

    def refuse_change(self) -> None:
        """Make sure that the topics are still those of the start.

        Raises:
            OtherTopicError: one was made anew meanwhile. One that a broker does not know of is not: it may be starting.
        """
        try:
            now = self._now()
        except StartError:
            return  # a Kafka that is away is noticed by whoever reads
        if new := changed({name: topic_id for name, topic_id in self.ids.items() if name in now}, now):
            named = " and ".join(map(self._settings.topics.named, new))
            raise OtherTopicError(f"{named} was made anew while the learner ran; it ends, and says more at its start.")

    def _now(self) -> dict[str, str]:
        return topic_ids(identities(self._settings, (*_MODEL, *_POSITIONS)))


def set_aside(settings: Settings) -> Path | None:
    """Move the checkpoint, with its parts, and the versions into a folder; return that, None when there was nothing.

    A Triton that runs on these versions is to be started again: it would go on with rows of other items.
    """
    learner = settings.data_dir / "learner"
    paths = [*learner.glob("checkpoint*"), *settings.models_dir.glob("*")]
    if not paths:
        return None
    folder = next(f for n in count(1) if not (f := learner / f"before-{n}").exists())
    folder.mkdir()
    for path in paths:
        shutil.move(path, folder / path.name)  # the versions may be on another disk
    return folder


def _of(ids: Mapping[str, str], names: tuple[str, ...]) -> dict[str, str]:
    return {name: ids[name] for name in names if name in ids}
