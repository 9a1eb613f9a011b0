"""How fast a file is replayed: as it happened, faster by a factor, at a set rate, or as fast as it goes."""

import re
from dataclasses import dataclass
from typing import Final, Self

from streams.errors import SettingsError

_FORM: Final = re.compile(r"(?P<number>\d+(?:\.\d+)?)(?P<unit>x|/s)")


@dataclass(frozen=True)
class Pace:
    """When each event is due, in seconds after the first."""

    factor: float | None = None
    """Event time runs this much faster than the clock."""
    per_second: float | None = None
    """Events a second, whatever their event time."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the pace for `1x`, `100x`, `200/s` or `max`.

        Raises:
            SettingsError: it is none of these.
        """
        if text == "max":
            return cls()
        match = _FORM.fullmatch(text)
        if match is None or float(match["number"]) == 0:
            raise SettingsError(f"--speed {text} is no speed; write 1x, 100x, 200/s or max.")
        number = float(match["number"])
        return cls(factor=number) if match["unit"] == "x" else cls(per_second=number)

    def due_seconds(self, count: int, event_ms: int) -> float:
        """Return when the next event is due.

        Args:
            count: events sent before it.
            event_ms: its event time after that of the first event.
        """
        if self.per_second:
            return count / self.per_second
        return event_ms / 1000 / self.factor if self.factor else 0.0
