"""What can go wrong on the stream side, by what the caller can do about it.

HeadraceError
├── RejectedEventError       dead-letter it: the event is broken, the next one may be fine
├── BrokenStateError         set it aside: the user starts afresh
├── NewerStateError          stop: a newer worker wrote the state, an older one must not touch it
├── ScorerUnavailableError   fall back: this list comes from a lower rung
├── NotReadyError            try again: partitions are moving
├── PositionError            correct the request: the position is not of that user's partition
└── StartError               stop: an operator must act
    └── SettingsError        stop: a setting is wrong
"""

MAX_DETAIL = 300


class HeadraceError(Exception):
    """Any failure that Headrace itself reports: one sentence with what, which, and what to do."""


class RejectedEventError(HeadraceError):
    """An event cannot be accepted."""

    def __init__(self, reason: str, detail: str, field: str | None = None) -> None:
        if len(detail) > MAX_DETAIL:  # it may quote what was sent, and goes into logs and headers
            detail = f"{detail[: MAX_DETAIL - 1]}…"
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        """One of records.REASONS: a bounded label."""
        self.detail = detail
        self.field = field
        """The offending field, when one can be named."""


class BrokenStateError(HeadraceError):
    """A state's bytes cannot be read."""


class NewerStateError(HeadraceError):
    """A state is of a version that this worker does not know."""


class ScorerUnavailableError(HeadraceError):
    """The model server is dead, late or answers with an error."""

    def __init__(self, message: str, *, gone: bool = False) -> None:
        super().__init__(message)
        self.gone = gone
        """Nothing is there that could answer anybody."""


class NotReadyError(HeadraceError):
    """The worker cannot answer yet."""


class PositionError(HeadraceError):
    """A reader asked to wait for a position that its user's state will never reach."""


class StartError(HeadraceError):
    """A role cannot start or go on: its message is what the operator reads."""


class SettingsError(StartError):
    """A setting is unknown, malformed or contradicts another."""
