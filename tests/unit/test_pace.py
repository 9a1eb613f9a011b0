"""An event is due by its number or by its event time, and a speed that cannot be read is refused."""

import pytest

from streams.errors import SettingsError
from streams.files.pace import Pace


@pytest.mark.parametrize(
    ("speed", "due"), [("max", 0.0), ("200/s", 0.05), ("1x", 60.0), ("100x", 0.6), ("0.5x", 120.0)]
)
def test_the_eleventh_event_a_minute_after_the_first_is_due(speed: str, due: float) -> None:
    assert Pace.parse(speed).due_seconds(10, 60_000) == pytest.approx(due)


@pytest.mark.parametrize("speed", ["", "fast", "x", "0x", "-1x", "10", "10/m"])
def test_another_speed_is_refused(speed: str) -> None:
    with pytest.raises(SettingsError, match="is no speed"):
        Pace.parse(speed)
